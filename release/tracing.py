"""The network of a segmenter as a graph that any size of image passes: pixels in, class ids or logits out, norms folded."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from modules.deeplab import DeeplabV3
from release.folding import Folding, fold_norms
from release.forms import LOGITS, UINT8, Form
from segmentation_module import AdoptedSegmentationModule, Maps, Output, Segmenter
from utils.errors import UserError, reason

# Of the images that the graph is drawn with: no multiple of anything, so that no size is taken for granted.
EXAMPLE = (2, 193, 259)
# Of images that are no multiples of the same numbers.
OTHER = (96, 130)
# A side that no image has.
LARGEST = 2**31


class AnySizeDeeplabV3(DeeplabV3):
    """The head, with the sliding mean of evaluation as two matrix products, whose form does not depend on the size."""

    def _pool(self, x: Tensor) -> Tensor:
        rows, columns = (window_means(x, dim, self.pooling) for dim in (2, 3))
        return rows @ x @ columns.transpose(0, 1)


def window_means(x: Tensor, dim: int, window: int) -> Tensor:
    """The matrix (n, n) that turns n values into means over a sliding window of min(window, n), its edges repeated outwards.

    Row i has 1 / length at the places of the window around i, moved inwards where it would leave the values: along one axis what
    ``avg_pool2d`` of stride 1 and replicating padding do, for every n.

    Args:
        x: (B, C, H, W); n is its size along ``dim``. It is a tensor in what follows, so that no size is written into the graph.
        dim: 2 or 3.
        window: greatest length.
    """
    places = torch.arange(x.shape[dim], device=x.device)
    size = places[-1] + 1
    length = size.clamp(max=window)
    start = torch.minimum((places - (length - 1) // 2).clamp(min=0), size - length)[:, None]
    inside = (places >= start) & (places < start + length)
    return inside.to(x.dtype) / length.to(x.dtype)


class AnySizeConv2dSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, in arithmetic of whole numbers: torch.export takes minutes for timm's own."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        padding: list[int] = []
        for axis in (1, 0):
            size, stride = x.shape[2 + axis], self.stride[axis]
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            missing: Any = (size - 1) // stride * stride + reach - size
            if reach < stride:
                missing = torch.sym_max(missing, 0)
            padding += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class AnySizeAdopted(AdoptedSegmentationModule):
    """An adopted segmenter that pads and upsamples without asking whether it has to, and gives no features."""

    def forward(self, images: Tensor, interpolate: bool = True, maps: Maps | None = None) -> Output:
        """Log-odds of ``images`` (B, 3, H, W), at their size."""
        seen = self._fitted(images.flip(1) if self.bgr else images)
        head = self.head(self.body(seen))
        logits = torch.cat([classifier(head) for classifier in self.cls], dim=1)
        size = images.shape[-2:]
        full = size if self.size is not None else seen.shape[-2:]
        logits = F.interpolate(logits, full, mode="bilinear", align_corners=self.align_corners)
        # A slice would ask whether the size is a multiple, since then it is the whole.
        for dim, side in ((2, size[0]), (3, size[1])):
            logits = logits.index_select(dim, torch.arange(side, device=logits.device))
        return Output(self._turned(logits), {})

    def _fitted(self, images: Tensor) -> Tensor:
        if self.size is not None or self.multiple == 1:
            return super()._fitted(images)
        height, width = (
            (side + self.multiple - 1) // self.multiple * self.multiple - side for side in images.shape[-2:]
        )
        return F.pad(images, (0, width, 0, height), mode="replicate")


# Layer -> one of the same weights and values whose graph holds for every size.
ANY_SIZE: dict[type[nn.Module], type[nn.Module]] = {
    DeeplabV3: AnySizeDeeplabV3,
    Conv2dSame: AnySizeConv2dSame,
    AdoptedSegmentationModule: AnySizeAdopted,
}


def for_any_size(network: nn.Module) -> nn.Module:
    """A copy of the network in evaluation, on the CPU and in float32, whose layers compute the same at every size."""
    twin = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    for layer in twin.modules():
        # The layers differ from their parents in forward alone.
        layer.__class__ = ANY_SIZE.get(type(layer), type(layer))
    return twin


class Portable(nn.Module):
    """What a file computes: images as a ``Form`` says to what it says, normalisation included.

    Args:
        segmenter: whose network is copied.
        form: input and output.
    """

    mean: Tensor
    std: Tensor
    ids: Tensor

    def __init__(self, segmenter: Segmenter, form: Form) -> None:
        super().__init__()
        self.form, self.network = form, for_any_size(segmenter.model)
        mean, std = segmenter.normalisation.tensors(torch.zeros(()))
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("ids", segmenter.ids.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Class ids (B, H, W) uint8, or logits (B, C, H, W)."""
        if self.form.pixels == UINT8:
            images = images.permute(0, 3, 1, 2).float() / 255
        logits: Tensor = self.network((images - self.mean) / self.std).logits
        return logits if self.form.answer == LOGITS else self.ids[logits.argmax(dim=1)]


