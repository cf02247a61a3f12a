"""Segmenters of torchvision, adopted: they see what the library sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from modules.adopted.settings import AdoptSettings
from modules.adopted.torchvision_models import KNOWN, NAMES, make
from segmentation_module import Segmenter, load_segmenter
from tests.modules.adopting import check_maps, images, library_logits, lively, log_odds, seen
from utils.errors import UserError

MOBILE, LITE = "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = ("background", "cat", "dog", "horse")


class Out(nn.Module):
    """The logits alone of what torchvision's segmenters give."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.network(pixels)["out"]
        return out


def model(name: str, classes: int = 4, aux_loss: bool = False) -> Out:
    """A network of the library, whose norms have statistics of their own."""
    auxiliary = {} if name == LITE else {"aux_loss": aux_loss}
    network = get_model(name, weights=None, weights_backbone=None, num_classes=classes, **auxiliary)
    head: Any = network.classifier
    last = [head.low_classifier, head.high_classifier] if name == LITE else [head[-1]]
    return lively(Out(network), last)


def load(source: str, class_names: Path | None = None, **settings: Any) -> Segmenter:
    return load_segmenter(
        f"torchvision:{source}", device="cpu", settings=AdoptSettings(class_names=class_names, **settings)
    )


def save(network: Out, path: Path) -> str:
    torch.save(network.network.state_dict(), path)
    return str(path)


