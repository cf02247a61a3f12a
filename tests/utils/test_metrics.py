"""Scores against the reference, against torchmetrics, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from utils.metrics import ConfusionMatrix, binary_scores, harmonic_mean, scores

NAMES = {
    "overall_acc": "overall_acc",
    "mean_acc": "mean_acc",
    "mean_prec": "mean_precision",
    "mean_iou": "mean_iou",
    "class_iou": "class_iou",
    "class_acc": "class_acc",
    "class_prec": "class_precision",
}


@pytest.mark.golden
def test_scores_equal_the_reference(golden: Path) -> None:
    data = np.load(golden / "metrics.npz")
    assert set(data.files) == {"target", "prediction", "n_classes", "confusion", *NAMES}
    counts = ConfusionMatrix(int(data["n_classes"]))
    for target, prediction in zip(data["target"], data["prediction"], strict=True):
        counts.update(torch.from_numpy(target), torch.from_numpy(prediction))
    np.testing.assert_array_equal(counts.matrix.numpy(), data["confusion"])
    ours = scores(counts.matrix)
    for theirs, name in NAMES.items():
        np.testing.assert_allclose(getattr(ours, name), data[theirs], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_matrix_equals_torchmetrics(dtype: torch.dtype) -> None:
    from torchmetrics.classification import MulticlassConfusionMatrix

    generator = torch.Generator().manual_seed(1)
    ours, theirs = ConfusionMatrix(7), MulticlassConfusionMatrix(7, ignore_index=255)
    for _ in range(3):
        target = torch.randint(0, 7, (2, 33, 21), generator=generator)
        target[torch.rand(target.shape, generator=generator) < 0.2] = 255
        prediction = torch.randint(0, 7, (2, 33, 21), generator=generator)
        ours.update(target.to(dtype), prediction.to(dtype))
        theirs.update(prediction, target)
    assert torch.equal(ours.matrix, theirs.compute())


def test_scores_by_hand() -> None:
    # Rows are the truth. IoU: 4/6, 2/5, 1/3, 0/1 (never predicted), none (no truth).
    matrix = torch.tensor([[4, 1, 0, 0, 0], [1, 2, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    result = scores(matrix, first_new=2, names=["background", "cat", "dog", "cow", "sheep"])
    assert result.class_iou[:4] == pytest.approx([4 / 6, 2 / 5, 1 / 3, 0], abs=1e-5)
    assert math.isnan(result.class_iou[4]) and math.isnan(result.class_acc[4]) and math.isnan(result.class_precision[4])
    assert result.old_iou == pytest.approx(0.4, abs=1e-5), "background is left out of the old classes"
    assert result.new_iou == pytest.approx(1 / 6, abs=1e-5)
    assert result.all_iou == result.mean_iou == pytest.approx((4 / 6 + 2 / 5 + 1 / 3) / 4, abs=1e-5)
    assert result.harmonic == pytest.approx(2 * 0.4 / 6 / (0.4 + 1 / 6), abs=1e-5)
    assert result.overall_acc == 7 / 11
    assert result.mean_precision == pytest.approx((4 / 5 + 2 / 3 + 1 / 3) / 5, abs=1e-5), "all classes count"
    assert result.by_name()["cat"] == result.class_iou[1]
    assert "class_iou" not in result.summary() and result.summary()["old_iou"] == result.old_iou


@pytest.mark.parametrize("first_new", [None, 0])
def test_at_step_0_the_base_classes_are_old(first_new: int | None) -> None:
    result = scores(torch.diag(torch.tensor([5, 3, 2])), first_new)
    assert result.old_iou == pytest.approx(1, abs=1e-5)
    assert math.isnan(result.new_iou) and math.isnan(result.harmonic)
    assert result.names == ("0", "1", "2")


def test_an_empty_matrix_says_nothing() -> None:
    result = scores(ConfusionMatrix(3).matrix, 2)
    assert all(math.isnan(value) for name, value in result.summary().items() if name != "mean_precision")


def test_harmonic_mean() -> None:
    assert harmonic_mean(0.0, 0.0) == 0 and harmonic_mean(0.0, 0.5) == 0
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert math.isnan(harmonic_mean(math.nan, 0.5))


def test_all_reduce_takes_the_sum_that_it_is_handed() -> None:
    counts = ConfusionMatrix(2)
    counts.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    counts.all_reduce(lambda matrix: matrix * 2)
    assert counts.matrix.tolist() == [[2, 0], [2, 2]]
    counts.reset()
    assert counts.matrix.sum() == 0


def test_wrong_input_is_refused() -> None:
    counts = ConfusionMatrix(3)
    for wrong in (-1, 3, 255):
        with pytest.raises(ValueError, match=r"0\.\.2"):
            counts.update(torch.tensor([0, 1]), torch.tensor([0, wrong]))
    with pytest.raises(ValueError, match="shape"):
        counts.update(torch.zeros(2, 2), torch.zeros(4))
    assert counts.matrix.sum() == 0, "what was refused is not counted"
    counts.update(torch.tensor([255, 255]), torch.tensor([0, 7]))
    assert counts.matrix.sum() == 0, "what is ignored may be predicted as anything"


def test_binary_scores_against_torchmetrics() -> None:
    generator = np.random.default_rng(0)
    positive = generator.random(500) < 0.3
    # Rounded, so that there are ties.
    probability = np.clip(generator.normal(0.4 + 0.2 * positive, 0.2), 0, 1).round(2)
    found = binary_scores(probability, positive)
    scores_, truth = torch.from_numpy(probability), torch.from_numpy(positive.astype(int))
    assert found.auc == pytest.approx(float(binary_auroc(scores_, truth)), abs=1e-6)
    right = [(probability[positive] > 0.5).mean(), (probability[~positive] <= 0.5).mean()]
    assert found.accuracy == pytest.approx(np.mean(right))
    assert (found.positives, found.negatives) == (int(positive.sum()), int((~positive).sum()))


def test_calibration_error() -> None:
    positive = np.array([True] * 8 + [False] * 2)
    assert binary_scores(np.full(10, 0.8), positive).calibration_error == pytest.approx(0, abs=1e-12)
    assert binary_scores(np.full(10, 1.0), positive).calibration_error == pytest.approx(0.2)


def test_binary_scores_of_one_class_say_nothing() -> None:
    found = binary_scores(np.array([0.2, 0.9]), np.array([True, True]))
    assert math.isnan(found.auc) and math.isnan(found.accuracy) and found.positives == 2
