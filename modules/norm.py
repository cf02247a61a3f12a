"""Activated batch norm: batch norm and leaky ReLU in one layer, synchronised over all ranks where asked for.

In-Place ABN 1.x (arXiv 1712.02616) scales by |weight| + eps, plain ABN by weight; the layer's name tells which. Our
own layers run on CPU and GPU alike, under autocast and torch.compile; ``inplace_abn`` uses the package of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

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


# Up to these ratios of bias to scale an output says enough of the input that it was made from: gradients differ from those of float64
# by less than 2e-6 of their greatest value in float32, and by less than half precision rounds in half (benchmarks/results/norm.md).
GREATEST_RATIO, RATIO_TIMES_EPS = 32.0, 1 / 32
# What a shortcut that is added to the output counts as beside the bias.
SHORTCUT = 0.25
# Added to the bias, so that nothing is divided by zero.
LEAST_BIAS = 1e-12
# One channel in so many keeps its input beyond those that need it when weights are loaded.
SPARE = 32


class Statistics(NamedTuple):
    """What a batch was normalised by: (C,) each.

    Attributes:
        mean: of the values.
        rstd: 1 / sqrt(variance + eps).
        total: () number of values a channel, over all ranks; None where no other rank took part.
    """

    mean: Tensor
    rstd: Tensor
    total: Tensor | None = None


def _dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _channelwise(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape in which it meets ``x`` (B, C, ...)."""
    return vector.view([1, -1] + [1] * (x.dim() - 2))


def _fused(x: Tensor) -> bool:
    """Whether torch has the kernels behind ``nn.SyncBatchNorm`` for this device."""
    return x.is_cuda


def _counts(x: Tensor) -> bool:
    """Whether a number that was computed is at hand; a GPU is not asked, since the host would have to wait for it."""
    return not x.is_cuda


def _synchronised_forward(
    x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor], momentum: float, eps: float
) -> tuple[Tensor, Statistics]:
    """Batch norm with the statistics of all ranks, which also move the running ones: one collective, float32 at least."""
    channels, count = x.shape[1], x.numel() // x.shape[1]
    if _fused(x):
        x = x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
        mean, rstd = torch.batch_norm_stats(x, eps)
        gathered = _gather(torch.cat([mean, rstd, mean.new_full((1,), count)]))
        means, rstds, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1]
        mean, rstd = torch.batch_norm_gather_stats_with_counts(
            x, means, rstds, *running, momentum, eps, counts.to(running[0].dtype)
        )
        return torch.batch_norm_elemt(x, weight, bias, mean, rstd, eps), Statistics(mean, rstd, counts.sum())
    precise = _precise(x)
    var, mean = torch.var_mean(precise, _dims(x), correction=0)
    gathered = _gather(torch.cat([mean, var, mean.new_full((1,), count)]))
    means, variances, counts = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    # Chan's rule: variance within the ranks plus variance of their means.
    var = ((variances + (means - mean).square()) * counts).sum(0) / total
    rstd = (var + eps).rsqrt()
    normalised = (precise - _channelwise(mean, x)) * _channelwise(rstd, x)
    y = (normalised * _channelwise(weight, x) + _channelwise(bias, x)).to(x.dtype)
    running[0].lerp_(mean.to(running[0].dtype), momentum)
    running[1].lerp_((var * (total / (total - 1))).to(running[1].dtype), momentum)
    return y, Statistics(mean, rstd, total)


def _gather(own: Tensor) -> Tensor:
    """(N,) of each rank as (ranks, N)."""
    gathered = own.new_empty(ranks(), len(own))
    dist.all_gather(list(gathered.unbind(0)), own)
    return gathered


