"""Segmenters of segmentation_models.pytorch, adopted: they see what the library sees."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modules.adopted import make_parts
from modules.adopted.settings import AdoptSettings
from segmentation_module import Segmenter, load_segmenter
from tests.modules.adopting import check_maps, images, library_logits, lively, log_odds, seen
from utils.errors import UserError

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs the extra smp: pip install -e .[smp]")

TINY, TINY_VIT = "tu-test_efficientnet", "tu-test_vit"
SMALL: dict[str, dict[str, Any]] = {
    "Unet": {"decoder_channels": (24, 16, 16, 16, 16), "decoder_attention_type": "scse"},
    "UnetPlusPlus": {"decoder_channels": (16, 12, 8), "encoder_depth": 3, "decoder_use_norm": False},
    "MAnet": {"decoder_channels": (16, 16, 12, 8), "encoder_depth": 4, "decoder_pab_channels": 8},
    "Linknet": {"encoder_depth": 4},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32, "decoder_merge_policy": "cat"},
    "PSPNet": {"psp_out_channels": 24},
    "DeepLabV3": {"decoder_channels": 16, "decoder_aspp_separable": True},
    "DeepLabV3Plus": {"decoder_channels": 16, "decoder_aspp_separable": False, "encoder_depth": 4},
    "PAN": {"decoder_channels": 12, "encoder_depth": 4},
    "UPerNet": {"decoder_channels": 16, "encoder_depth": 4},
    "Segformer": {"decoder_segmentation_channels": 24},
    "DPT": {"decoder_intermediate_channels": (16, 8, 8, 16), "decoder_fusion_channels": 8},
}
# What the library takes as it is; of the others the sides are multiples of these.
MULTIPLES = {"Unet": 1, "UnetPlusPlus": 8, "MAnet": 16, "Linknet": 16, "PSPNet": 8, "DeepLabV3": 8, "UPerNet": 16} | {
    "DeepLabV3Plus": 16,
    "PAN": 16,
    "DPT": 32,
    "FPN": 32,
    "Segformer": 32,
}
NAMES = ("background", "cat", "dog", "horse")


def model(name: str, encoder: str | None = None, classes: int = 4, **arguments: Any) -> Any:
    """A network of the library, whose norms have statistics of their own."""
    encoder = encoder or (TINY_VIT if name == "DPT" else TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = getattr(smp, name)(encoder, encoder_weights=None, classes=classes, **{**SMALL[name], **arguments})
    last = made.segmentation_head.head[4] if name == "DPT" else made.segmentation_head[0]
    return lively(made, [last], side=224 if encoder.endswith("_224") else 128 if name == "PAN" else 64)


def load(source: str, class_names: Path | None, **settings: Any) -> Segmenter:
    return load_segmenter(source, device="cpu", settings=AdoptSettings(class_names=class_names, **settings))


def check(network: nn.Module, segmenter: Segmenter, pixels: Tensor, multiple: int, mean: Any, std: Any) -> None:
    """Log-odds to 1e-5, classes to the pixel."""
    logits = library_logits(network, pixels, mean, std, multiple)
    assert logits.argmax(1).unique().numel() > 1
    found = seen(segmenter, pixels)
    torch.testing.assert_close(found.double(), log_odds(logits.double()), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), logits.argmax(1))


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", SMALL)
def test_folder_sees_what_the_library_sees(name: str, tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(name)
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names())
    stats = HALF if name == "DPT" else IMAGENET
    assert segmenter.description.network["multiple"] == MULTIPLES[name]
    for sides in ((128, 160), (131, 150)):
        check(network, segmenter, images(*sides, count=2), MULTIPLES[name], *stats)
    check_maps(segmenter.model, torch.rand(1, 3, 70, 64))


@pytest.mark.parametrize("name", SMALL)
def test_weights_show_the_architecture(name: str, tmp_path: Path, names: Callable[..., Path]) -> None:
    """Stages of the encoder, channels, norm and attention of the decoder are none of the library's defaults."""
    network = model(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = TINY_VIT if name == "DPT" else TINY
    segmenter = load(f"smp:{name.lower()}:{encoder}={tmp_path / 'weights.pth'}", names())
    check(network, segmenter, images(128, 128, 1), MULTIPLES[name], *(HALF if name == "DPT" else IMAGENET))


def test_as_many_architectures_as_the_library_has() -> None:
    assert {each.__name__ for each in smp._MODEL_ARCHITECTURES} == set(SMALL)


@pytest.mark.parametrize(
    ("name", "encoder", "stats"),
    [
        ("DeepLabV3Plus", "timm-tf_efficientnet_lite0", HALF),
        ("FPN", "tu-tf_efficientnet_lite0.in1k", HALF),
        ("Unet", "resnet18", IMAGENET),
        ("Segformer", "mit_b0", IMAGENET),
        ("Unet", "tu-test_convnext", HALF),
        ("Unet", "timm-mobilenetv3_small_075", HALF),
    ],
)
def test_encoders(name: str, encoder: str, stats: Any, tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model(name, encoder)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    segmenter = load(f"smp:{name}:{encoder}={tmp_path / 'weights.safetensors'}", names())
    check(network, segmenter, images(64, 96, 1), 32, *stats)


def test_sixty_four_images_and_a_background_in_another_channel(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("FPN")
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names("cat", "dog", "Background", "horse"))
    assert segmenter.description.class_names == ("background", "cat", "dog", "horse")
    pixels = images(64, 64, 64)
    logits = library_logits(network, pixels, *IMAGENET, 32)
    turned = log_odds(logits.double())[:, [2, 0, 1, 3]]
    torch.testing.assert_close(seen(segmenter, pixels).double(), turned, atol=1e-5, rtol=1e-5)
    to_channel = torch.tensor([1, 2, 0, 3])
    assert torch.equal(seen(segmenter, pixels).argmax(1), to_channel[logits.argmax(1)])


def test_without_background(tmp_path: Path, names: Callable[..., Path]) -> None:
    """Cityscapes-like label sets: a background is added that never wins."""
    network = model("Unet", activation="softmax2d")
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names("road", "sky", "car", "tree"), background="none")
    assert segmenter.description.class_names == ("background", "road", "sky", "car", "tree")
    pixels = images(96, 64)
    network.segmentation_head[2] = nn.Identity()
    logits = library_logits(network, pixels, *IMAGENET, 1)
    found = seen(segmenter, pixels)
    torch.testing.assert_close(found[:, 1:].double(), log_odds(logits.double()), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1), logits.argmax(1) + 1)


