"""How alike classes are, by their names: what an old class may tell of a new one (a cow looks like a horse)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captions.similarity import make_similarity
from utils.errors import UserError

# Of the measures it tells classes apart best: Wu and Palmer's puts a plant as near to a person as a sheep to a horse.
MEASURE = "lin"


def likeness(new: Sequence[str], old: Sequence[str], measure: str = MEASURE) -> NDArray[np.float64]:
    """Similarity of every new class with every old one: docs/method.md, "Baselines".

    Args:
        new: names of N foreground classes.
        old: names of O classes; the first is background, whatever it is called, which is like nothing.
        measure: a name of ``captions.similarity.SIMILARITIES``.

    Returns:
        (N, O) from 0 to 1, 1 for the same meaning; column 0 is 0.

    Raises:
        UserError: a class has a name that the measure does not know, or there is no such measure.
    """
    names = [*new, *old[1:]]
    values = make_similarity(measure).matrix(names, names)
    # Every word that the measure knows is like itself.
    for name, own in zip(names, values.diagonal(), strict=True):
        if np.isnan(own):
            raise UserError(
                f"class {name}: WordNet knows no such noun, so that nothing says which classes it is like; "
                "name it by a noun, or train without likeness of classes"
            )
    return np.pad(values[: len(new), len(new) :].clip(0, 1), ((0, 0), (1, 0)))
