"""What says which images and classes there are: split lists, classes.txt, task files, file names."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dataset import folder, voc
from dataset.files import read_lines
from tasks import load_task
from tests.fuzz import strategies as draw
from tests.fuzz.harness import emptied, fuzz, outcome
from utils.errors import UserError

PIXEL = draw.chunk(b"IHDR", b"")
lists = draw.encoded(draw.lines(draw.words))
names = st.one_of(st.sampled_from(["1", "a b", "000.v2", "e\u0301", "\u00e9", "a.jpg", "A"]), draw.file_names)


@fuzz(lists)
def test_split_lists(place: Path, content: bytes) -> None:
    path = place / "train.txt"
    path.write_bytes(content)
    read = outcome(lambda: read_lines(path), path, memory=True)
    assert isinstance(read, UserError) or (read and all(line.strip() == line and line for line in read))


@fuzz(
    draw.encoded(draw.lines(st.one_of(st.sampled_from(["0", "1", "2", "255", "background", "# red"]), draw.words))),
    times=120,
)
def test_classes(place: Path, content: bytes) -> None:
    path = place / "classes.txt"
    path.write_bytes(content)
    read = outcome(lambda: folder.class_names(place), path, memory=True)
    if not isinstance(read, UserError):
        assert read[0] == "background" and len(read) > 1 and set(read) <= set(range(255))
        assert len(set(read.values())) == len(read)


plain = st.from_regex(r"[a-zA-Z][a-z]{0,6}( [a-z]{1,4})?", fullmatch=True)


@fuzz(
    st.lists(plain, min_size=1, max_size=6, unique_by=str.lower),
    st.sampled_from(["{name}", "{number} {name}", "{number}: {name}"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_right_classes(place: Path, given: list[str], form: str, end: str, mark: bool, background: bool) -> None:
    """Names as several tools write them are read as they are written."""
    given = [name for name in given if name.lower() != "background"] or ["cow"]
    lines = [form.format(number=number, name=name) for number, name in enumerate(given, 1)]
    if background:
        lines.insert(0, form.format(number=0, name="background"))
    text = end.join(lines) + end
    (place / "classes.txt").write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
    assert folder.class_names(place) == dict(enumerate(["background", *given]))


@fuzz(st.lists(names, min_size=1, max_size=4), lists, lists, st.booleans(), st.booleans())
def test_folders(place: Path, files: list[str], train: bytes, val: bytes, own: bool, both: bool) -> None:
    """Odd names of files, and lists that name them or do not."""
    data = emptied(place / "data")
    (data / "classes.txt").write_text("red\n")
    for part in ("images", "masks", "splits"):
        (data / part).mkdir()
    for name in files:
        for part in ("images", "masks"):
            (data / part / f"{name}.png").write_bytes(PIXEL)
    listed = "".join(f"{name}\n" for name in files).encode() if own else train
    (data / "splits/train.txt").write_bytes(listed)
    if both:
        (data / "splits/val.txt").write_bytes(val)
    for split in ("train", "val"):
        source = outcome(lambda split=split: folder.make(data, split), data, memory=True)
        if not isinstance(source, UserError):
            assert len(source) and all(image.stem == mask.stem for image, mask in source.pairs)


@fuzz(
    draw.encoded(
        draw.lines(
            st.one_of(st.sampled_from(["/JPEGImages/a.jpg", "/SegmentationClassAug/a.png", "a", "b"]), draw.words)
        )
    ),
    examples=[(b"x" * 300,), (b"a\0b",)],
)
def test_voc_lists(place: Path, content: bytes) -> None:
    data = emptied(place / "voc")
    for part, suffix in ((voc.IMAGES, "jpg"), (voc.MASKS, "png"), ("splits", "")):
        (data / part).mkdir()
        for name in "ab" if suffix else "":
            (data / part / f"{name}.{suffix}").write_bytes(PIXEL)
    (data / voc.LISTS["train"]).write_bytes(content)
    pairs = outcome(lambda: voc.pairs(data, "train"), data, memory=True)
    assert isinstance(pairs, UserError) or all(path.is_file() for pair in pairs for path in pair)


def steps(number: int) -> dict[str, list[int]]:
    return {str(i): [0, 1] if i == 0 else [i + 1] for i in range(number)}


tasks = st.integers(1, 4).map(steps)


@fuzz(
    draw.json_files(tasks),
    st.sampled_from([None, {0, 1, 2, 3, 4, 5}]),
    examples=[(content, None) for content in draw.HUGE_JSON],
    times=150,
)
def test_task_files(place: Path, content: bytes, known: set[int] | None) -> None:
    path = place / "task.json"
    path.write_bytes(content)
    task = outcome(lambda: load_task("folder", str(path), known), path, memory=True)
    if not isinstance(task, UserError):
        seen = task.seen(len(task) - 1)
        assert seen[0] == 0 and len(set(seen)) == len(seen) and all(0 <= i < 255 for i in seen)
        assert task.lookup(0, train=False, mask_old=False)[0] == 0


@fuzz(
    st.integers(1, 254).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), max_size=4))),
    st.booleans(),
    times=40,
)
def test_right_task_files(place: Path, given: tuple[int, list[int]], background: bool) -> None:
    most, cuts = given
    ends = [0, *sorted(set(cuts) - {most}), most]
    wanted = [list(range(a + 1, b + 1)) for a, b in pairwise(ends)]
    content: dict[str, Any] = {str(i): one for i, one in enumerate(wanted)}
    if background:
        content["0"] = [0, *wanted[0]]
    path = place / "task.json"
    path.write_text(json.dumps(content))
    task = load_task("folder", str(path), set(range(most + 1)))
    assert [list(step) for step in task.steps] == [[0, *wanted[0]], *wanted[1:]]


@fuzz(st.integers(10_000, 60_000), times=2)
def test_many_ids_are_refused_at_once(place: Path, number: int) -> None:
    """Time does not grow with the square of the ids."""
    path = place / "task.json"
    path.write_text(json.dumps({"0": list(range(number))}))
    assert isinstance(outcome(lambda: load_task("folder", str(path)), path), UserError)