def _synchronised_backward(
    grad: Tensor, x: Tensor, weight: Tensor, statistics: Statistics
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias: one collective. Those of weight and bias stay local, DDP averages them."""
    mean, rstd, total = statistics
    assert total is not None
    if _fused(x):
        like = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        grad, x = grad.contiguous(memory_format=like), x.contiguous(memory_format=like)
        sum_grad, sum_product, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, rstd, weight, True, True, True
        )
        sums = torch.stack([sum_grad, sum_product])
        dist.all_reduce(sums)
        counts = total.to(torch.int32).view(1)
        grad_x = torch.batch_norm_backward_elemt(grad, x, mean, rstd, weight, sums[0], sums[1], counts)
        return grad_x, grad_weight, grad_bias
    precise, grad_precise = x.to(mean.dtype), grad.to(mean.dtype)
    normalised = (precise - _channelwise(mean, x)) * _channelwise(rstd, x)
    grad_bias = grad_precise.sum(_dims(x))
    grad_weight = (grad_precise * normalised).sum(_dims(x))
    # The input's gradient needs the sums of all ranks.
    sums = torch.stack([grad_bias, grad_weight])
    dist.all_reduce(sums)
    mean_grad, mean_product = (sums / total).unbind(0)
    inner = grad_precise - _channelwise(mean_grad, x) - normalised * _channelwise(mean_product, x)
    grad_x = inner * _channelwise(weight * rstd, x)
    return grad_x.to(x.dtype), grad_weight, grad_bias


def _precise(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _SyncBatchNorm(torch.autograd.Function):
    """Batch norm with the statistics of all ranks, which keeps its input for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, statistics = _synchronised_forward(x, weight, bias, (running_mean, running_var), momentum, eps)
        ctx.save_for_backward(x, weight, *statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *statistics = ctx.saved_tensors
        return *_synchronised_backward(grad, x, weight, Statistics(*statistics)), None, None, None, None


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
        y: Tensor = _SyncBatchNorm.apply(x, weight, bias, running_mean, running_var, momentum, eps)
        return y
    _check_values(x, training)
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


def _check_values(x: Tensor, training: bool) -> None:
    if training and x.numel() == x.shape[1]:
        raise UserError("batch norm needs more than one value per channel: train with at least 2 images per batch")


# --- one tensor kept for backward ------------------------------------------------------------------------------------


def least_scale(bias: Tensor, dtype: torch.dtype, slope: float, added: bool) -> Tensor:
    """(C,) smallest |scale| by which an output in ``dtype`` may be divided to get the normalised input back.

    An output holds scale * normalised + bias, and a shortcut where ``added``, rounded: what is rounded off the sum counts as much
    more in the normalised input as the scale is smaller.
    """
    limits = torch.finfo(dtype)
    ratio = min(GREATEST_RATIO, RATIO_TIMES_EPS / limits.eps)
    floor = LEAST_BIAS + limits.smallest_normal / slope + SHORTCUT * added
    return (bias.abs() + floor) / ratio


class _InvertedNorm(torch.autograd.Function):
    """leaky_relu(batch_norm(x) + shortcut), which keeps its output for backward, not its input (arXiv 1712.02616).

    Batch norm's backward needs the normalised input alone, which is (leaky_relu^-1(y) - shortcut - bias) / scale: handed to the same
    kernel as an input whose mean is ``bias`` and whose deviation is ``scale``. Of channels whose scale is less than ``least_scale``
    the input is kept as well; on a GPU of the ``kept`` channels that come first in this. Should more need it there, the
    normalised input of the others is taken for smaller than it is, so that no rounding is blown up.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        bias: Tensor,
        shortcut: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        synchronised: bool,
        momentum: float,
        eps: float,
        slope: float,
        kept: int,
    ) -> Tensor:
        total = None
        if training and synchronised:
            y, (mean, rstd, total) = _synchronised_forward(x, scale, bias, (running_mean, running_var), momentum, eps)
        else:
            y, mean, rstd = torch.native_batch_norm(x, scale, bias, running_mean, running_var, training, momentum, eps)
        if not training:
            mean, rstd = running_mean.clone(), (running_var + eps).rsqrt()
        if shortcut is not None:
            y = y.add_(shortcut) if y.dtype == shortcut.dtype else y + shortcut
        if slope != 1:
            F.leaky_relu_(y, slope)
        least = least_scale(bias, y.dtype, slope, shortcut is not None)
        needing = scale.abs() / least
        channels = (needing < 1).nonzero().squeeze(1) if _counts(x) else needing.topk(kept, largest=False).indices
        ctx.training, ctx.slope = training, slope
        ctx.save_for_backward(y, scale, bias, shortcut, mean, rstd, total, least, channels, x.index_select(1, channels))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, scale, bias, shortcut, mean, rstd, total, least, channels, inputs = ctx.saved_tensors
        z = y
        if ctx.slope != 1:
            grad = torch.ops.aten.leaky_relu_backward(grad, y, ctx.slope, True)
            z = F.leaky_relu(y, 1 / ctx.slope)
        if shortcut is not None:
            z = z - shortcut if z is y else z.sub_(shortcut)
        sign = torch.where(scale < 0, -1.0, 1.0).to(scale.dtype)
        spread = sign / torch.maximum(scale.abs(), least)
        centre = bias
        if len(channels):
            z = z.clone() if z is y else z
            used = scale.abs()[channels] < least[channels]
            z.index_copy_(
                1, channels, torch.where(_channelwise(used, z), inputs.to(z.dtype), z.index_select(1, channels))
            )
            centre = bias.index_copy(0, channels, torch.where(used, mean[channels], bias[channels]))
            spread.index_copy_(0, channels, torch.where(used, rstd[channels], spread[channels]))
        # So that factor * spread is what batch norm multiplies by.
        factor = scale * rstd / spread
        if total is not None:
            grads = _synchronised_backward(grad, z, factor, Statistics(centre, spread, total))
        elif ctx.training:
            grads = torch.ops.aten.native_batch_norm_backward(
                grad, z, factor, None, None, centre, spread, True, 0.0, [True, True, True]
            )
        else:
            # The kernel takes a variance, which has no sign.
            turned = torch.where(spread < 0, -1.0, 1.0).to(spread.dtype)
            grads = torch.ops.aten.native_batch_norm_backward(
                grad,
                z,
                factor * turned,
                centre,
                spread.square().reciprocal(),
                None,
                None,
                False,
                0.0,
                [True, True, True],
            )
            grads = grads[0], grads[1] * turned, grads[2]
        return *grads, None if shortcut is None else grad, *[None] * 8


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
        self._count_kept()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._count_kept()

    @torch.no_grad()
    def _count_kept(self) -> None:
        """Channels that keep their input too on a GPU, for each type of output: as many as need it now, and some that may."""
        slope = 1.0 if self.activation == "identity" else self.activation_param
        added = self.activation == "identity"
        scale = self.weight.abs() + self.eps if self.absolute else self.weight.abs()
        channels = len(scale)
        self._kept: dict[torch.dtype, int] = {}
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            needing = int((scale < least_scale(self.bias, dtype, max(slope, 1e-3), added)).sum())
            self._kept[dtype] = min(channels, needing + 1 + channels // SPARE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self._normalise(x, None, 1.0 if self.activation == "identity" else self.activation_param)

    def add(self, x: Tensor, shortcut: Tensor, slope: float) -> Tensor:
        """Leaky ReLU of the layer's output for ``x`` plus ``shortcut``, both (B, C, H, W)."""
        return self._normalise(x, shortcut, slope)

    def _normalise(self, x: Tensor, shortcut: Tensor | None, slope: float) -> Tensor:
        scale = self.weight.abs() + self.eps if self.absolute else self.weight
        if self._inverts(x, slope):
            several = self.training and self.synchronised and ranks() > 1
            if not several:
                _check_values(x, self.training)
            y: Tensor = _InvertedNorm.apply(
                x,
                scale,
                self.bias,
                shortcut,
                self.running_mean,
                self.running_var,
                self.training,
                several,
                self.momentum,
                self.eps,
                slope,
                self._kept[x.dtype],
            )
            return y
        y = batch_norm(
            x,
            scale,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            synchronised=self.synchronised,
        )
        if shortcut is not None:
            y = y + shortcut
        # In place: batch norm's backward looks at its input, not at its output.
        return F.leaky_relu_(y, slope) if slope != 1 else y

    def _inverts(self, x: Tensor, slope: float) -> bool:
        """Whether the output is kept for backward in place of the input; a compiled network decides itself what it keeps."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or slope <= 0:
            return False
        return x.requires_grad or self.weight.requires_grad or self.bias.requires_grad

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
