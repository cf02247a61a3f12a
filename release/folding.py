"""Norms folded into the convolutions before them, found in the graph that torch.export draws of a network.

A batch norm in evaluation is a scale and a shift for each channel: y = s x + t. Where x comes from convolutions alone (one, several that
are concatenated or added, dropout that does nothing between them), s goes into their weights and t into their biases. Names and classes
of layers say nothing; the graph does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

ATEN = torch.ops.aten
CONVOLUTIONS = {ATEN.conv2d.default, ATEN.conv2d.padding}
TRANSPOSED = ATEN.conv_transpose2d.input
ADDITIONS = {ATEN.add.Tensor, ATEN.add_.Tensor}
# Their output is their input when nothing is trained.
PASSING = {
    ATEN.dropout.default,
    ATEN.dropout_.default,
    ATEN.feature_dropout.default,
    ATEN.clone.default,
    ATEN.contiguous.default,
}
# What else normalises, by the name that the count tells. Its statistics are of the image, so it stays.
OTHERS = {
    ATEN.layer_norm.default: "layer norm",
    ATEN.native_layer_norm.default: "layer norm",
    ATEN.rms_norm.default: "RMS norm",
    ATEN.group_norm.default: "group norm",
    ATEN.instance_norm.default: "instance norm",
}
BATCH_NORM = "batch norm"
# Arguments of aten.batch_norm: what it normalises, weight, bias, mean, variance, whether it trains, momentum, eps.
INPUT, WEIGHT, BIAS, MEAN, VARIANCE, TRAINING, EPS = 0, 1, 2, 3, 4, 5, 7


@dataclass(frozen=True)
class Folding:
    """What was done to the norms of a network.

    Attributes:
        folded: norms that are part of convolutions now.
        left: kind of norm -> how many stayed.
    """

    folded: int
    left: Mapping[str, int]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left.items()))
        return f"{self.folded} norms folded into convolutions, {sum(self.left.values())} left{f' ({kinds})' if kinds else ''}"


def fold_norms(module: GraphModule) -> Folding:
    """Fold the batch norms of a network in place; what it computes stays the same to 1e-5 of its greatest value.

    Args:
        module: graph of a network in evaluation, in float32, as ``torch.export.export(...).module()`` gives it.
    """
    graph, folded = module.graph, 0
    for node in [n for n in graph.nodes if n.target is ATEN.batch_norm.default]:
        affine = _affine(module, node)
        source = node.args[INPUT]
        if affine is None or not isinstance(source, Node) or not _takes(module, source, len(affine[0])):
            continue
        _give(module, source, *affine)
        node.replace_all_uses_with(source)
        graph.erase_node(node)
        folded += 1
    graph.eliminate_dead_code()
    _forget_unused(module)
    graph.lint()
    module.recompile()
    kinds = OTHERS | {ATEN.batch_norm.default: BATCH_NORM}
    return Folding(folded, Counter(kinds[node.target] for node in graph.nodes if node.target in kinds))


def _affine(module: GraphModule, norm: Node) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (C) in float64 of a batch norm; None where they depend on the image."""
    mean, variance = (_constant(module, norm.args[i]) for i in (MEAN, VARIANCE))
    if norm.args[TRAINING] or mean is None or variance is None:
        return None
    weight, bias = (_constant(module, norm.args[i]) for i in (WEIGHT, BIAS))
    if (weight is None) != (norm.args[WEIGHT] is None) or (bias is None) != (norm.args[BIAS] is None):
        return None
    eps: Any = norm.args[EPS]
    scale = (variance.double() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -scale * mean.double()
    return scale, shift if bias is None else shift + bias.double()


def _constant(module: GraphModule, value: object) -> Tensor | None:
    """The tensor that a node of the graph stands for, computed where it is made of weights alone (|w| + eps); else None."""
    if not isinstance(value, Node):
        return None
    if value.op == "get_attr":
        owner, _, name = str(value.target).rpartition(".")
        found = getattr(module.get_submodule(owner), name)
        return found.detach() if isinstance(found, Tensor) else None
    if value.op != "call_function" or not value.all_input_nodes:
        return None
    known = {node: _constant(module, node) for node in value.all_input_nodes}
    if any(tensor is None for tensor in known.values()):
        return None
    arguments = torch.fx.map_arg(value.args, known.__getitem__)
    options = torch.fx.map_arg(value.kwargs, known.__getitem__)
    # What is done in place must not change the weights themselves.
    with torch.no_grad():
        result = value.target(*_copied(arguments), **options)  # type: ignore[operator]
    return result if isinstance(result, Tensor) else None


def _copied(arguments: tuple) -> tuple:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in arguments)