def test_one_channel_is_a_sigmoid(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("Linknet", classes=1)
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names("cat"))
    pixels = images(64, 64)
    logits = library_logits(network, pixels, *IMAGENET, 16)[:, 0]
    found = seen(segmenter, pixels)
    assert segmenter.description.class_names == ("background", "cat")
    torch.testing.assert_close(found[:, 1], logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 0], -logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(1) == 1, logits > 0)
    assert segmenter.description.network["outputs"] == "sigmoid"


def test_sigmoids_stay_as_they_are(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("PSPNet", activation="sigmoid")
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names())
    network.segmentation_head[2] = nn.Identity()
    pixels = images(64, 96)
    logits = library_logits(network, pixels, *IMAGENET, 8)
    torch.testing.assert_close(seen(segmenter, pixels), logits, atol=1e-5, rtol=1e-5)


def test_a_transformer_of_one_size_sees_images_of_any(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("DPT", "tu-vit_tiny_patch16_224", encoder_depth=2, decoder_intermediate_channels=(8, 8))
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names())
    assert segmenter.description.network["size"] == [224, 224]
    check(network, segmenter, images(224, 224, 1), 16, *HALF)
    assert segmenter.logits(images(50, 70, 1)).shape == (1, 4, 50, 70)


def test_images_that_are_too_small(tmp_path: Path, names: Callable[..., Path]) -> None:
    """PAN halves its deepest map three times; its edges are repeated until it can."""
    network = model("PAN", encoder_depth=3)
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names())
    check(network, segmenter, images(20, 33), 64, *IMAGENET)


