"""Activated batch norm: the two arithmetics, and synchronisation that does synchronise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from modules import norm
from utils.errors import UserError


def filled(name: str, channels: int = 5) -> nn.Module:
    torch.manual_seed(0)
    layer = norm.make_norm(name)(channels).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["iabn", "abn", "iabn_sync"])
def test_arithmetic(name: str, training: bool) -> None:
    layer = filled(name).train(training)
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    mean, var = (
        (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))
        if training
        else (layer.running_mean.clone(), layer.running_var.clone())
    )
    old_mean = layer.running_mean.clone()
    scale = layer.weight.abs() + 1e-5 if name.startswith("iabn") else layer.weight
    shape = (1, -1, 1, 1)
    expected = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * scale.view(shape) + layer.bias.view(shape)
    torch.testing.assert_close(layer(x), F.leaky_relu(expected, 0.01), rtol=1e-12, atol=1e-12)
    if training:
        torch.testing.assert_close(layer.running_mean, 0.9 * old_mean + 0.1 * mean)
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    layer.activation = "identity"
    torch.testing.assert_close(
        layer.eval()(x), F.batch_norm(x, layer.running_mean, layer.running_var, scale, layer.bias)
    )


def test_gradient() -> None:
    layer = filled("iabn", 3)
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_package(training: bool) -> None:
    """Our layer against inplace-abn's, where that is installed: outputs, gradients, running statistics."""
    pytest.importorskip("inplace_abn", reason="the optional package inplace-abn is not installed")
    ours, theirs = filled("iabn").train(training), filled("inplace_abn").train(training)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        torch.manual_seed(1)
        x = torch.randn(3, 5, 4, 6, dtype=torch.float64, requires_grad=True)
        y = layer(x.clone())
        y.square().sum().backward()
        results.append([y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var])
    for a, b in zip(*results, strict=True):
        # The package's kernels take the slope 0.01 as a float32, which is 2.2e-8 off.
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def test_single_value_is_refused_in_one_line() -> None:
    layer = norm.make_norm("iabn")(4).train()
    with pytest.raises(UserError, match="at least 2 images"):
        layer(torch.randn(1, 4, 1, 1))
    layer.eval()(torch.randn(1, 4, 1, 1))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "inplace_abn", None)
    with pytest.raises(UserError, match="inplace-abn is not installed"):
        norm.make_norm("inplace_abn")


def test_autocast_keeps_dtype() -> None:
    layer = norm.make_norm("iabn")(4).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(2, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32


# --- two ranks -------------------------------------------------------------------------------------------------------

COUNTS = (3, 1)


def layers() -> dict[str, nn.Module]:
    """Layers that are to synchronise, and one that is not, as a control."""
    torch.manual_seed(3)
    timm_layer = norm.convert_sync(nn.Sequential(BatchNormAct2d(5).double()))
    plain = norm.convert_sync(nn.Sequential(nn.BatchNorm2d(5).double()))
    return {
        "iabn_sync": filled("iabn_sync"),
        "abn_sync": filled("abn_sync"),
        "timm": timm_layer,
        "torch": plain,
        "control": filled("iabn"),
    }


def pass_through(layer: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    layer.train()
    layer.zero_grad()
    y = layer(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    buffers = {k: v.clone() for k, v in layer.state_dict().items() if "running" in k}
    grads = {f"grad {k}": p.grad.clone() for k, p in layer.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "grad x": x.grad, **buffers, **grads}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(4)
    shape = (sum(COUNTS), 5, 4, 3)
    scale = torch.tensor([1.0, 1.0, 1.0, 5.0]).view(-1, 1, 1, 1)
    return torch.randn(shape, generator=g, dtype=torch.float64) * scale, torch.randn(
        shape, generator=g, dtype=torch.float64
    )


def one_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(COUNTS)
    )
    x, weights = data()
    begin = sum(COUNTS[:rank])
    mine = slice(begin, begin + COUNTS[rank])
    torch.save({k: pass_through(layer, x[mine], weights[mine]) for k, layer in layers().items()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_normalise_as_one(tmp_path: Path) -> None:
    """Unequal shares of a batch on two ranks give what one process gives on the whole batch."""
    mp.start_processes(one_rank, (str(tmp_path),), nprocs=len(COUNTS), start_method="spawn")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(COUNTS))]
    x, weights = data()
    for name, layer in layers().items():
        expected = pass_through(layer, x, weights)
        same = []
        for key, value in expected.items():
            parts = [result[name][key] for result in found]
            if key in ("y", "grad x"):
                together = torch.cat(parts)
            elif key.startswith("grad"):
                together = sum(parts)
            else:
                torch.testing.assert_close(parts[0], parts[1], rtol=0, atol=0 if name != "control" else 10)
                together = parts[0]
            same.append(torch.allclose(together, value, rtol=1e-10, atol=1e-10))
        assert all(same) == (name != "control"), name
