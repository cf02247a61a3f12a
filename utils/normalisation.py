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
        """Images (..., 3, H, W) in [0, 1] as the network wants them."""
        mean, std = self.tensors(images)
        return (images - mean) / std

    def undo(self, images: Tensor) -> Tensor:
        """Network input (..., 3, H, W) as images, in [0, 1] but for rounding."""
        mean, std = self.tensors(images)
        return images * std + mean

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (3, 1, 1) with the type and device of ``like``."""
        mean, std = (like.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return mean, std


# By the names of ``--image_stats``; the only place where the numbers stand.
NORMALISATIONS = {
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
