"""Batch norms folded into the convolutions before them, for networks that training asks but never changes.

A batch norm in evaluation is a scale and a shift for each channel, which the convolution before it can give as well. What follows what is
read from a trace of the network; what runs is a copy of it whose convolutions have new weights and whose norms are gone.
``release/folding.py`` does it for the graph of an exported file, where neither layers nor their names are left.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, Node, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_weights

from modules.norm import ActivatedNorm, is_norm

Network = TypeVar("Network", bound=nn.Module)
# Layers that compute what their weights say, by full name. Others stay, as convolutions that standardise their weights.
CONVOLUTIONS = {"torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame"}
NORMS = {
    "modules.norm.ActivatedNorm",
    "modules.norm.SyncBatchNorm2d",
    "modules.norm.SyncBatchNormAct2d",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "timm.layers.norm_act.BatchNormAct2d",
}


class Activation(nn.Module):
    """What is left of a folded activated norm: its leaky ReLU, or nothing."""

    def __init__(self, norm: ActivatedNorm) -> None:
        super().__init__()
        self.activation, self.activation_param = norm.activation, norm.activation_param

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, in place: nobody else sees what the convolution gave."""
        return x if self.activation == "identity" else F.leaky_relu_(x, self.activation_param)


def fold_norms(network: Network, dtype: torch.dtype) -> Network:
    """A copy of ``network`` without the norms that follow a convolution, in evaluation and without gradients.

    In float32 its outputs are those of ``network`` in evaluation up to rounding: below 1e-5 of their greatest value in the tests' small
    networks, 1.7e-5 was measured of EfficientNet-Lite0 at 160 pixels. Folding is done in float64 and always alike, so that a run that
    goes on sees the same.

    Args:
        network: any; where nothing can be folded it is given back itself.
        dtype: of the folded weights, which are rounded to it once: autocast's, so that nothing is cast in each pass.
    """
    if any("forward" in vars(module) for module in network.modules()):
        # Of an instance alone, and bound to it: a copy would run the network itself.
        return network
    try:
        folded = copy.deepcopy(network).requires_grad_(False).eval()
        with torch.no_grad():
            graph = _Tracer().trace(folded)
    except Exception:
        # Whatever a library's network raises that cannot be copied, or is given a stand-in for images.
        return network
    pairs = _pairs(folded, graph)
    for first, second in pairs:
        convolution, norm = folded.get_submodule(first), folded.get_submodule(second)
        assert isinstance(convolution, nn.Conv2d)
        _fold(convolution, norm, dtype)
        owner, _, name = second.rpartition(".")
        setattr(folded.get_submodule(owner), name, _activation(norm))
    return folded.to(memory_format=torch.channels_last) if pairs else network


def count_norms(network: nn.Module) -> int:
    """Norms with running statistics inside a network."""
    return sum(map(is_norm, network.modules()))


class _Tracer(Tracer):
    """Follows a network down to its convolutions and norms; what holds neither is one operation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_layer(m) or not any(map(_is_layer, m.modules()))

    def path_of_module(self, mod: nn.Module) -> str:
        # A piece cut out of an nn.Sequential is no module of the network; what it holds is.
        return super().path_of_module(mod) if mod in set(self.root.modules()) else ""


@torch.no_grad()
def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) or is_norm(module)


def _pairs(network: nn.Module, graph: Graph) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that alone see what they give, each of one name and called once."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    found = []
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        pair = str(source.target), str(node.target)
        convolution, norm = map(network.get_submodule, pair)
        once = all(calls[name] == 1 for name in pair) and names[id(convolution)] == names[id(norm)] == 1
        hooked = convolution._forward_hooks or convolution._forward_pre_hooks or norm._forward_pre_hooks
        if (
            once
            and not hooked
            and _name(convolution) in CONVOLUTIONS
            and _name(norm) in NORMS
            and norm.running_mean is not None
        ):
            found.append(pair)
    return found


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _fold(convolution: nn.Conv2d, norm: nn.Module, dtype: torch.dtype) -> None:
    """Give the convolution the norm's scale and shift."""

    def precise(value: Tensor | None) -> Tensor | None:
        # On the CPU: not every device has float64.
        return None if value is None else value.detach().cpu().double()

    weight = precise(norm.weight)  # type: ignore[arg-type]
    if weight is not None and getattr(norm, "absolute", False):
        weight = weight.abs() + norm.eps  # type: ignore[operator]
    new = fuse_conv_bn_weights(
        precise(convolution.weight),  # type: ignore[arg-type]
        precise(convolution.bias),
        precise(norm.running_mean),  # type: ignore[arg-type]
        precise(norm.running_var),  # type: ignore[arg-type]
        norm.eps,  # type: ignore[arg-type]
        weight,
        precise(norm.bias),  # type: ignore[arg-type]
    )
    device = convolution.weight.device
    convolution.weight, convolution.bias = (nn.Parameter(value.to(device, dtype), False) for value in new)


def _activation(norm: nn.Module) -> nn.Module:
    """What the norm does after its scale and shift."""
    if isinstance(norm, ActivatedNorm):
        return Activation(norm)
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
    return nn.Sequential(*parts)  # Nothing of torch's own.
