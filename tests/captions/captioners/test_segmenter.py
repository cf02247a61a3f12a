"""A frozen segmenter names the classes that it sees, alone and joined with other captioners."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import generate_caption
from captions.captioners import make_captioner, segmenter
from captions.captioners.base import NOTHING_SEEN, CaptionerSettings
from captions.formats import read_captions
from segmentation_module import load_segmenter
from tests.conftest import ROOT
from utils import checkpoint, distributed
from utils.errors import UserError

RUNTIME = distributed.start("cpu")


@pytest.fixture
def photos(small_shapes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, path in enumerate(sorted(small_shapes.rglob("*.png"))[:3]):
        Image.open(path).convert("RGB").resize((70 + number, 50)).save(folder / f"{number}.png")
    return folder


def generate(*words: object) -> int:
    return generate_caption.main(generate_caption.get_argparser().parse_args(list(map(str, words))))


def test_it_writes_what_the_model_sees(odd_ckpt: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of enough sure pixels, the largest first; not background, whose channel is the first."""
    monkeypatch.setattr(segmenter, "CONFIDENT", 0.5)
    captioner = make_captioner("segmenter", CaptionerSettings(model=str(odd_ckpt)), RUNTIME)
    paths = sorted(photos.iterdir())
    gone = photos / "gone.png"
    said = captioner.caption_files([*paths, gone])
    assert isinstance(said[-1], UserError) and "gone.png" in str(said[-1])
    asked = load_segmenter(odd_ckpt, device="cpu", precision="fp32")
    seen = set()
    for path, line in zip(paths, said, strict=False):
        found = asked.predict(path, threshold=0.5)
        shares = {name: float(np.mean(found.mask == number)) for number, name in found.names.items() if number}
        kept = {name: share for name, share in shares.items() if share >= segmenter.LEAST_SHARE}
        assert line == (", ".join(sorted(kept, key=lambda name: -kept[name])) or NOTHING_SEEN)
        seen |= kept.keys()
    assert len(seen) >= 2
    monkeypatch.setattr(segmenter, "CONFIDENT", 1.1)
    assert captioner.caption_files(paths[:1]) == [NOTHING_SEEN]


def test_large_images_are_looked_at_smaller(odd_ckpt: Path, tmp_path: Path) -> None:
    Image.new("RGB", (2000, 40)).save(tmp_path / "wide.png")
    captioner = make_captioner("segmenter", CaptionerSettings(model=str(odd_ckpt)), RUNTIME)
    sizes = []

    def stop(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(pixels.shape))
        raise UserError("seen")

    captioner.segmenter.logits = stop  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="seen"):
        captioner.caption_files([tmp_path / "wide.png"])
    assert sizes == [(1, 3, 10, 512)]


def test_captions_of_two_checkpoints_are_not_mixed(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """The weights say whose captions they are, not the file's name."""
    out = tmp_path / "out.txt"
    line = (photos, out, "--captioner", "segmenter", "--device", "cpu", "--model")
    assert generate(*line, odd_ckpt) == 0
    moved = tmp_path / "moved.pth"
    moved.write_bytes(odd_ckpt.read_bytes())
    assert generate(*line, moved) == 0
    state = checkpoint.load(odd_ckpt)
    state["model_state"]["cls.0.bias"] = state["model_state"]["cls.0.bias"] + 1
    checkpoint.save(moved, state)
    with pytest.raises(UserError, match="another captioner"):
        generate(*line, moved)


def test_joined_with_captions_that_came_along(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """Each phrase once, in the captioners' order; nothing seen says nothing beside a caption."""
    (tmp_path / "came.txt").write_text("0.png A man, on a Horse\n1.png background\n")
    out, alone = tmp_path / "out.txt", tmp_path / "alone.txt"
    assert generate(photos, alone, "--captioner", "segmenter", "--model", odd_ckpt, "--device", "cpu") == 0
    own = dict(read_captions(alone))
    line = (photos, out, "--captioner", "file+segmenter", "--captions", tmp_path / "came.txt", "--device", "cpu")
    assert generate(*line, "--model", f"segmenter={odd_ckpt}") == 1
    said = dict(read_captions(out))
    more = "" if own["0.png"] == NOTHING_SEEN else f", {own['0.png']}"
    assert said == {"0.png": f"A man, on a Horse{more}", "1.png": own["1.png"]}
    origin = json.loads((tmp_path / "out.txt.captioner.json").read_text())
    assert origin["captioner"] == "file+segmenter" and len(origin["parts"][1]["weights"]) >= 16
    with pytest.raises(UserError, match=r"say whose it is: file=.* or segmenter="):
        generate(*line, "--model", odd_ckpt)


@pytest.mark.slow
def test_two_ranks_write_what_one_does(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    options = ["--captioner", "segmenter", "--model", str(odd_ckpt), "--device", "cpu", "--batch_size", "1"]
    assert generate(photos, one, *options) == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "generate_caption.py",
    ]
    subprocess.run([*launch, str(photos), str(two), *options, "--block_size", "1"], cwd=ROOT, check=True, timeout=300)
    assert two.read_bytes() == one.read_bytes()


@pytest.mark.parametrize(
    ("captioner", "model", "fault"),
    [
        ("segmenter", [], "needs --model"),
        ("segmenter", ["gone.pth"], "gone.pth"),
        ("segmenter", ["a.pth", "b.pth"], "segmenter has a.pth already"),
        ("tags+segmenter", ["a.pth"], "say whose it is"),
        ("tags+segmenter", ["tags="], "say whose it is"),
    ],
)
def test_models_that_are_refused(captioner: str, model: list[str], fault: str, photos: Path, tmp_path: Path) -> None:
    words = [word for name in model for word in ("--model", name)]
    with pytest.raises(UserError, match=fault):
        generate(photos, tmp_path / "out.txt", "--device", "cpu", "--captioner", captioner, *words)


@pytest.mark.parametrize("name", ["flamingo", "tags+", "tags+tags", "+"])
def test_captioners_that_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate(tmp_path, tmp_path / "out.txt", "--captioner", name)
    assert f"captioner {name}" in capsys.readouterr().err