def _argument(node: Node, position: int, name: str, default: object = None) -> object:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _parts(node: Node) -> list[Node]:
    """What a concatenation of channels or a sum is made of, nodes alone; nothing where it is another operation, or takes one twice."""
    if node.target is ATEN.cat.default and _argument(node, 1, "dim", 0) == 1:
        parts = list(node.args[0])  # type: ignore[arg-type]
    elif node.target in ADDITIONS and node.kwargs.get("alpha", 1) == 1:
        parts = list(node.args[:2])
    else:
        return []
    return parts if all(isinstance(part, Node) for part in parts) and len(set(parts)) == len(parts) else []


def _channels(node: Node) -> int:
    return int(node.meta["val"].shape[1])


def _takes(module: GraphModule, node: Node, channels: int) -> bool:
    """Whether a scale and shift of the node's channels can go into the convolutions that it is made of, and nobody else sees them."""
    # Who asks for the size alone sees no difference.
    seen = [user for user in node.users if user.target is not ATEN.sym_size.int]
    if len(seen) != 1 or "val" not in node.meta or node.meta["val"].dim() != 4 or _channels(node) != channels:
        return False
    if node.target in CONVOLUTIONS or (node.target is TRANSPOSED and _argument(node, 6, "groups", 1) == 1):
        bias = _argument(node, 2, "bias")
        return _constant(module, node.args[1]) is not None and (bias is None or _constant(module, bias) is not None)
    if node.target in PASSING:
        drops = "dropout" in str(node.target) and _argument(node, 2, "train")
        return not drops and isinstance(node.args[0], Node) and _takes(module, node.args[0], channels)
    parts = _parts(node)
    if node.target is ATEN.cat.default:
        return bool(parts) and all("val" in part.meta and _takes(module, part, _channels(part)) for part in parts)
    return bool(parts) and all(_takes(module, part, channels) for part in parts)


def _give(module: GraphModule, node: Node, scale: Tensor, shift: Tensor) -> None:
    """Make the node's output scale times it plus shift, channel by channel; ``_takes`` has said that it can be."""
    if node.target in CONVOLUTIONS or node.target is TRANSPOSED:
        _fold(module, node, scale, shift)
    elif node.target in PASSING:
        _give(module, node.args[0], scale, shift)  # type: ignore[arg-type]
    elif node.target is ATEN.cat.default:
        parts = _parts(node)
        widths = [_channels(part) for part in parts]
        for part, own_scale, own_shift in zip(parts, scale.split(widths), shift.split(widths), strict=True):
            _give(module, part, own_scale, own_shift)
    else:
        # Of a sum each term is scaled, and the first one shifted.
        for index, part in enumerate(_parts(node)):
            _give(module, part, scale, shift if index == 0 else torch.zeros_like(shift))


def _fold(module: GraphModule, node: Node, scale: Tensor, shift: Tensor) -> None:
    weight, bias = _constant(module, node.args[1]), _constant(module, _argument(node, 2, "bias"))
    assert weight is not None
    # (C, C', h, w), of a transposed one (C', C, h, w).
    factors = scale[:, None, None] if node.target is TRANSPOSED else scale[:, None, None, None]
    new_weight = (weight.double() * factors).to(weight.dtype)
    new_bias = (shift if bias is None else shift + scale * bias.double()).to(weight.dtype)
    number = sum(name.startswith("folded_weight_") for name, _ in module.named_parameters())
    nodes = []
    for name, value in ((f"folded_weight_{number}", new_weight), (f"folded_bias_{number}", new_bias)):
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
        with module.graph.inserting_before(node):
            nodes.append(module.graph.get_attr(name))
    node.args = (node.args[0], *nodes, *node.args[3:])
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "bias"}


def _forget_unused(module: GraphModule) -> None:
    """Delete the weights that no node of the graph asks for any more, so that no file carries them."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]:
        if name not in used:
            owner, _, own = name.rpartition(".")
            delattr(module.get_submodule(owner), own)
