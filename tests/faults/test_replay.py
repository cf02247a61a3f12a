"""The replay tree: captioning, labelling and listing it; disturbed, doubled and gone on with, each ends as if nobody had."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import generate_caption
import generate_label
from tests.faults.harness import (
    LONG,
    Ended,
    changes,
    count_changes,
    differences,
    files,
    half_written,
    held,
    killed_somewhere,
    one_thread,
    only_long,
    python,
    rng,
    run,
    running,
    seeds,
    watched,
)
from tests.replay_trees import images, labelled

pytestmark = pytest.mark.timeout(3600 if LONG else 300)

CLASSES, EACH = ("circle", "square"), 6


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a replay tree, which tests copy."""
    return images(tmp_path_factory.mktemp("tree") / "tree", CLASSES, EACH)


# ---- labelling ------------------------------------------------------------------------------------------------------------


class Labelling:
    """The labelling of a copy of a tree by one checkpoint, image by image."""

    def __init__(self, folder: Path, tree: Path, ckpt: Path) -> None:
        self.tree = folder / "tree"
        if not self.tree.exists():
            shutil.copytree(tree, self.tree)
        self.line = python(
            "generate_label.py",
            "--ckpt",
            ckpt,
            "--path",
            self.tree,
            "--batch_size",
            1,
            "--num_workers",
            1,
            "--device",
            "cpu",
        )

    def labels(self) -> int:
        return len(list(self.tree.glob("*/label/*.png")))

    def end(self) -> dict[str, bytes]:
        return files(self.tree, "*/label/*", "labels.json")


def check_ended(ended: Ended) -> None:
    assert ended.code == 0, f"{ended.code}: {ended.err[-3000:]}"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, tree: Path, labellers: tuple[Path, Path]) -> dict[str, bytes]:
    """Labels of the first model, when nobody disturbs it."""
    labelling = Labelling(tmp_path_factory.mktemp("labels"), tree, labellers[0])
    with one_thread():
        assert generate_label.main(generate_label.get_argparser().parse_args(labelling.line[2:])) == 0
    seen = {value for path in labelling.tree.glob("*/label/*.png") for value in np.unique(np.array(Image.open(path)))}
    assert len(seen) > 2, "labels of one class alone would be equal whatever happened"
    return labelling.end()


def check_labelled(labelling: Labelling, labels: dict[str, bytes], where: Path) -> None:
    check_ended(run(labelling.line, where))
    assert not differences(labels, labelling.end())
    assert not half_written(labelling.tree)


def test_labelling_is_doubled_and_killed(
    labels: dict[str, bytes], tree: Path, labellers: tuple[Path, Path], tmp_path: Path
) -> None:
    """A second model, which would replace the labels of a slower first one, is refused; the first is killed and goes on."""
    first, where = Labelling(tmp_path, tree, labellers[0]), tmp_path / "out"
    second = [*Labelling(tmp_path, tree, labellers[1]).line, "--relabel"]
    with held(first.line, first.tree, where, "rename .00003.png.") as child:
        run(second, where).check_refused(str(first.tree))
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    assert 2 <= first.labels() < len(CLASSES) * EACH and half_written(first.tree)
    check_labelled(first, labels, where)


