"""Four scripts, three ways, the same bytes: captions, labels, selections, and a discriminator's statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.replay_trees import images
from tests.spread.scripts import call_all
from tests.unlearned import save_unlearned
from utils import checkpoint

MAKES = {
    "generate_caption": {"captions", "captioned"},
    "generate_label": {"tree", "tree-web"},
    "select_web": {"selected", "sheets"},
    "train_discriminator": {"learned"},
}
SCRIPTS = tuple(MAKES)
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.spread.scripts")


@pytest.fixture(scope="module")
def judge(odd_ckpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discriminator that learned nothing; its numbers have all their digits."""
    return save_unlearned(tmp_path_factory.mktemp("judge") / "judge.pth", checkpoint.load(odd_ckpt))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two sizes in a folder a class; one of them is none."""
    folder = tmp_path_factory.mktemp("web")
    for number in range(10):
        place = folder / ("circle" if number % 2 else "square")
        place.mkdir(exist_ok=True)
        pixels = torch.randint(0, 255, (60, 80 + 16 * (number % 3), 3), generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(place / f"{number}.png")
    (folder / "circle/5.png").write_bytes(b"<html>no image</html>")
    return folder


def lines(out: Path, web: Path, judge: Path, label_ckpt: Path, step_ckpt: Path, taught: Path) -> list[list[str]]:
    tree = out / "tree"
    every: list[list[Any]] = [
        ["generate_caption", web, out / "captions"],
        ["generate_caption", web, out / "captioned.csv"],
        ["generate_label", "--path", tree, "--ckpt", label_ckpt, "--num_workers", 0],
        ["select_web", "--web_path", web, "--out", out / "selected.csv", "--discriminator", judge, "--trust",
         "--num_workers", 0],
        ["train_discriminator", "--step_ckpt", step_ckpt, "--web_path", taught, "--out", out / "learned.pth",
         "--network", "test_resnet", "--size", 32, "--epochs", 1, "--num_workers", 0, "--block_size", 64],
    ]  # fmt: skip
    common: list[Any] = ["--device", "cpu", "--block_size", 4, "--batch_size", 2]
    return [[str(word) for word in [line[0], *common, *line[1:]]] for line in every]


def made(out: Path) -> dict[str, bytes]:
    """What the scripts wrote; of a discriminator its weights and statistics."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for name in files:
        if name.endswith(".pth"):
            state = checkpoint.load(out / name)["model_state"]
            files[name] = b"".join(value.numpy().tobytes() for value in state.values())
    return files


@pytest.mark.parametrize(
    "scripts", [("select_web",), pytest.param(SCRIPTS, marks=pytest.mark.slow)], ids=["one", "all"]
)
def test_the_same_bytes_by_three_ways(
    scripts: Sequence[str],
    web: Path,
    judge: Path,
    odd_ckpt: Path,
    tmp_path: Path,
    ray_here: None,
    request: pytest.FixtureRequest,
) -> None:
    ends = {}
    learns = "train_discriminator" in scripts
    taught = [request.getfixturevalue(name) if learns else Path() for name in ("step_ckpt", "web_images")]
    for way in ("here", "ranks", "ray"):
        out = tmp_path / way / "out"
        out.mkdir(parents=True)
        if "generate_label" in scripts:
            tree = images(out / "tree", ["circle", "square"], 3)
            (tree / "circle_0/image/00001.jpg").write_bytes(b"cut")
        words = [line for line in lines(out, web, judge, odd_ckpt, *taught) if line[0] in scripts]
        if way == "ranks":
            line = [sys.executable, *LAUNCHER, json.dumps(words)]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
            assert done.returncode == 0, done.stderr[-3000:]
        else:
            more = ["--ray", "local", "--ray_actors", "1"] if way == "ray" else []
            codes = call_all([[*line, *more] for line in words])
            assert set(codes[:4]) == {1}, "one image of each cannot be read"
        # Paths of a manifest in another folder are whole.
        ends[way] = {name: content.replace(str(out).encode(), b"OUT") for name, content in made(out).items()}
    assert {name.split("/")[0].split(".")[0] for name in ends["here"]} == set().union(*map(MAKES.get, scripts))
    for way in ("ranks", "ray"):
        assert ends[way].keys() == ends["here"].keys()
        assert [name for name, content in ends["here"].items() if ends[way][name] != content] == []
