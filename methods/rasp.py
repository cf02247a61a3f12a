"""RaSP's weak step (arXiv 2305.19879): WILSON, whose localizer hears from the old classes which of them are like the new ones.

docs/method.md, "Baselines" has the formula; no code of the paper's was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from argparser import Options
from captions.likeness import likeness
from dataset.batch import Batch
from methods.base import Iteration, Prediction
from methods.weak import Weak
from tasks import BACKGROUND


def semantic_prior(teacher_logits: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """Where a new class may be, by what the teacher takes each pixel for.

    Args:
        teacher_logits: (B, O, h, w), channel 0 background.
        alike: (N, O) likeness of new and old classes in [0, 1].

    Returns:
        (B, N, h, w) likeness of each new class and of what the teacher sees; (B, h, w) 1 where it sees a thing, else 0: that a thing
        is unknown to the teacher says nothing of the new classes.
    """
    seen = teacher_logits.argmax(dim=1)
    prior = alike.to(teacher_logits).T[seen].movedim(-1, 1)
    return prior, (seen != BACKGROUND).to(teacher_logits.dtype)


def prior_loss(localizer: Tensor, prior: Tensor, things: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of the localizer's new channels against the prior, where it says something of a class that is there.

    Args:
        localizer: (B, N, h, w) logits of the new channels.
        prior: (B, N, h, w) in [0, 1].
        things: (B, h, w) 1 where the prior says something.
        labels: (B, N) image labels of the new classes.

    Returns:
        mean over all pixels and the labelled new classes of each image, mean over the images: a scalar.
    """
    per_pixel = F.binary_cross_entropy_with_logits(localizer, prior, reduction="none") * things.unsqueeze(1)
    per_class = per_pixel.flatten(2).mean(dim=2) * labels
    return (per_class.sum(dim=1) / labels.sum(dim=1).clamp(min=1)).mean()


@dataclass(frozen=True, eq=False)
class Rasp(Weak):
    """The losses of ``Weak``, and ``prior``.

    Attributes:
        alike: (N, O) likeness of the new classes and the old ones; None where it is not known and nothing may be trained.
    """

    alike: Tensor | None = None

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str] = ()) -> Rasp:
        """WILSON as the options tune it, and the likeness of the names.

        Raises:
            UserError: a class has a name that is no noun.
        """
        weak = Weak.from_options(options, old, total)
        alike = torch.from_numpy(likeness(names[old:], names[:old])).float()
        return cls(**{field.name: getattr(weak, field.name) for field in fields(weak)}, alike=alike)

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """Those of ``Weak``, and ``prior`` from the first epoch on."""
        assert teacher is not None and student.localizer is not None and self.alike is not None
        terms = super().losses(batch, student, teacher, iteration)
        prior, things = semantic_prior(teacher.logits, self.alike)
        new = batch.image_labels[:, self.old - 1 :]
        return terms | {"prior": prior_loss(student.localizer[:, self.old :], prior, things, new)}