@dataclass(frozen=True)
class Drawing:
    """A segmenter's graph.

    Attributes:
        program: images to class ids or logits, for every number and size of images, or for the one size of the form.
        folding: what was done to the norms.
        smallest: height and width from which on it holds.
    """

    program: ExportedProgram
    folding: Folding
    smallest: tuple[int, int]


def draw(segmenter: Segmenter, form: Form) -> Drawing:
    """The graph of a segmenter.

    Raises:
        UserError: torch.export cannot draw it: for images of every size (``--size`` may help), or at all.
    """
    height, width = form.size or EXAMPLE[1:]
    if form.pixels == UINT8:
        images, axes = torch.zeros(EXAMPLE[0], height, width, 3, dtype=torch.uint8), (1, 2)
    else:
        images, axes = torch.zeros(EXAMPLE[0], 3, height, width), (2, 3)
    free = {0: Dim.DYNAMIC} | (dict.fromkeys(axes, Dim.DYNAMIC) if form.size is None else {})
    try:
        first = _export(Portable(segmenter, form), images, free)
        smallest = (height, width) if form.size else _smallest(first, axes)
        module = first.module()
        if form.size is None:
            # Raises where the graph holds for sizes alone that are like the example's.
            module(images[_corner(form, smallest)])
        folding = fold_norms(module)
        program = _export(module, images, free)
    except Exception as error:  # The errors of torch.export have no common class.
        what = f"a graph for images of {'every size' if form.size is None else f'{height} x {width} pixels'}"
        own = segmenter.description.network.get("size")
        one = "H W" if own is None else f"{own[0]} {own[1]}"
        advice = f"; --size {one} draws it for one size" if form.size is None else ""
        raise UserError(f"{segmenter.where}: torch.export cannot draw {what}{advice} ({reason(error)})") from error
    for node in program.graph.nodes:
        # Where in whose folders a line of code stands is nobody's business.
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(key, None)
    return Drawing(program, folding, smallest)


def _export(network: nn.Module, images: Tensor, free: dict[int, Any]) -> ExportedProgram:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False)


def _corner(form: Form, smallest: tuple[int, int]) -> tuple[slice, ...]:
    """The part of the example's images that is the first one, smaller in both sides and unlike it in what divides them."""
    sides = [slice(max(side, least)) for side, least in zip(OTHER, smallest, strict=True)]
    return (slice(1), *sides) if form.pixels == UINT8 else (slice(1), slice(None), *sides)


def _smallest(program: ExportedProgram, axes: tuple[int, int]) -> tuple[int, int]:
    """Height and width from which on a graph holds; ValueError where it ends somewhere."""
    (name,) = program.graph_signature.user_inputs
    shape = next(node for node in program.graph.nodes if node.name == name).meta["val"].shape
    ranges = [program.range_constraints[shape[axis].node.expr] for axis in axes]
    for side, found in zip(("heights", "widths"), ranges, strict=True):
        if found.upper < LARGEST:
            raise ValueError(
                f"the network asks for the size of the image, and does something else for {side} above {found.upper}"
            )
    return int(ranges[0].lower), int(ranges[1].lower)