def test_images_as_they_were_trained_on(tmp_path: Path, names: Callable[..., Path]) -> None:
    """Blue first, from 0 to 255."""
    network = model("Linknet")
    network.save_pretrained(tmp_path / "saved")
    segmenter = load(f"smp:{tmp_path / 'saved'}", names(), image_stats="0-255", bgr=True)
    pixels = images(64, 64)
    logits = library_logits(network, pixels.flip(1), (0, 0, 0), (1 / 255,) * 3, 16)
    torch.testing.assert_close(seen(segmenter, pixels).double(), log_odds(logits.double()), atol=1e-5, rtol=1e-4)


def test_what_is_guessed_or_left_out_is_told(
    tmp_path: Path, names: Callable[..., Path], told: pytest.LogCaptureFixture
) -> None:
    network = model("DeepLabV3", aux_params={"classes": 2})
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "mean": torch.zeros(3)}, "epoch": 3}, tmp_path / "last.ckpt")
    segmenter = load(f"smp:DeepLabV3:{TINY}={tmp_path / 'last.ckpt'}", names())
    assert "under state_dict" in told.text
    assert "1 tensors beside the network are left out (mean ...)" in told.text
    assert "classifies whole images is left out" in told.text
    assert "do not show encoder_output_stride 8, decoder_atrous_rates [12, 24, 36]" in told.text
    assert "mean [0.485, 0.456, 0.406]" in told.text
    network.classification_head = None
    check(network, segmenter, images(64, 64), 8, *IMAGENET)


