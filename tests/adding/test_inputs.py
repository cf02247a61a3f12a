"""What --images may hold, names that are refused, and what becomes of names that captions cannot say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adding.inputs import VOCABULARY, candidates, find, get_argparser, main, write_candidates
from adding.names import check_names, free_ids, make_words
from captions.labels import caption_labels
from captions.vocabulary import read_vocabulary
from utils.errors import UserError
from utils.manifest import open_manifest


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path)
    return path


def folder(root: Path, **classes: int) -> Path:
    for seed, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(root / name / f"{number}.png", 100 * seed + number)
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        ([], ["cat"], "no new class is named"),
        (["cat"], ["cat", "dog"], "the model knows it already; leave it out"),
        (["cats"], ["cat"], "the model knows it already as cat"),
        (["couch"], ["sofa"], "the model knows it already as sofa"),
        (["cow", "cows"], ["cat"], "classes cow and cows are the same"),
        (["Background"], ["cat"], "is what masks call no class"),
        (["???"], ["cat"], "is no name of a class"),
        (["a\nb"], ["cat"], "is no name of a class"),
    ],
)
def test_names_that_cannot_be_new_are_refused_in_one_line(new: list[str], old: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check_names(new, old)
    assert "\n" not in str(caught.value)


def test_other_names_are_new() -> None:
    check_names(["cow", "HER2+"], ["HER2-", "cat"])


def test_new_ids_are_free_ones() -> None:
    assert free_ids(2, [0, 8, 12, 15]) == [16, 17]
    assert free_ids(2, [0, 1, 254]) == [2, 3]
    assert free_ids(2, [0, 1, 253]) == [254, 2]
    with pytest.raises(UserError, match="room for 255"):
        free_ids(2, range(254))


def test_words_of_names_that_wordnet_does_not_know_are_the_names() -> None:
    vocabulary = make_words(["cow", "HER2+"], ["cat", "zzz qqq"])
    assert vocabulary.classes == ("cow", "HER2+", "cat")
    assert caption_labels("HER2+", vocabulary) == {"HER2+"} and caption_labels("a HER2- cell", vocabulary) == set()
    assert caption_labels("an ox beside a tabby", vocabulary) == {"cow", "cat"}


def test_an_old_class_that_means_the_same_as_another_has_no_words() -> None:
    assert make_words(["cow"], ["sofa", "couch"]).classes == ("cow", "sofa")


# ---- images ---------------------------------------------------------------------------------------------------------


def test_folders_name_the_classes(tmp_path: Path) -> None:
    found = find(folder(tmp_path, cow=6, sheep=5), [])
    assert found.counts == {"cow": 6, "sheep": 5} and len(found.files) == 11 and not found.captioned


def test_classes_choose_among_the_folders(tmp_path: Path) -> None:
    assert find(folder(tmp_path, cows=6, sheep=2), ["cow"]).counts == {"cow": 6}


def test_a_folder_of_images_is_of_the_class_that_is_named(tmp_path: Path) -> None:
    images = folder(tmp_path, cow=5) / "cow"
    assert find(images, ["cow"]).counts == {"cow": 5}
    with pytest.raises(UserError, match="name their class with --classes"):
        find(images, [])


def test_a_manifest_names_classes_and_captions_and_what_is_kept(tmp_path: Path) -> None:
    folder(tmp_path, cow=8)
    lines = [f"cow/{i}.png,cow,an ox,{int(i < 6)}" for i in range(8)]
    (tmp_path / "manifest.csv").write_text("path,class,caption,kept\n" + "\n".join(lines) + "\n")
    found = find(tmp_path, [])
    assert found.counts == {"cow": 6} and found.captioned


def test_other_images_have_another_listing(tmp_path: Path) -> None:
    before = find(folder(tmp_path, cow=6), []).listing
    assert find(tmp_path, []).listing == before
    picture(tmp_path / "cow/7.png")
    assert find(tmp_path, []).listing != before


def test_what_cannot_teach_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, cow=6, sheep=0, goat=1)
    with pytest.raises(UserError, match="no image of sheep"):
        find(tmp_path, [])
    with pytest.raises(UserError, match="goat has 1 images; a class needs at least 5"):
        find(tmp_path, ["cow", "goat"])
    with pytest.raises(UserError, match="no image of pig"):
        find(tmp_path, ["cow", "pig"])
    with pytest.raises(UserError, match="no such folder or manifest"):
        find(tmp_path / "nowhere", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither"):
        find(tmp_path / "empty", [])


# ---- the stage ------------------------------------------------------------------------------------------------------


def test_candidates_keep_what_they_have_and_lose_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = folder(tmp_path / "images", cow=6, ring=5)
    (images / "cow/broken.png").write_bytes(b"no image")
    (images / "cow/notes.txt").write_text("none either")
    out = tmp_path / "out/manifest.csv"
    command = f"--images {images} --classes cow ring --old cat --out {out}"
    assert main(get_argparser().parse_args(command.split())) == 1
    said = capsys.readouterr()
    assert "Candidates: cow 6, ring 5" in said.out and "broken.png" in said.err
    # No class of ImageNet is a ring, so that the captioner would drop all of them.
    assert "ring: the captioner tags has no word for it" in said.out
    written = rows(out)
    assert {row["class"]: row["caption"] for row in written} == {"cow": "", "ring": "ring"}
    # The folder needs nothing else, and says where the user has each image.
    assert all((out.parent / row["path"]).read_bytes() == Path(row["original"]).read_bytes() for row in written)
    assert len({row["sha256"] for row in written}) == len(written)
    assert read_vocabulary(out.parent / VOCABULARY).classes == ("cow", "ring", "cat")


def test_no_captioner_keeps_every_folder_s_word(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", cow=5)
    write_candidates(images, ["cow"], [], tmp_path / "out/manifest.csv", captioner="none")
    assert [row["caption"] for row in rows(tmp_path / "out/manifest.csv")] == ["cow"] * 5


def test_a_share_is_held_back_and_teaches_nothing(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", cow=10, goat=10)
    out, held = tmp_path / "out/manifest.csv", tmp_path / "held"
    done = write_candidates(images, ["cow", "goat"], [], out, captioner="none", held_back=held, share=0.2)
    assert done.held_back == 4 and len(list(held.iterdir())) == 4
    kept = {Path(row["original"]).read_bytes() for row in rows(out)}
    assert len(rows(out)) == 16 and not kept & {path.read_bytes() for path in held.iterdir()}
    again = write_candidates(images, ["cow", "goat"], [], out, captioner="none", held_back=held, share=0.2)
    assert again.counts == done.counts and len(list(held.iterdir())) == 4


def test_columns_of_an_earlier_selection_are_left_behind(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", cow=5)
    lines = [f"cow/{i}.png,cow,Jane,1,cow" for i in range(5)]
    (images / "manifest.csv").write_text("path,class,author,kept,labels\n" + "\n".join(lines) + "\n")
    write_candidates(images, ["cow"], [], tmp_path / "out/manifest.csv", captioner="none")
    assert open_manifest(tmp_path / "out/manifest.csv").columns == (
        "path",
        "class",
        "caption",
        "sha256",
        "author",
        "original",
    )
    assert len(list(candidates(tmp_path / "out/manifest.csv", ["cow"]))) == 5
