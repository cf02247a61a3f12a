"""Networks of other libraries for tests of adopted segmenters, and what they see by plain formulas."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmentation_module import Segmenter


def images(height: int, width: int, count: int = 3, seed: int = 0) -> Tensor:
    """(B, 3, H, W) uint8: blobs, each image of colours of its own, so that neighbours differ little and classes change."""
    generator = torch.Generator().manual_seed(height + width + seed)
    colours = torch.rand(count, 3, 1, 1, generator=generator)
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    pixels = 0.4 * colours + 0.5 * F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) + 0.1 * fine
    return (pixels * 255).round().to(torch.uint8)


@torch.no_grad()
def lively(network: Any, last: Sequence[nn.Conv2d], side: int = 64, seed: int = 0) -> Any:
    """A network in evaluation mode that sees more than one class, and whose norms each have statistics and scales of their own.

    Args:
        network: of random weights.
        last: its last convolutions, each of which ends at a mean of 0 and a deviation of 1 for every class.
        side: of images that it can take.
        seed: of the norms' scales.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.copy_(0.7 + 0.6 * torch.rand(norm.num_features, generator=generator))
        norm.bias.copy_(0.3 * torch.randn(norm.num_features, generator=generator))
    network.train()(4 * images(side, side, 8).float() / 255 - 2)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    seen: dict[nn.Module, Tensor] = {}
    hooks = [layer.register_forward_hook(lambda layer, _, out: seen.update({layer: out})) for layer in last]
    network.eval()(4 * images(side, side, 8, seed=1).float() / 255 - 2)
    for hook, layer in zip(hooks, last, strict=True):
        hook.remove()
        deviation, mean = torch.std_mean(seen[layer], dim=(0, 2, 3))
        layer.weight.div_(deviation[:, None, None, None])
        assert layer.bias is not None
        layer.bias.sub_(mean).div_(deviation)
    return network.requires_grad_(False)


def library_logits(
    network: nn.Module, images: Tensor, mean: Sequence[float], std: Sequence[float], multiple: int
) -> Tensor:
    """Logits (B, C, H, W) float64 of the library's own network.

    Args:
        network: images (B, 3, H, W) to logits of their size.
        images: (B, 3, H, W) uint8.
        mean: of images in [0, 1], by channel.
        std: likewise.
        multiple: of which the sides have to be; images are padded by their edges, and what was padded is cut off.

    In float64, as ``seen``: kernels that are chosen by where memory lies round otherwise in float32.
    """
    height, width = images.shape[-2:]
    colours = [torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std)]
    pixels = (images.double() / 255 - colours[0]) / colours[1]
    padded = F.pad(pixels, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(network).double()(padded)
    return logits[..., :height, :width]


def seen(segmenter: Segmenter, images: Tensor) -> Tensor:
    """Logits (B, C, H, W) float64 of a segmenter's network for images (B, 3, H, W) uint8; its own float32 ones are near them."""
    pixels = segmenter.normalisation.apply(images.double() / 255)
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(segmenter.model).double()(pixels).logits
    assert (segmenter.logits(images) - logits).abs().max() < 1e-4 * logits.abs().max().clamp(min=1)
    return logits


def check_maps(model: Any, pixels: Tensor) -> None:
    """A segmenter can be given its body's maps, and leaves them as they are, so that a second one can be given them, too."""
    with torch.no_grad():
        whole = model(pixels, interpolate=False)
        maps = model.body(model.body_input(pixels))
        kept = [values.clone() for values in maps]
        given = model(pixels, interpolate=False, maps=maps)
    assert all(map(torch.equal, maps, kept))
    torch.testing.assert_close(given.logits, whole.logits)
    torch.testing.assert_close(given.features["body"], whole.features["body"])


def log_odds(logits: Tensor) -> Tensor:
    """Each channel of (B, C, H, W) against the logsumexp of the others."""
    channels = range(logits.shape[1])
    others = [logits[:, [other for other in channels if other != channel]].logsumexp(1) for channel in channels]
    return logits - torch.stack(others, 1)