def check(network: Out, segmenter: Segmenter, pixels: Tensor) -> None:
    """Log-odds to 1e-5, classes to the pixel."""
    logits = library_logits(network, pixels, MEAN, STD, 1)
    assert logits.argmax(1).unique().numel() > 1
    found = seen(segmenter, pixels)
    torch.testing.assert_close(found.double(), log_odds(logits.double()), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    ("name", "aux_loss"),
    [(MOBILE, False), (MOBILE, True), (LITE, False), ("deeplabv3_resnet50", True), ("fcn_resnet50", False)],
)
def test_sees_what_the_library_sees(name: str, aux_loss: bool, tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(name, aux_loss=aux_loss)
    segmenter = load(f"{name}={save(network, tmp_path / 'w.pth')}", names())
    for sides in ((64, 96), (71, 58)):
        check(network, segmenter, images(*sides, count=1))
    check_maps(segmenter.model, torch.rand(1, 3, 70, 64))


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_the_whole_network(name: str) -> None:
    """All weights of the library's network, and no others; the deepest map has the channels that it says."""
    with torch.device("meta"):
        network: Any = get_model(name, weights=None, weights_backbone=None, num_classes=5)
        parts = make({"name": name}, 5)
        maps = parts.body.eval()(torch.empty(1, 3, 64, 64))
        assert maps[-1].shape[1] == parts.out_channels
        assert parts.classifier(parts.head.eval()(maps)).shape[1] == 5

    def count(*modules: nn.Module) -> int:
        return sum(value.numel() for module in modules for value in module.state_dict().values())

    # LRASPP's two classifiers become one, with one bias.
    assert count(parts.body, parts.head, parts.classifier) == count(network) - (5 if name == LITE else 0)


def test_sixty_four_images_and_a_background_in_another_channel(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(MOBILE)
    segmenter = load(
        f"{MOBILE}={save(network, tmp_path / 'w.pth')}", names("cat", "dog", "horse", "nothing"), background="3"
    )
    assert segmenter.description.class_names == ("background", "cat", "dog", "horse")
    pixels = images(64, 64, 64)
    logits = library_logits(network, pixels, MEAN, STD, 1)
    found = seen(segmenter, pixels)
    torch.testing.assert_close(found.double(), log_odds(logits.double())[:, [3, 0, 1, 2]], atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), (logits.argmax(1) + 1) % 4)


def test_without_background(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(LITE)
    segmenter = load(
        f"{LITE}={save(network, tmp_path / 'w.pth')}", names("road", "sky", "car", "tree"), background="none"
    )
    pixels = images(64, 64)
    logits = library_logits(network, pixels, MEAN, STD, 1)
    found = seen(segmenter, pixels)
    torch.testing.assert_close(found[:, 1:].double(), log_odds(logits.double()), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), logits.argmax(1) + 1)


def test_one_channel_is_a_sigmoid(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(LITE, 1)
    segmenter = load(f"{LITE}={save(network, tmp_path / 'w.pth')}", names("cat"))
    pixels = images(64, 64)
    logits = library_logits(network, pixels, MEAN, STD, 1)
    torch.testing.assert_close(seen(segmenter, pixels), torch.cat([-logits, logits], 1), atol=1e-5, rtol=1e-5)


def test_names_of_the_published_weights(
    tmp_path: Path, names: Callable[..., Path], told: pytest.LogCaptureFixture
) -> None:
    """Those with 21 channels see PASCAL VOC's classes, unless the user says otherwise."""
    path = save(model(LITE, 21), tmp_path / "w.pth")
    assert load(f"{LITE}={path}").description.class_names == ("background", *KNOWN[21][1:])
    assert "taken for PASCAL VOC's" in told.text
    told.clear()
    others = load(f"{LITE}={path}", names("background", *(f"class {number}" for number in range(20))))
    assert others.description.class_names[1] == "class 0"
    assert "PASCAL VOC" not in told.text


def test_what_training_scripts_write(
    tmp_path: Path, names: Callable[..., Path], told: pytest.LogCaptureFixture
) -> None:
    """torchvision's reference script keeps more than weights, Lightning and parallel training lengthen their names."""
    network = model(MOBILE, aux_loss=True)
    state = network.network.state_dict()
    torch.save({"model": state, "optimizer": {}, "lr_scheduler": {}, "epoch": 29}, tmp_path / "model_29.pth")
    check(network, load(f"{MOBILE}={tmp_path / 'model_29.pth'}", names()), images(64, 64, 1))
    assert "the weights are those under model" in told.text
    assert "its auxiliary classifier is left out" in told.text
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "parallel.pth")
    check(network, load(f"{MOBILE}={tmp_path / 'parallel.pth'}", names()), images(64, 64, 1))
    lightning = {f"net.{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(4)}
    torch.save({"state_dict": lightning}, tmp_path / "last.ckpt")
    check(network, load(f"{MOBILE}={tmp_path / 'last.ckpt'}", names()), images(64, 64, 1))
    assert "1 tensors beside the network are left out (loss.weight ...)" in told.text


def test_safetensors(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(LITE)
    save_file(network.network.state_dict(), tmp_path / "w.safetensors")
    check(network, load(f"{LITE}={tmp_path / 'w.safetensors'}", names()), images(64, 64, 1))


# ---- what cannot be adopted -------------------------------------------------------------------------------------------


def refusal(source: str, class_names: Path | None = None, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        load(source, class_names, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refused(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(LITE)
    path = tmp_path / "w.pth"
    save(network, path)
    assert "has no segmenter mask2former; choose one of deeplabv3_" in refusal(f"mask2former={path}")
    assert "a file of weights is missing" in refusal(LITE)
    assert "no such file of weights" in refusal(f"{LITE}={tmp_path / 'none.pth'}")
    assert "does not name its 4 classes; give --class_names FILE" in refusal(f"{LITE}={path}")
    assert "3 names" in refusal(f"{LITE}={path}", names("background", "cat", "dog"))
    assert "give --background NAME" in refusal(f"{LITE}={path}", names("a", "b", "c", "d"))
    assert "hold no last convolution" in refusal(f"{MOBILE}={path}", names())
    state = network.network.state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith("backbone.0.")}, path)
    assert "its weights are of another network (6 missing, 0 unexpected" in refusal(f"{LITE}={path}", names())
    torch.save({**state, "classifier.low_classifier.bias": torch.full((4,), torch.inf)}, path)
    assert "NaN or infinity" in refusal(f"{LITE}={path}", names())
    torch.save({**state, "classifier.low_classifier.weight": torch.zeros(())}, path)
    assert "hold no last convolution" in refusal(f"{LITE}={path}", names())
    torch.save({"epoch": 3}, path)
    assert "holds no state dict" in refusal(f"{LITE}={path}", names())
    torch.save(network.network, path)
    assert "save model.state_dict(), not the whole model" in refusal(f"{LITE}={path}", names())
    path.write_bytes(b"PK\x03\x04 and no more")
    assert "damaged" in refusal(f"{LITE}={path}", names())


def test_bodies_of_timm_have_names(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"classifier.4.weight": torch.zeros(4, 256, 1, 1)}, path)
    with pytest.raises(UserError, match=r"^torchvision:deeplabv3_timm:nothing: timm knows no model"):
        load(f"deeplabv3_timm:nothing={path}")
