"""Pixel-adaptive mask refinement (PAMR): class masks are averaged over neighbours of like colour.

Source: Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ITERATIONS = 10
DILATIONS = (1, 2, 4, 8, 12)


class PAMR(nn.Module):
    """Refine masks by the image, without parameters or buffers.

    The affinity of a pixel i to a neighbour j (eight per dilation) is the softmax over all its neighbours of
    -|I_i - I_j| / (1e-8 + 0.1 s), averaged over the colour channels, where s is the standard deviation of the channel
    over the nine pixels of every dilation. Masks are then replaced ``iterations`` times by their mean with these
    weights. The border is continued by its own value, so neighbourhoods larger than the image are fine.
    """

    def __init__(self, iterations: int = ITERATIONS, dilations: Sequence[int] = DILATIONS) -> None:
        """Set the number of averaging rounds (0: only resize) and the neighbours' distances in pixels (one or more)."""
        super().__init__()
        self.iterations = iterations
        self.dilations = tuple(dilations)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Refine ``mask`` by ``image``.

        Args:
            image: (B, 3, H, W) in [0, 1].
            mask: (B, C, h, w); resized bilinearly (corners aligned) where h, w differ from H, W.

        Returns:
            (B, C, H, W), float32 or, where an input is, float64; also under autocast.
        """
        dtype = torch.promote_types(torch.promote_types(image.dtype, mask.dtype), torch.float32)
        with torch.autocast(image.device.type, enabled=False):
            image, mask = image.to(dtype), mask.to(dtype)
            if mask.shape[-2:] != image.shape[-2:]:
                mask = F.interpolate(mask, size=image.shape[-2:], mode="bilinear", align_corners=True)
            affinity = self._affinity(image)
            for _ in range(self.iterations):
                refined = torch.zeros_like(mask)
                for i, neighbour in enumerate(self._neighbours(mask)):
                    refined.addcmul_(affinity[:, i : i + 1], neighbour)
                mask = refined
        return mask

    def _neighbours(self, x: Tensor) -> Iterator[Tensor]:
        """``x`` (B, C, H, W) seen from each neighbour in turn: views of one padded copy."""
        height, width = x.shape[-2:]
        reach = max(self.dilations)
        padded = F.pad(x, (reach,) * 4, mode="replicate")
        for d in self.dilations:
            for top in (reach - d, reach, reach + d):
                for left in (reach - d, reach, reach + d):
                    if (top, left) != (reach, reach):
                        yield padded[..., top : top + height, left : left + width]

    def _affinity(self, image: Tensor) -> Tensor:
        """Weights (B, 8 * dilations, H, W) that sum to one over the neighbours."""
        neighbours = torch.stack(list(self._neighbours(image)), dim=2)
        centre = image.unsqueeze(2)
        # Nine pixels per dilation: the centre counts once for each.
        copies = len(self.dilations)
        count = 9 * copies
        mean = (neighbours.sum(2, keepdim=True) + copies * centre) / count
        squares = (neighbours - mean).square().sum(2, keepdim=True) + copies * (centre - mean).square()
        deviation = (squares / (count - 1)).sqrt()
        return (-(neighbours - centre).abs() / (1e-8 + 0.1 * deviation)).mean(1).softmax(1)
