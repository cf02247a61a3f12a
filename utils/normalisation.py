"""How images are normalised for a network: one value from the loader to the pictures of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

AUTO = "auto"


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std on each colour channel of images in [0, 1].

    Attributes:
        mean: of red, green and blue, in [0, 1].
        std: likewise.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, body: Any, choice: str = AUTO) -> Normalisation:
        """The one that a body's published weights saw (its ``image_stats``, or its name), or another by name (``--image_stats``)."""
        stats = body.image_stats if choice == AUTO else choice
        return stats if isinstance(stats, Normalisation) else NORMALISATIONS[stats]

    def apply(self, images: Tensor) -> Tensor:
        """Images (..., 3, H, W), uint8 or in [0, 1], as the network wants them; uint8 becomes float32."""
        pixels = unit(images)
        mean, std = self.tensors(pixels)
        # Where the copy is our own, no second one.
        return (images - mean) / std if pixels is images else pixels.sub_(mean).div_(std)

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (3, 1, 1) with the type and device of ``like``."""
        # A tensor that is made on a GPU from numbers waits for all that the GPU has to do.
        own = (like.new_tensor(values, device="cpu")[:, None, None] for values in (self.mean, self.std))
        mean, std = (values.to(like.device, non_blocking=True) for values in own)
        return mean, std


def unit(images: Tensor) -> Tensor:
    """Images in [0, 1]: of uint8 a float32 copy divided by 255; floating point is in [0, 1] already."""
    return images if images.is_floating_point() else images.float().div_(255)


# By the names of ``--image_stats``; the only place where the numbers stand.
NORMALISATIONS = {
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
