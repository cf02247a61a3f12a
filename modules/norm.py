"""Activated batch norm: batch norm and leaky ReLU in one layer, synchronised over all ranks where asked for.

In-Place ABN 1.x (arXiv 1712.02616) scales by |weight| + eps, plain ABN by weight; the layer's name tells which. Our
own layers run on CPU and GPU alike, under autocast and torch.compile; ``inplace_abn`` uses the package of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from utils.errors import UserError
from utils.names import NORMS

SLOPE = 0.01
EPS = 1e-5
MOMENTUM = 0.1


def ranks() -> int:
    """Number of processes that normalise together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SyncBatchNorm(torch.autograd.Function):
    """Batch norm with the statistics of all ranks: one collective forward, one backward, in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        precise = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        channels = x.shape[1]
        dims = [0, *range(2, x.dim())]
        var, mean = torch.var_mean(precise, dims, correction=0)
        count = x.numel() // channels
        own = torch.cat([mean, var, mean.new_full((1,), count)])
        gathered = own.new_empty(ranks(), len(own))
        dist.all_gather(list(gathered.unbind(0)), own)
        means, variances, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        # Chan's rule: variance within the ranks plus variance of their means.
        var = ((variances + (means - mean).square()) * counts).sum(0) / total
        rstd = (var + eps).rsqrt()
        shape = [1, -1] + [1] * (x.dim() - 2)
        normalised = (precise - mean.view(shape)) * rstd.view(shape)
        y = (normalised * weight.view(shape) + bias.view(shape)).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, rstd, total)
        ctx.mark_non_differentiable(mean, var, total)
        return y, mean, var, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, rstd, total = ctx.saved_tensors
        precise = x.to(mean.dtype)
        grad_precise = grad.to(mean.dtype)
        shape = [1, -1] + [1] * (x.dim() - 2)
        dims = [0, *range(2, x.dim())]
        normalised = (precise - mean.view(shape)) * rstd.view(shape)
        grad_bias = grad_precise.sum(dims)
        grad_weight = (grad_precise * normalised).sum(dims)
        # The gradients of weight and bias stay local, DDP averages them; the input's needs the sums of all ranks.
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / total).unbind(0)
        inner = grad_precise - mean_grad.view(shape) - normalised * mean_product.view(shape)
        grad_x = inner * (weight * rstd).view(shape)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    training: bool,
    momentum: float,
    eps: float,
    synchronised: bool,
) -> Tensor:
    """Batch norm of ``x`` (B, C, ...); in training the running statistics are updated in place.

    Raises:
        UserError: training on a single value per channel, which has no variance.
    """
    if training and synchronised and ranks() > 1:
        y, mean, var, total = _SyncBatchNorm.apply(x, weight, bias, eps)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (total / (total - 1))).to(running_var.dtype), momentum)
        return y
    if training and x.numel() == x.shape[1]:
        raise UserError("batch norm needs more than one value per channel: train with at least 2 images per batch")
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


class ActivatedNorm(nn.Module):
    """Batch norm followed by leaky ReLU, or by nothing.

    Args:
        channels: C of the input (B, C, H, W).
        absolute: scale by |weight| + eps (In-Place ABN) instead of weight.
        synchronised: share the statistics of a batch among all ranks.
    """

    def __init__(self, channels: int, *, absolute: bool, synchronised: bool) -> None:
        super().__init__()
        self.absolute, self.synchronised = absolute, synchronised
        self.activation, self.activation_param = "leaky_relu", SLOPE
        self.eps, self.momentum = EPS, MOMENTUM
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        weight = self.weight.abs() + self.eps if self.absolute else self.weight
        y = batch_norm(
            x,
            weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            synchronised=self.synchronised,
        )
        if self.activation == "identity":
            return y
        # In place: batch norm's backward looks at its input, not at its output.
        return F.leaky_relu_(y, self.activation_param)

    def extra_repr(self) -> str:
        """Sizes and choices, for ``print(layer)``."""
        kind = "|weight| + eps" if self.absolute else "weight"
        return f"{len(self.weight)}, scale={kind}, synchronised={self.synchronised}, activation={self.activation}"


def _package(synchronised: bool) -> Callable[[int], nn.Module]:
    try:
        import inplace_abn
    except ImportError as error:
        raise UserError(
            "--norm_act inplace_abn: the package inplace-abn is not installed "
            '(pip install "setuptools<81" "setuptools_scm<9" wheel, then '
            "pip install --no-build-isolation --no-deps inplace-abn); iabn_sync computes the same without it"
        ) from error
    layer = inplace_abn.InPlaceABNSync if synchronised else inplace_abn.InPlaceABN

    def make(channels: int) -> nn.Module:
        # The package's layer does not synchronise unless it is given its group.
        group = {"group": dist.group.WORLD} if synchronised and ranks() > 1 else {}
        return layer(channels, activation_param=SLOPE, eps=EPS, momentum=MOMENTUM, **group)

    return make


def make(name: str) -> Callable[[int], nn.Module]:
    """Constructor of a layer of this file, channels -> layer; the name says which.

    ``abn`` scales by weight, ``iabn`` by |weight| + eps; ``_sync`` shares statistics among the ranks; ``inplace_`` is the package's layer.

    Raises:
        UserError: the package is not installed.
    """
    synchronised = name.endswith("_sync")
    if name.startswith("inplace_"):
        return _package(synchronised)
    return partial(ActivatedNorm, absolute=arithmetic(name) == "iabn", synchronised=synchronised)


def make_norm(name: str) -> Callable[[int], nn.Module]:
    """Constructor of the norm layer called ``name``: channels -> layer.

    Args:
        name: a key of ``NORMS`` in ``utils/names.py``. A new norm is one line there, and a file with ``make(name)``.

    Raises:
        UserError: no such norm, or its package is not installed.
    """
    if name not in NORMS:
        raise UserError(f"--norm_act {name}: unknown; choose one of {', '.join(NORMS)}")
    constructor: Callable[[int], nn.Module] = import_module(NORMS[name]).make(name)
    return constructor


def arithmetic(name: str) -> str:
    """The norm that computes the same as the one called ``name`` on one rank and without a package.

    ``iabn`` scales by |weight| + eps, ``abn`` by weight; a norm of another file stands for itself.
    """
    if NORMS.get(name, __name__) != __name__:
        return name
    return "abn" if name.startswith("abn") else "iabn"


class SyncBatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm with the statistics of all ranks, on CPU and GPU; same state-dict keys."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        assert self.running_mean is not None and self.running_var is not None
        momentum = MOMENTUM if self.momentum is None else self.momentum
        return batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=momentum,
            eps=self.eps,
            synchronised=True,
        )


class SyncBatchNormAct2d(SyncBatchNorm2d):
    """timm's batch norm with its activation, synchronised."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.act(self.drop(super().forward(x)))


def convert_sync(module: nn.Module) -> nn.Module:
    """Make every torch or timm batch norm inside ``module`` synchronise; the state dict keeps its keys and values."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncBatchNorm2d):
            # The layers differ from their parents in forward alone.
            activated = hasattr(child, "act") and hasattr(child, "drop")
            child.__class__ = SyncBatchNormAct2d if activated else SyncBatchNorm2d
    return module


def is_norm(module: nn.Module) -> bool:
    """Whether a module keeps running statistics: ours, torch's, timm's and those of the package inplace-abn."""
    return "running_mean" in module._buffers
