"""Files that run without this project compute what the segmenter does, at every size; what would not is never written."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import export
import segmentation_module
from modules.adopted.parts import Parts
from modules.deeplab import DeeplabV3
from modules.description import Description
from modules.released import write_released
from release import pt2
from release.checking import check
from release.forms import FLOAT, LOGITS, UINT8, Form
from release.tracing import AnySizeDeeplabV3, Drawing, draw, for_any_size
from segmentation_module import AdoptedSegmentationModule, Output, Segmenter
from tests.conftest import ROOT
from tests.release.segmenters import NAMES, segmenter, stir
from utils import distributed
from utils.errors import UserError

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: files of ONNX are left out")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: files of ONNX are left out")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: files of ONNX are left out")

from release import onnx as onnx_files  # noqa: E402

# Smaller than the head's window of 64 pixels, and larger; odd ones, one side of each.
SIZES = [(1, 33, 47), (3, 64, 63), (1, 65, 64), (2, 130, 21), (1, 129, 150)]

STILL = Form(UINT8, LOGITS, (33, 35))


@pytest.fixture(scope="module")
def asked() -> Segmenter:
    return segmenter()


@pytest.fixture(scope="module")
def ids_file(asked: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What export.py writes of a released folder."""
    folder = tmp_path_factory.mktemp("files")
    write_released(folder / "tiny", asked.description, asked.model.state_dict())
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert exported("--model", folder / "tiny", "--format", "onnx", "--out", folder / "tiny.onnx") == 0
    first, second, third, last = told.getvalue().splitlines()
    assert first == "15 norms folded into convolutions, 0 left"
    assert second == "Takes uint8 images of 17 x 17 pixels and larger, gives ids"
    assert third.startswith("Was checked on images (2 of 97 x 131, 1 of 33 x 48, 1 of 97 x 128): the class of ")
    assert "pixels is the same, logits within" in third and last == f"Written to {folder / 'tiny.onnx'}"
    return folder / "tiny.onnx"


@pytest.fixture(scope="module")
def drawn(asked: Segmenter) -> Drawing:
    """Its graph for images of one small size."""
    return draw(asked, STILL)


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-4 of the greatest logit."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max().clamp(min=1)))


