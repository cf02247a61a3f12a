"""The training scripts of examples/, which stand alone, for one iteration each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from modules.adopted.settings import AdoptSettings
from modules.adopted.torchvision_models import TimmFeatures
from modules.timm_body import TimmBody
from segmentation_module import load_segmenter
from tests.conftest import ROOT
from utils import checkpoint

CLASSES = ["background", "cat", "dog", "horse", "person"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in VOC's layout, of which two show a class that the scripts learn."""
    folder = tmp_path_factory.mktemp("examples") / "voc"
    lines = []
    rng = np.random.default_rng(0)
    for name, number in (("one", 8), ("two", 13), ("three", 10)):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:40, 10:50] = number
        for place, picture in (
            ("JPEGImages", Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))),
            ("SegmentationClassAug", Image.fromarray(mask)),
        ):
            (folder / place).mkdir(parents=True, exist_ok=True)
            picture.save(folder / place / f"{name}{'.jpg' if place == 'JPEGImages' else '.png'}")
        lines.append(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n")
    (folder / "splits").mkdir()
    (folder / "splits/train_aug.txt").write_text("".join(lines))
    return folder


def trained(script: str, data: Path, out: Path) -> str:
    command = [
        sys.executable,
        str(ROOT / "examples" / script),
        "--data",
        str(data),
        "--out",
        str(out),
        "--seed",
        "3",
        "--iterations",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=data)
    assert done.returncode == 0, done.stderr
    return done.stderr


def adopted_as(network: nn.Module, model: str, class_names: Path) -> None:
    """What a script wrote is a MODEL, and sees as the script's own network does."""
    segmenter = load_segmenter(model, device="cpu", settings=AdoptSettings(class_names=class_names))
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        found = network.eval()(images / 127.5 - 1)
    expected = (found["out"] if isinstance(found, dict) else found).softmax(dim=1)
    torch.testing.assert_close(segmenter.logits(images).sigmoid(), expected, atol=1e-5, rtol=0)
    assert segmenter.description.class_names == tuple(CLASSES)


def test_smp(photographs: Path, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the extra smp is not installed")
    out = tmp_path / "model"
    assert "1/1" in trained("train_smp.py", photographs, out)
    assert (out / "classes.txt").read_text().split() == CLASSES
    adopted_as(smp.from_pretrained(out), f"smp:{out}", out / "classes.txt")


def test_torchvision(photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="train_smp.py, whose data are taken, needs the extra smp")
    out = tmp_path / "model/weights.pth"
    assert "1/1" in trained("train_torchvision.py", photographs, out)
    assert (out.parent / "classes.txt").read_text().split() == CLASSES
    weights = checkpoint.read(out, "file of weights")
    own = DeepLabV3(TimmFeatures(TimmBody("tf_efficientnet_lite0", 16)), DeepLabHead(320, len(CLASSES)))
    own.load_state_dict(weights)
    settings = AdoptSettings(class_names=out.parent / "classes.txt")
    segmenter = load_segmenter(
        f"torchvision:deeplabv3_timm:tf_efficientnet_lite0={out}", device="cpu", settings=settings
    )
    images = torch.randint(0, 256, (2, 3, 70, 50), dtype=torch.uint8)
    with torch.no_grad():
        expected = own.eval()(images / 127.5 - 1)["out"]
    torch.testing.assert_close(segmenter.logits(images).sigmoid(), expected.softmax(dim=1), atol=1e-5, rtol=0)
    assert segmenter.description.class_names == tuple(CLASSES)


def test_they_know_nothing_of_this_project() -> None:
    own = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for script in (ROOT / "examples").glob("train_*.py"):
        imported = {
            line.split()[1].partition(".")[0]
            for line in script.read_text().splitlines()
            if line.startswith(("import ", "from "))
        }
        assert imported and not imported & own
