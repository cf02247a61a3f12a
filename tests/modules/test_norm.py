"""Activated batch norm: the two arithmetics, and synchronisation that does synchronise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from modules import norm
from modules.resnet import Bottleneck
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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["iabn", "abn"])
@pytest.mark.parametrize("kind", ["leaky_relu", "identity", "added"])
def test_gradient(name: str, training: bool, kind: str) -> None:
    layer = filled(name, 3).train(training)
    layer.activation = "identity" if kind == "identity" else "leaky_relu"
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    shortcut = torch.randn_like(x, requires_grad=True)

    def call(weight: Tensor, bias: Tensor, *inputs: Tensor) -> Tensor:
        own = {"weight": weight, "bias": bias}
        if kind == "added":
            return torch.func.functional_call(Adding(layer), {f"layer.{k}": v for k, v in own.items()}, inputs)
        return torch.func.functional_call(layer, own, inputs)

    inputs = (x, shortcut) if kind == "added" else (x,)
    assert torch.autograd.gradcheck(call, (layer.weight, layer.bias, *inputs))


class Adding(nn.Module):
    """Calls ``add``, as a bottleneck does."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        assert isinstance(self.layer, norm.ActivatedNorm)
        return self.layer.add(x, shortcut, 0.01)


def keep_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the layers keep their inputs, as torch's batch norm does."""
    monkeypatch.setattr(norm.ActivatedNorm, "_inverts", lambda *_: False)