def test_names_of_earlier_versions(tmp_path: Path, names: Callable[..., Path]) -> None:
    """DeepLabV3's decoder was a list, norms were asked for otherwise, and weights lay in torch's own file."""
    network = model("DeepLabV3")
    new = ("decoder.aspp.", "decoder.conv.", "decoder.bn.")
    state = network.state_dict()
    for number, start in enumerate(new):
        state = {
            key.replace(start, f"decoder.{number}.") if key.startswith(start) else key: v for key, v in state.items()
        }
    torch.save(state, tmp_path / "old.pth")
    check(network, load(f"smp:DeepLabV3:{TINY}={tmp_path / 'old.pth'}", names()), images(64, 64), 8, *IMAGENET)
    network = model("Linknet", decoder_use_norm=False)
    network.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    config["decoder_use_batchnorm"] = config.pop("decoder_use_norm")
    (tmp_path / "saved/config.json").write_text(json.dumps(config))
    (tmp_path / "saved/model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "saved/pytorch_model.bin")
    check(network, load(f"smp:{tmp_path / 'saved'}", names()), images(64, 64), 16, *IMAGENET)


def test_made_again_from_plain_values(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("Unet")
    network.save_pretrained(tmp_path / "saved")
    described = load(f"smp:{tmp_path / 'saved'}", names()).description.network
    again = json.loads(json.dumps(described))
    parts = make_parts(again, 4)
    assert [value.shape for value in parts.head.state_dict().values()] == [
        value.shape for value in network.decoder.state_dict().values()
    ]
    assert parts.classifier.weight.shape == network.segmentation_head[0].weight.shape


# ---- what cannot be adopted -------------------------------------------------------------------------------------------


def refusal(source: str, class_names: Path | None = None, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        load(source, class_names, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refused_settings(tmp_path: Path, names: Callable[..., Path]) -> None:
    model("Linknet").save_pretrained(tmp_path / "saved")
    source = f"smp:{tmp_path / 'saved'}"
    assert "does not name its 4 classes; give --class_names FILE" in refusal(source)
    assert "3 names" in (text := refusal(source, names("background", "cat", "dog"))) and "4 channels" in text
    assert "give --background NAME" in refusal(source, names("a", "b", "c", "d"))
    assert "--background e: no class" in refusal(source, names("a", "b", "c", "d"), background="e")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_model_class": "SAM"}, "a SAM cannot be adopted, only Unet"),
        ({"_model_class": None}, "a None cannot be adopted"),
        ({"encoder_name": "resnet19"}, "there is no encoder resnet19"),
        ({"encoder_name": "tu-hf-hub:someone/something"}, "is no name of an encoder"),
        ({"encoder_name": ["resnet18"]}, "is no name of an encoder"),
        ({"encoder_depth": 5}, "config.json says encoder_depth 5, its weights show 4"),
        ({"classes": 5}, "config.json says classes 5, its weights show 4"),
        ({"in_channels": 4}, "takes images of 4 channels"),
        ({"activation": "tanh"}, "its activation tanh is neither softmax nor sigmoid"),
        ({"checkpoint_path": "other.pth"}, "its checkpoint_path would read other files"),
        ({"decoder_use_norm": "none"}, "the library cannot make this Linknet"),
        ({"decoder_use_norm": "identity"}, "its weights are not of Linknet"),
        ({"width": 10**9}, "its width is no argument of a network"),
    ],
)
def test_refused_folders(change: dict[str, Any], words: str, tmp_path: Path, names: Callable[..., Path]) -> None:
    model("Linknet").save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in refusal(f"smp:{tmp_path / 'saved'}", names())


def test_damaged_folders(tmp_path: Path, names: Callable[..., Path]) -> None:
    folder = tmp_path / "saved"
    model("Linknet").save_pretrained(folder)
    source = f"smp:{folder}"
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "damaged or not a safetensors file" in refusal(source, names())
    (folder / "model.safetensors").unlink()
    assert "holds no model.safetensors" in refusal(source, names())
    (folder / "config.json").write_text('{"_model_class": ')
    assert "damaged: no JSON" in refusal(source, names())
    (folder / "config.json").write_text("[]")
    assert "does not name its architecture" in refusal(source, names())
    (folder / "config.json").unlink()
    assert "a folder of save_pretrained is needed" in refusal(source, names())


def test_refused_files(tmp_path: Path, names: Callable[..., Path]) -> None:
    network = model("FPN")
    path = tmp_path / "weights.pth"
    state = network.state_dict()
    torch.save(state, path)
    assert "no such folder; write smp:FOLDER" in refusal(f"smp:{tmp_path / 'none'}", names())
    assert "no such file of weights" in refusal(f"smp:FPN:{TINY}={tmp_path / 'none.pth'}", names())
    assert "a UNETR cannot be adopted" in refusal(f"smp:UNETR:{TINY}={path}", names())
    assert "hold no decoder.blocks.0.block.0.0.weight" not in refusal(f"smp:Linknet:{TINY}={path}", names())
    assert "are they a PAN's state dict?" in refusal(f"smp:PAN:{TINY}={path}", names())
    text = refusal(f"smp:FPN:resnet18={path}", names())
    assert "not of FPN with encoder resnet18" in text and "missing" in text and "unexpected" in text
    torch.save({**state, "decoder.p5.bias": torch.full_like(state["decoder.p5.bias"], torch.nan)}, path)
    assert "NaN" in refusal(f"smp:FPN:{TINY}={path}", names())
    torch.save({"epoch": 3}, path)
    assert "holds no state dict" in refusal(f"smp:FPN:{TINY}={path}", names())
    torch.save(network, path)
    assert "save model.state_dict(), not the whole model" in refusal(f"smp:FPN:{TINY}={path}", names())
    path.write_bytes(b"")
    assert "it is empty" in refusal(f"smp:FPN:{TINY}={path}", names())


def test_nothing_is_fetched(tmp_path: Path, names: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the encoder's weights, which the folder names, nor its normalisation."""
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    network = model("Unet", "resnet18", decoder_attention_type=None)
    network.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder_weights": "imagenet"}))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    load(f"smp:{tmp_path / 'saved'}", names())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, names: Callable[..., Path]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    assert "pip install -e .[smp]" in refusal("smp:somewhere", names())