@only_long
def test_labelling_is_killed_at_any_moment(
    labels: dict[str, bytes], tree: Path, labellers: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also one that replaces the labels of another model."""
    where = tmp_path / "out"
    whole = Labelling(tmp_path / "whole", tree, labellers[0])
    total = count_changes(whole.line, whole.tree, where)
    for seed in range(20):
        labelling = Labelling(tmp_path / str(seed), tree, labellers[0])
        if seed % 3 == 0:
            check_ended(run(Labelling(tmp_path / str(seed), tree, labellers[1]).line, where))
            labelling.line.append("--relabel")
        killed_somewhere(labelling.line, labelling.tree, where, rng("labelling", seed), total)
        check_labelled(labelling, labels, where)


@only_long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seed", seeds(3))
def test_labelling_is_stopped(
    labels: dict[str, bytes], tree: Path, labellers: tuple[Path, Path], tmp_path: Path, number: int, seed: int
) -> None:
    labelling, asked = Labelling(tmp_path, tree, labellers[0]), rng("stop", number, seed).randint(1, 9)
    with running(labelling.line, tmp_path / "out") as child:
        child.wait_for(lambda: labelling.labels() >= asked)
        child.send(number, group=True)
        child.end()
    check_labelled(labelling, labels, tmp_path / "out")


@only_long
def test_labelling_on_a_full_disk(
    labels: dict[str, bytes], tree: Path, labellers: tuple[Path, Path], tmp_path: Path
) -> None:
    """Labels larger than a file may be: one line, no half label, and the same command goes on."""
    labelling = Labelling(tmp_path, tree, labellers[0])
    sizes = sorted(len(content) for name, content in labels.items() if name.endswith(".png"))
    largest = max(sizes[len(sizes) // 2], len(labels["labels.json"]))
    # The limit would be one of the shared memory of loading processes, too.
    alone = [*labelling.line, "--num_workers", "0"]
    run(alone, tmp_path / "out", largest=largest).check_refused("File too large")
    assert not half_written(labelling.tree)
    check_labelled(labelling, labels, tmp_path / "out")


# ---- captioning -----------------------------------------------------------------------------------------------------------


class Captioning:
    """Captions of a tree's folders, one file a folder, looked up one by one."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.out, there = folder / "captions", tree.parent / "captions.txt"
        names = sorted({path.name for path in tree.glob("*/image/*")})
        there.write_text("".join(f"{name} a drawing of number {name[:5]}{' and more' * 12}\n" for name in names))
        self.line = python(
            "generate_caption.py",
            tree,
            self.out,
            "--captioner",
            "file",
            "--captions",
            there,
            "--batch_size",
            1,
            "--device",
            "cpu",
        )

    def captions(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.out.glob("*.txt"))

    def end(self) -> dict[str, bytes]:
        return files(self.out, "*.txt", "*.json")


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> dict[str, bytes]:
    """Captions, when nobody disturbs the captioner."""
    captioning = Captioning(tmp_path_factory.mktemp("captions"), tree)
    assert generate_caption.main(generate_caption.get_argparser().parse_args(captioning.line[2:])) == 0
    assert captioning.captions() == len(CLASSES) * EACH
    return captioning.end()


def check_captioned(captioning: Captioning, captions: dict[str, bytes], where: Path) -> None:
    check_ended(run(captioning.line, where))
    assert not differences(captions, captioning.end())
    assert not half_written(captioning.out)


def test_captioning_is_doubled_and_killed(captions: dict[str, bytes], tree: Path, tmp_path: Path) -> None:
    """A second captioner beside a slower first one is refused; the first is killed and goes on."""
    captioning, where = Captioning(tmp_path, tree), tmp_path / "out"
    with held(captioning.line, captioning.out, where, "open square_0.txt") as child:
        before = captioning.end()
        run(captioning.line, where).check_refused(str(captioning.out))
        assert captioning.end() == before
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    check_captioned(captioning, captions, where)


@only_long
def test_captioning_is_killed_at_any_moment(captions: dict[str, bytes], tree: Path, tmp_path: Path) -> None:
    whole, where = Captioning(tmp_path / "whole", tree), tmp_path / "out"
    total = count_changes(whole.line, whole.out, where)
    for seed in range(15):
        captioning = Captioning(tmp_path / str(seed), tree)
        killed_somewhere(captioning.line, captioning.out, where, rng("captioning", seed), total)
        check_captioned(captioning, captions, where)


@only_long
def test_captioning_a_manifest_is_killed(tree: Path, tmp_path: Path) -> None:
    """By a classifier, which takes its time."""
    manifest, where = tmp_path / "manifest.csv", tmp_path / "out"
    paths = sorted(tree.glob("*/image/*.jpg"))
    manifest.write_text("".join(["path,class\n", *(f"{path},{path.parent.parent.name}\n" for path in paths)]))

    def line(out: Path) -> list[str]:
        given = ("--batch_size", 1, "--device", "cpu")
        return python("generate_caption.py", manifest, out / "captioned.csv", *given)

    total = count_changes(line(tmp_path / "whole"), tmp_path / "whole", where)
    for seed in range(8):
        out = tmp_path / str(seed)
        killed_somewhere(line(out), out, where, rng("captioning a manifest", seed), total)
        check_ended(run(line(out), where))
        assert not differences(files(tmp_path / "whole", "*.csv", "*.json"), files(out, "*.csv", "*.json"))
        assert not half_written(out)


@only_long
def test_captioning_on_a_full_disk(captions: dict[str, bytes], tree: Path, tmp_path: Path) -> None:
    """A caption file that can grow no more: one line, and the same command goes on behind the last whole line."""
    captioning = Captioning(tmp_path, tree)
    largest = 500  # Enough for what it says on stderr, which is a file here.
    assert largest < max(len(content) for content in captions.values())
    run(captioning.line, tmp_path / "out", largest=largest).check_refused("File too large")
    check_captioned(captioning, captions, tmp_path / "out")


# ---- train files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(20, 1))
def test_listing_is_killed(tmp_path: Path, seed: int) -> None:
    """Every train file is whole, or is not there; then all are."""
    tree, where = labelled(tmp_path / "tree", ("circle", "square", "star"), 2), tmp_path / "out"
    line = python("generate_train_file.py", "--path", tree)
    expected = files(tree, "*/train_fullPath.txt")
    for path in tree.glob("*/train_fullPath.txt"):
        path.unlink()
    check_ended(run(watched(line, where / "notes", tree), where))
    assert files(tree, "*/train_fullPath.txt") == expected
    for path in tree.glob("*/train_fullPath.txt"):
        path.unlink()
    killed_somewhere(line, tree, where, rng("listing", seed), len(changes(where / "notes")))
    assert files(tree, "*/train_fullPath.txt").items() <= expected.items()
    check_ended(run(line, where))
    assert not differences(expected, files(tree, "*/train_fullPath.txt"))
    assert not half_written(tree)