def exported(*line: str | Path) -> int:
    return export.main(export.get_argparser().parse_args(list(map(str, line))))


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    small = torch.randint(0, 256, (count, 3, height // 8 + 1, width // 8 + 1), generator=generator, dtype=torch.uint8)
    return F.interpolate(small, (height, width), mode="nearest")


@pytest.mark.parametrize("window", [1, 4, 5, 32])
def test_sliding_mean_of_every_size(window: int) -> None:
    """That of the head in evaluation, for maps smaller and larger than the window."""
    head = DeeplabV3(2, nn.BatchNorm2d, 16, window).eval()
    twin = for_any_size(head)
    assert type(twin) is AnySizeDeeplabV3
    for height, width in ((1, 1), (1, 7), (3, 4), (4, 5), (5, 6), (11, 3), (40, 33)):
        maps = torch.randn(2, 2, height, width)
        torch.testing.assert_close(twin._pool(maps), head._pool(maps), rtol=1e-5, atol=1e-6)


def test_convolutions_with_tensorflows_padding() -> None:
    from timm.layers.conv2d_same import Conv2dSame

    for kernel, stride, dilation in ((3, 2, 1), (5, 2, 1), (1, 2, 1), (3, 1, 2), (2, 3, 1)):
        layer = Conv2dSame(2, 2, kernel, stride=stride, dilation=dilation)
        twin = for_any_size(layer)
        assert type(twin) is not Conv2dSame
        for size in ((7, 8), (9, 10), (11, 12)):
            images = torch.randn(1, 2, *size)
            torch.testing.assert_close(twin(images), layer(images))


def test_class_ids_of_every_size(asked: Segmenter, ids_file: Path) -> None:
    session = ort.InferenceSession(ids_file)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["batch", "height", "width", 3])
    assert (given.name, given.type, given.shape) == ("ids", "tensor(uint8)", ["batch", "height", "width"])
    seen = set()
    for size in SIZES:
        images = pictures(*size)
        (found,) = session.run(None, {"images": images.permute(0, 2, 3, 1).numpy()})
        expected = asked.labels(asked.logits(images)).numpy()
        assert found.shape == expected.shape and (found == expected).mean() >= 0.999
        seen |= set(np.unique(found).tolist())
    assert len(seen) > 1 and seen <= {0, 1, 2, 7}


def test_a_file_says_what_it_is_and_not_who_made_it(ids_file: Path) -> None:
    said = ort.InferenceSession(ids_file).get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(NAMES) and json.loads(said["class_ids"]) == [0, 1, 2, 7]
    assert json.loads(said["palette"])["7"] == [128, 128, 128] and json.loads(said["palette"])["0"] == [0, 0, 0]
    assert json.loads(said["mean"]) == [0.485, 0.456, 0.406] and said["output"] == "ids" and "uint8" in said["input"]
    assert json.loads(said["sizes"]) == {"height": 17, "width": 17, "exactly": False}
    assert b".py" not in ids_file.read_bytes()
    assert not [node for node in onnx.load(ids_file).graph.node if node.op_type == "BatchNormalization"]


def test_logits_of_float_images(asked: Segmenter, tmp_path: Path) -> None:
    drawing, done = onnx_files.export(asked, tmp_path / "deep" / "logits.onnx", Form(FLOAT, LOGITS, (40, 56)))
    assert drawing.smallest == (40, 56) and [images[1:] for images in done.images] == [(40, 56)] * 3
    session = ort.InferenceSession(tmp_path / "deep" / "logits.onnx")
    images = pictures(2, 40, 56)
    (found,) = session.run(None, {"images": images.numpy().astype(np.float32) / 255})
    near(torch.from_numpy(found), asked.logits(images))
    with pytest.raises(Exception, match="images"):
        session.run(None, {"images": np.zeros((1, 3, 41, 56), np.float32)})


def test_files_of_torch_export(asked: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt2"
    _, done = pt2.export(asked, path, Form(UINT8, LOGITS))
    assert done.error is not None and str(done).startswith("checked on images (2 of 97 x 131, ")
    said = {pt2.METADATA: ""}
    module = torch.export.load(path, extra_files=said).module()
    assert json.loads(json.loads(said[pt2.METADATA])["class_names"]) == list(NAMES)
    for size in SIZES:
        images = pictures(*size)
        with torch.no_grad():
            found = module(images.permute(0, 2, 3, 1).contiguous())
        near(found, asked.logits(images))
    with zipfile.ZipFile(path) as file:
        assert not any(str(ROOT).encode() in file.read(name) for name in file.namelist())


def test_a_file_that_differs_is_not_written(drawn: Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wrong.pt2"
    path.write_bytes(b"before")
    monkeypatch.setattr(pt2, "draw", lambda *_: drawn)
    other = segmenter()
    for classifier in other.model.cls:
        classifier.bias.add_(torch.arange(classifier.out_channels) / 50)
    with pytest.raises(UserError, match=r"wrong\.pt2: not written.* what tiny\.pth does: .* %.* logits differ by"):
        pt2.export(other, path, STILL)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_does_not_run_is_not_written(
    asked: Segmenter, drawn: Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for\nthis")

    monkeypatch.setattr(pt2, "draw", lambda *_: drawn)
    monkeypatch.setattr(torch.export, "load", broken)
    match = r"x\.pt2: not written, since it would not run \(RuntimeError: no kernel for this\)"
    with pytest.raises(UserError, match=match):
        pt2.export(asked, tmp_path / "x.pt2", STILL)
    assert not list(tmp_path.iterdir())


def test_without_its_packages_nothing_is_begun(
    asked: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnxscript is not installed \(pip install -e \.\[onnx\]\)"):
        onnx_files.export(asked, tmp_path / "x.onnx", Form())


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_logits_that_differ_are_seen(asked: Segmenter, wrong: float) -> None:
    form = Form(UINT8, LOGITS, (33, 35))

    def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = asked.logits(images.permute(0, 3, 1, 2))
        return {LOGITS: logits + wrong * logits.abs().amax() * (torch.arange(logits.numel()) == 5).view_as(logits)}

    assert check(lambda images: {LOGITS: asked.logits(images.permute(0, 3, 1, 2))}, asked, form, (33, 35), Path("x"))
    with pytest.raises(UserError, match="logits differ by"):
        check(run, asked, form, (33, 35), Path("x"))


def test_sizes_are_checked() -> None:
    with pytest.raises(UserError, match="--size 0 5"):
        Form(size=(0, 5))


@pytest.mark.parametrize(("line", "message"), [
    (["--format", "onnx", "--licence", "mit", "--private"], "--licence, --private: of no use with --format onnx"),
    (["--answer", "logits", "--size", "5", "5"], "--answer, --size: of no use with --format released"),
    (["--format", "pt2"], "is a folder; name a file for --format pt2, as .*model.pt2"),
])  # fmt: skip
def test_what_a_format_has_no_use_for_is_refused(line: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        exported("--model", "x.pth", "--out", tmp_path, *line)


def test_the_example_runs_a_file(asked: Segmenter, ids_file: Path, tmp_path: Path) -> None:
    """With onnxruntime, Pillow and NumPy alone, from anywhere."""
    pixels = pictures(1, 60, 83)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    script = ROOT / "examples" / "run_onnx.py"
    packages = {
        line.split()[1].partition(".")[0]
        for line in script.read_text().splitlines()
        if line.startswith(("import", "from"))
    }
    assert packages == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    line = [sys.executable, str(script), str(ids_file), "image.png", "mask.png"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "mask.png") as mask:
        palette = mask.getpalette()
        assert mask.mode == "P" and palette is not None and palette[21:24] == [128, 128, 128]
        found = np.asarray(mask)
    expected = asked.labels(asked.logits(pixels))[0].numpy()
    assert (found == expected).mean() >= 0.999
    assert [text.partition(":")[0] for text in done.stdout.splitlines()] == list(NAMES)


class Maps(nn.Module):
    """A body that halves the size twice, in sides that are multiples of 4 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 2, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 2, 2))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.down(images)]


class Last(nn.Module):
    """A head that knows what is on the left."""

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return maps[-1].cumsum(-1).relu()


@pytest.mark.parametrize("size", [None, [24, 40]])
def test_adopted_networks(size: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides are padded to multiples, or brought to the one size that the network takes; blue first, softmax turned."""
    network = {
        "library": "smp", "architecture": {}, "outputs": "softmax", "background": "own", "bgr": True, "multiple": 4, "size": size,
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4],
    }  # fmt: skip
    torch.manual_seed(0)
    description = Description(network, ((0, 1, 2), (7,)), NAMES, binary=True)
    model = AdoptedSegmentationModule(Parts(Maps(), Last(), nn.Conv2d(8, 3, 1), 8), description)
    monkeypatch.setattr(segmentation_module, "make_segmenter", lambda _: model)
    asked = Segmenter(description, stir(model).state_dict(), distributed.start("cpu"), "smp:tiny")
    path = tmp_path / "adopted.onnx"
    drawing, done = onnx_files.export(asked, path, Form(FLOAT, LOGITS))
    assert drawing.folding.folded == 1 and done.error is not None and done.error < 1e-5
    session = ort.InferenceSession(path)
    for count, height, width in ((1, 33, 47), (2, 24, 40), (1, 130, 21)):
        images = pictures(count, height, width)
        (found,) = session.run(None, {"images": images.numpy().astype(np.float32) / 255})
        np.testing.assert_allclose(found, asked.logits(images).numpy(), rtol=1e-4, atol=1e-4)


class Stubborn(nn.Module):
    """A network that asks whether an image is wide, or what divides its sides."""

    def __init__(self, wide: bool) -> None:
        super().__init__()
        self.wide, self.last = wide, nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor, interpolate: bool = True) -> Output:
        if images.shape[-1] > 300 if self.wide else images.shape[-1] % 4 == 3:
            images = images.flip(-1)
        return Output(self.last(images), {})


@pytest.mark.parametrize("wide", [True, False])
def test_a_network_of_some_sizes_alone_is_refused_with_advice(asked: Segmenter, wide: bool, tmp_path: Path) -> None:
    stubborn = copy.copy(asked)
    stubborn.model = Stubborn(wide)
    with pytest.raises(UserError, match=r"tiny\.pth: torch\.export cannot draw .* every size; --size H W draws it"):
        pt2.export(stubborn, tmp_path / "x.pt2", Form())
    assert not list(tmp_path.iterdir())
    pt2.export(stubborn, tmp_path / "x.pt2", Form(size=(9, 7)))
