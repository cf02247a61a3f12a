"""Networks against the reference: keys, forward passes, running statistics, initialisation of new classifiers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from modules.bodies import make_body
from modules.localizer import make_localizer
from modules.norm import make_norm
from segmentation_module import IncrementalSegmentationModule, make_model
from tests.golden_fill import fill_state
from utils.errors import UserError

NETWORKS = ("resnet50", "resnet101", "wider_resnet38_a2")


def close(found: torch.Tensor, expected: np.ndarray, what: str) -> None:
    np.testing.assert_allclose(
        found.detach().numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(), err_msg=what
    )


def model_for(backbone: str, stride: int, classes: list[int], pooling: int) -> IncrementalSegmentationModule:
    return make_model(backbone=backbone, output_stride=stride, norm_act="iabn", classes=classes, pooling=pooling)


@pytest.mark.golden
@pytest.mark.parametrize("backbone", NETWORKS)
def test_forward_equals_the_reference(golden: Path, backbone: str) -> None:
    files = sorted(golden.glob(f"network_{backbone}_stride*.npz"))
    if not files:
        pytest.skip(f"{golden} has no network_{backbone}_*")
    for file in files:
        data = dict(np.load(file))
        stride, total = int(file.stem.rpartition("stride")[2]), data["eval_logits"].shape[1]
        model = model_for(backbone, stride, [16, total - 16], int(data["pooling"])).double()
        fill_state(model)
        images = torch.from_numpy(data["image"])
        with torch.no_grad():
            for mode in ("eval", "train"):
                if f"{mode}_logits" not in data:
                    continue
                output = model.train(mode == "train")(images, interpolate=False)
                close(output.logits, data[f"{mode}_logits"], f"{file.name} {mode} logits")
                close(output.features["body"][:, :64], data[f"{mode}_body_first64"], f"{file.name} {mode} body")
                close(output.features["mid"][:, :16], data[f"{mode}_mid_first16"], f"{file.name} {mode} mid")
                close(output.features["head"], data[f"{mode}_head"], f"{file.name} {mode} head")
                if mode == "eval":
                    full = model(images).logits
                    assert full.shape[-2:] == images.shape[-2:]
                    close(full.mean((2, 3)), data["eval_interpolated_mean"], f"{file.name} interpolated")
        if "running_mean_after_bn1" in data:
            state = model.state_dict()
            close(state["body.mod1.bn1.running_mean"], data["running_mean_after_bn1"], "running mean")
            close(state["head.red_bn.running_var"], data["running_var_after_head"], "running variance")


@pytest.mark.golden
@pytest.mark.parametrize("backbone", NETWORKS)
def test_keys_equal_the_published(golden: Path, backbone: str) -> None:
    expected = json.loads((golden / f"state_dict_keys_{backbone}.json").read_text())
    classes = [shape[0] for key, shape in expected if key.startswith("cls.") and key.endswith("weight")]
    model = model_for(backbone, 8, classes, 8)
    assert [[key, list(value.shape)] for key, value in model.state_dict().items()] == expected


@pytest.mark.golden
def test_localizer_keys_equal_the_published(golden: Path) -> None:
    expected = json.loads((golden / "state_dict_keys_localizer.json").read_text())
    channels, classes = expected[0][1][1], expected[-1][1][0]
    localizer = make_localizer(channels, classes, make_norm("iabn"))
    assert [[key, list(value.shape)] for key, value in localizer.state_dict().items()] == expected


@pytest.mark.golden
def test_balanced_initialisation(golden: Path) -> None:
    data = dict(np.load(golden / "init_balanced.npz"))
    classes = [len(data["0_bias"]), len(data["1_bias"])]
    model = model_for("resnet50", 16, classes, 4).double()
    fill_state(model)
    model.init_new_classifier()
    for index in (0, 1):
        close(model.cls[index].weight, data[f"{index}_weight"], "weight")
        close(model.cls[index].bias, data[f"{index}_bias"], "bias")


def test_pooling_makes_large_images_behave_as_crops() -> None:
    """In evaluation the pooled branch sees windows of a training crop's size; on a crop itself it is the global mean."""
    model = model_for("resnet50", 16, [3], pooling=4).eval()
    x = torch.randn(1, 2048, 4, 4)
    pooled = model.head._pool(x)
    torch.testing.assert_close(pooled, x.mean((2, 3), keepdim=True).expand_as(x))
    wide = torch.randn(1, 2048, 9, 7)
    assert model.head._pool(wide).shape == wide.shape
    torch.testing.assert_close(model.head._pool(wide)[:, :, 1, 1], wide[:, :, :4, :4].mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "stride"), [("timm:tf_efficientnet_lite0", 16), ("timm:resnet10t", 8), ("timm:mobilenetv3_small_050", 16)]
)
def test_timm_bodies(name: str, stride: int) -> None:
    body = make_body(name, stride, make_norm("iabn")).eval()
    features, mid = body(torch.randn(1, 3, 64, 96))
    assert features.shape == (1, body.out_channels, 64 // stride, 96 // stride)
    assert mid.shape[1] == body.mid_channels and mid.shape[2] >= features.shape[2]


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("timm:nosuchnet", 16, "timm knows no model"),
        ("timm:vit_tiny_patch16_224", 8, "vit_tiny_patch16_224"),
        ("timm:swin_tiny_patch4_window7_224", 16, "swin_tiny"),
        ("wider_resnet38_a2", 16, "give --output_stride 8"),
        ("vgg", 16, "--backbone vgg: unknown"),
    ],
)
def test_bodies_that_cannot_be_had(name: str, stride: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_body(name, stride, make_norm("iabn"))
