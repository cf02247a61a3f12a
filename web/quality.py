"""How well a discriminator tells the two domains apart, on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from modules.discriminator import DATASET, Discriminator
from utils.distributed import Runtime
from utils.metrics import BinaryScores, binary_scores
from web.discriminator import Saved
from web.examples import Example, Examples, batches

# With less area under the ROC curve a discriminator is hardly better than a coin.
CHANCE_AUC = 0.65


@torch.no_grad()
def probabilities(
    discriminator: Discriminator, examples: Sequence[Example], runtime: Runtime, workers: int
) -> NDArray[np.float64]:
    """(N,) probability of the training data's domain; nan where a file cannot be read."""
    discriminator.eval()
    result = np.full(len(examples), np.nan)
    data = Examples(examples, discriminator.preprocessing.size)
    for batch in tqdm(batches(data, workers), total=-(-len(data) // 64), desc="Testing", disable=None):
        if len(batch.indices):
            with runtime.autocast():
                logits = discriminator(batch.pixels(runtime.device))
            result[batch.indices.numpy()] = logits.double().softmax(dim=1)[:, DATASET].cpu().numpy()
    return result


def binary_quality(probability: NDArray[np.float64], examples: Sequence[Example]) -> BinaryScores:
    """Accuracy, area under the curve and calibration over the examples that could be read.

    Args:
        probability: (N,) of the training data's domain; nan where a file could not be read.
        examples: the N examples.
    """
    known = ~np.isnan(probability)
    positive = np.array([e.of_dataset for e in examples])
    return binary_scores(probability[known], positive[known])


def at_chance(scores: BinaryScores) -> bool:
    """Whether a discriminator tells the domains apart hardly better than a coin."""
    return not scores.auc >= CHANCE_AUC


def right_by_class(probability: NDArray[np.float64], examples: Sequence[Example]) -> dict[str, float]:
    """Share of each class's examples judged rightly, ``dataset cow`` and ``web cow`` apart."""
    groups: dict[str, list[bool]] = {}
    for value, example in zip(probability.tolist(), examples, strict=True):
        if not np.isnan(value):
            name = f"{'dataset' if example.of_dataset else 'web'} {example.class_name}"
            groups.setdefault(name, []).append((value > 0.5) == example.of_dataset)
    return {name: float(np.mean(groups[name])) for name in sorted(groups)}


def report(saved: Saved) -> str:
    """What a discriminator scored on held-out images, to print."""
    scores = saved.scores
    lines = [
        f"Held out: {scores.positives} images of the training data, {scores.negatives} of the web",
        f"accuracy {scores.accuracy:.3f}, area under the curve {scores.auc:.3f}, "
        f"calibration error {scores.calibration_error:.3f}",
    ]
    return "\n".join(lines + [f"  {name:24}{share:6.2f}" for name, share in saved.by_class.items()])
