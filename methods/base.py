"""What every method sees and gives: the student's outputs, the teacher's, and a dictionary of named losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from argparser import Options
from dataset.batch import Batch
from methods.paste import Pasting


@dataclass(frozen=True)
class Prediction:
    """What a network says of a batch.

    Attributes:
        logits: (B, C, h, w) of the classifiers, at feature size.
        body: (B, D, h, w) last feature map of the body.
        localizer: (B, C, h, w) localizer logits in training mode; None where there is no localizer.
        localizer_eval: (B, C, h, w) localizer logits in evaluation mode, detached; None likewise.
        layers: maps of several layers, each (B, D, h, w) of its own: a finer one of the body, the body's last, the head's. Only for
            methods that are ``Layered``.
        unknown: (B, 1, h, w) logits of the classifier of the unknown; None where there is none.
        pasted: (B, N, h, w) share of the pixels of ``logits`` that are a pasted object of a new class (``--paste``), which the
            localizer and the teacher did not see; None where nothing is.
    """

    logits: Tensor
    body: Tensor
    localizer: Tensor | None = None
    localizer_eval: Tensor | None = None
    layers: tuple[Tensor, ...] = ()
    unknown: Tensor | None = None
    pasted: Tensor | None = None


@dataclass(frozen=True)
class Iteration:
    """What a loss may know of the iteration that it is computed in.

    Attributes:
        epoch: epoch, from 0.
        average: mean of a tensor over the ranks, without gradient. A loss that is a weighted mean over images divides by
            the average of the weights, so that the mean of the ranks' losses is the loss of the whole batch.
        world: number of ranks.
        rank: number of this one.
        number: iteration of the epoch, from 0.
    """

    epoch: int
    average: Callable[[Tensor], Tensor]
    world: int = 1
    rank: int = 0
    number: int = 0


class Method(Protocol):
    """A family of losses.

    One that remembers something from iteration to iteration has it in ``memory`` (``memory_of``), one whose segmenter sees pasted
    images has in ``pasting`` what pastes them (``pasting_of``).
    """

    needs_teacher: bool
    needs_localizer: bool

    @classmethod
    def from_options(cls, options: Options, old: int, total: int, names: Sequence[str]) -> Method:
        """The method as the options describe it; arguments as of ``methods.make_method``."""
        ...

    def losses(
        self, batch: Batch, student: Prediction, teacher: Prediction | None, iteration: Iteration
    ) -> dict[str, Tensor]:
        """Named scalar losses, whose sum is minimised."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A method that looks at several layers of the networks (``Prediction.layers``)."""

    needs_layers: bool


@runtime_checkable
class Wondering(Protocol):
    """A method with a classifier of the unknown beside the segmenter's, from which new ones start."""

    needs_unknown: bool

    @property
    def freezes_head(self) -> bool:
        """Whether the head, and what classifiers say of old classes, are not trained."""
        ...


@runtime_checkable
class Surveying(Protocol):
    """A method that looks at the training images once, before the first iteration."""

    def survey(self, looks: Iterable[tuple[Batch, Prediction]], total: Callable[[Tensor], Tensor]) -> None:
        """Learn what the losses need to know beforehand.

        A run that goes on surveys the same images again: whatever is learned depends on them and on the teacher alone.

        Args:
            looks: this rank's batches of the first epoch, and what the teacher says of them.
            total: sum of a tensor over the ranks.
        """
        ...


def memory_of(method: Method) -> nn.Module | None:
    """What a method remembers from iteration to iteration, a part of the run's state; None for most."""
    memory: nn.Module | None = getattr(method, "memory", None)
    return memory


def pasting_of(method: Method) -> Pasting | None:
    """What pastes objects into the images that a method's segmenter sees; None for most."""
    pasting: Pasting | None = getattr(method, "pasting", None)
    return pasting


def weighted_mean(values: Tensor, weights: Tensor, iteration: Iteration, eps: float = 0.0) -> Tensor:
    """Mean of ``values`` (B,) weighted by ``weights`` (B,) over the images of all ranks, ``eps`` added to the sum of weights."""
    return (values * weights).sum() / (iteration.average(weights.sum()) + eps / iteration.world)