def gradients(
    name: str, dtype: torch.dtype, training: bool, added: bool, weight: list[float], bias: list[float]
) -> list[Tensor]:
    """Output, running mean and gradients of a layer for images in ``dtype``."""
    torch.manual_seed(5)
    layer = filled(name, len(weight)).float().train(training)
    layer.load_state_dict(layer.state_dict() | {"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    layer = layer.double() if dtype == torch.float64 else layer
    x, shortcut, grad = (torch.randn(4, len(weight), 12, 12).to(torch.bfloat16).to(dtype) for _ in range(3))
    x.requires_grad_(), shortcut.requires_grad_()
    y = Adding(layer)(x, shortcut) if added else layer(x)
    y.backward(grad + x.detach() / 4)
    found = [
        y.detach(),
        layer.running_mean,
        x.grad,
        layer.weight.grad,
        layer.bias.grad,
        *([shortcut.grad] if added else []),
    ]
    return [one.double() for one in found if one is not None]


WEIGHTS = [1.0, -0.5, 0.3, 2.0, 1e-3, 0.0]
BIASES = [0.0, 0.3, -0.4, 1.0, 2.0, -1.0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("name", ["iabn", "abn"])
def test_keeping_the_output_alone_is_as_exact(
    name: str, added: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels have scales by which nothing can be divided: a thousandth with a bias of 2, and (for ``abn``) none at all."""
    arguments = training, added, WEIGHTS, BIASES
    ours = {dtype: gradients(name, dtype, *arguments) for dtype in (torch.float32, torch.bfloat16)}
    keep_both(monkeypatch)
    exact = gradients(name, torch.float64, *arguments)
    for dtype, found in ours.items():
        theirs = gradients(name, dtype, *arguments)
        assert torch.equal(found[0], theirs[0]) and torch.equal(found[1], theirs[1])
        for one, other, truth in zip(found[2:], theirs[2:], exact[2:], strict=True):
            if dtype == torch.float32:
                torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6 * float(other.abs().max()))
            # Channel by channel, or that of a small scale would be lost in the others.
            dims = [d for d in range(one.dim()) if d != 1] if one.dim() > 1 else []
            scale = truth.square().sum(dims).sqrt() if dims else truth.abs().max()
            error, theirs_error = (
                (value - truth).square().sum(dims).sqrt() if dims else (value - truth).abs() for value in (one, other)
            )
            unit = torch.finfo(dtype).eps
            assert (error <= 1.3 * theirs_error + unit * scale).all(), (dtype, error / scale, theirs_error / scale)


def test_small_scales_are_what_would_go_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without their inputs such channels have no gradient to speak of."""
    weight, bias = [1.0, 1e-4], [0.0, 2.0]
    arguments = "iabn", torch.bfloat16, True, False, weight, bias
    exact = gradients("iabn", torch.float64, True, False, weight, bias)[3]
    assert torch.allclose(gradients(*arguments)[3], exact, rtol=0.02)
    monkeypatch.setattr(norm, "least_scale", lambda bias, *_: torch.full_like(bias, 1e-12))
    assert not torch.allclose(gradients(*arguments)[3], exact, rtol=0.5)


def test_a_bottleneck_keeps_half(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Bottleneck(64, 16, 64, norm.make_norm("iabn"), 1, 1)

    def kept() -> int:
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            block(torch.randn(2, 64, 32, 32, requires_grad=True))
        weights = sum(p.numel() for p in block.parameters())
        return sum(storage.nbytes() for storage in storages.values()) - 4 * weights

    ours = kept()
    keep_both(monkeypatch)
    # Of sizes 4, 1, 1, 1, 1, 4 and 4 the norms' inputs, 1, 1 and 4, are not kept; the first 4 is the input.
    assert ours / kept() == pytest.approx(10 / 16, abs=0.02)


def test_writing_over_the_output_is_refused() -> None:
    y = filled("iabn").float()(torch.randn(2, 5, 3, 3, requires_grad=True))
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_compiled_layer_trains_the_same() -> None:
    layer = filled("iabn").float()
    block = nn.Sequential(nn.Conv2d(3, 5, 1), layer)
    x = torch.randn(2, 3, 8, 8)
    found = []
    for run in (block, torch.compile(block, backend="aot_eager", fullgraph=True)):
        block.zero_grad()
        loss = run(x).square().sum()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in block.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


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


# torch's kernels behind nn.SyncBatchNorm are for GPUs. What they are documented to compute, in plain torch:


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)), (x.var((0, 2, 3), correction=0) + eps).rsqrt()


def batch_norm_gather_stats_with_counts(
    x: Tensor,
    means: Tensor,
    rstds: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    weight, total = counts[:, None], counts.sum()
    mean = (means * weight).sum(0) / total
    squares = ((rstds**-2 - eps + means**2) * weight).sum(0)
    var = squares / total - mean**2
    running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
    running_var.copy_((1 - momentum) * running_var + momentum * var * total / (total - 1))
    return mean, (var + eps).rsqrt()


def batch_norm_elemt(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> Tensor:
    mean, rstd, weight, bias = (one[:, None, None] for one in (mean, rstd, weight, bias))
    return (x - mean) * rstd * weight + bias


def batch_norm_backward_reduce(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, *_: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sum_grad = grad.sum((0, 2, 3))
    sum_product = (grad * (x - mean[:, None, None])).sum((0, 2, 3))
    return sum_grad, sum_product, sum_product * rstd, sum_grad.clone()


def batch_norm_backward_elemt(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    sum_grad: Tensor,
    sum_product: Tensor,
    counts: Tensor,
) -> Tensor:
    assert counts.dtype == torch.int32
    mean, rstd, weight, sum_grad, sum_product = (
        one[:, None, None] for one in (mean, rstd, weight, sum_grad, sum_product)
    )
    total = counts.sum()
    return (grad - sum_grad / total - (x - mean) * rstd**2 * sum_product / total) * rstd * weight


STAND_INS = (
    batch_norm_stats, batch_norm_gather_stats_with_counts, batch_norm_elemt, batch_norm_backward_reduce, batch_norm_backward_elemt,
)  # fmt: skip


class Added(nn.Module):
    """A layer whose output is added to a shortcut, as in a bottleneck."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return Adding(self.layer)(x, x.flip(1))


def layers() -> dict[str, nn.Module]:
    """Layers that are to synchronise, and one that is not, as a control."""
    torch.manual_seed(3)
    timm_layer = norm.convert_sync(nn.Sequential(BatchNormAct2d(5).double()))
    plain = norm.convert_sync(nn.Sequential(nn.BatchNorm2d(5).double()))
    return {
        "iabn_sync": filled("iabn_sync"),
        "abn_sync": filled("abn_sync"),
        "added": Added(filled("iabn_sync")),
        "timm": timm_layer,
        "torch": plain,
        "control": filled("iabn"),
    }


def pass_through(layer: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    layer.train()
    layer.zero_grad()
    y = layer(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    buffers = {k: v.clone() for k, v in layer.state_dict().items() if "running" in k}
    grads = {f"grad {k}": p.grad.clone() for k, p in layer.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "grad x": x.grad, **buffers, **grads}


def data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    shape = (sum(COUNTS), 5, 4, 3)
    scale = torch.tensor([1.0, 1.0, 1.0, 5.0]).view(-1, 1, 1, 1)
    return torch.randn(shape, generator=g, dtype=torch.float64) * scale, torch.randn(
        shape, generator=g, dtype=torch.float64
    )


def shares(device: str = "cpu", dtype: torch.dtype = torch.float64) -> dict[str, dict[str, Tensor]]:
    """What each layer gives for this rank's share of the batch."""
    rank = torch.distributed.get_rank()
    begin = sum(COUNTS[:rank])
    x, weights = (one[begin : begin + COUNTS[rank]].to(device, dtype) for one in data())
    found = {name: pass_through(layer.to(device, dtype), x, weights) for name, layer in layers().items()}
    return {name: {key: value.cpu() for key, value in values.items()} for name, values in found.items()}


def one_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(COUNTS)
    )
    torch.save(shares(), f"{folder}/own-{rank}.pt")
    norm._fused = lambda _: True
    for kernel in STAND_INS:
        setattr(torch, kernel.__name__, kernel)
    torch.save(shares(), f"{folder}/kernels-{rank}.pt")
    torch.distributed.destroy_process_group()


def one_rank_of_a_gpu(rank: int, folder: str) -> None:
    torch.cuda.set_device(0)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(COUNTS)
    )
    found = {"double": shares("cuda"), "single": shares("cuda", torch.float32)}
    norm._fused = lambda _: False
    own = {"double": shares("cuda"), "single": shares("cuda", torch.float32)}
    torch.save({"kernels": found, "own": own}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU: torch's kernels of synchronised batch norm are not run"
)
def test_the_kernels_of_a_gpu_compute_what_ours_do(tmp_path: Path) -> None:
    """Two processes on one card: fused kernels against separate operations."""
    mp.start_processes(one_rank_of_a_gpu, (str(tmp_path),), nprocs=len(COUNTS), start_method="spawn")
    for rank in range(len(COUNTS)):
        found = torch.load(tmp_path / f"{rank}.pt")
        for precision, tolerance in (("double", 1e-10), ("single", 2e-6)):
            kernels, own = found["kernels"][precision], found["own"][precision]
            for name in own:
                for key, value in own[name].items():
                    largest = max(1.0, float(value.abs().max()))
                    torch.testing.assert_close(
                        kernels[name][key],
                        value,
                        rtol=0,
                        atol=tolerance * largest,
                        msg=lambda t, at=(name, key): f"{at}: {t}",
                    )


@pytest.fixture(scope="module")
def ranks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks made of the data."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(one_rank, (str(folder),), nprocs=len(COUNTS), start_method="spawn")
    return folder


@pytest.mark.parametrize("kind", ["own", "kernels"])
def test_two_ranks_normalise_as_one(kind: str, ranks_folder: Path) -> None:
    """Unequal shares of a batch on two ranks give what one process gives on the whole batch.

    By separate operations, and by way of the kernels that a GPU has.
    """
    found = [torch.load(ranks_folder / f"{kind}-{rank}.pt") for rank in range(len(COUNTS))]
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
