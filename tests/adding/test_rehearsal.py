"""Old images: which are rehearsed and which are held back, by a seed, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from adding.rehearsal import get_argparser, main, place, split
from dataset.replay_tree import images_of, originals
from tests.adding.test_inputs import picture
from utils.errors import UserError


def test_a_split_depends_on_the_seed_alone() -> None:
    kept, held = split(50, 0.1, 1000, 3)
    assert (kept, held) == split(50, 0.1, 1000, 3) != split(50, 0.1, 1000, 4)
    assert len(held) == 5 and sorted(kept + held) == list(range(50))
    assert tuple(map(len, split(50, 0.1, 20, 3))) == (18, 2)
    assert tuple(map(len, split(2, 0.1, 20, 3))) == (1, 1) == tuple(map(len, split(2, 0.99, 20, 3)))


def run(images: Path, out: Path, *more: str) -> int:
    command = ["--images", str(images), "--out", str(out / "replay"), "--held_back", str(out / "held"), *more]
    return main(get_argparser().parse_args(command))


def test_a_tree_of_one_image_an_original_and_the_rest_held_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    for number in range(10):
        picture(images / f"deep/{number % 2}/{number}.png", number)
    picture(images / "twin.png", 3)
    (images / "broken.jpg").write_bytes(b"none")
    (images / "captions.json").write_text("{}")
    assert run(images, tmp_path, "--share", "0.2") == 1
    said = capsys.readouterr()
    assert "8 images to rehearse, 2 held back, 1 are the same as others" in said.out and "broken.jpg" in said.err
    tree = tmp_path / "replay"
    assert [len(images_of(original)) for original in originals(tree)] == [1] * 8
    rehearsed = {images_of(original)[0].image.read_bytes() for original in originals(tree)}
    held = {path.read_bytes() for path in (tmp_path / "held").iterdir()}
    assert len(rehearsed) == 8 and len(held) == 2 and not rehearsed & held
    assert (tmp_path / "held.csv").read_text().count(str(images)) == 2
    # The same command again changes nothing.
    assert run(images, tmp_path, "--share", "0.2") == 1 and len(originals(tree)) == 8


def test_two_images_are_needed(tmp_path: Path) -> None:
    picture(tmp_path / "images/1.png")
    with pytest.raises(UserError, match="1 images; at least 2 are needed"):
        place([tmp_path / "images"], tmp_path / "t", tmp_path / "h", share=0.1, most=10, seed=0)
    with pytest.raises(UserError, match="no such folder of images"):
        place([tmp_path / "none"], tmp_path / "t", tmp_path / "h", share=0.1, most=10, seed=0)
