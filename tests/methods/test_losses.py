"""Losses against the reference (every array of its files, gradients included), and properties beyond it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods import losses
from tasks import IGNORE

Arrays = dict[str, Tensor]


def _load(golden: Path, name: str) -> Arrays:
    with np.load(golden / f"{name}.npz") as data:
        return {key: torch.from_numpy(np.asarray(data[key])) for key in data.files if data[key].dtype.kind != "U"}


def _same(ours: Tensor, theirs: Tensor, what: str) -> None:
    """1e-9 for what the reference computed in float64, 1e-5 for what it rounded to float32 on the way."""
    tolerance = 1e-5 if theirs.dtype == torch.float32 else 1e-9
    torch.testing.assert_close(
        ours.double(), theirs.double(), rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}"
    )


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _random(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _labels(shape: tuple[int, ...], classes: int, seed: int = 0, ignored: float = 0.2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < ignored] = IGNORE
    return target


# --- against the reference -------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_image_level_equals_the_reference(golden: Path) -> None:
    data = _load(golden, "image_level")
    seen = {"logits", "labels"}
    for key in data:
        if found := re.fullmatch(r"score_([a-z]+)(_focal)?", key):
            _same(losses.image_scores(data["logits"], found[1], focal=bool(found[2])), data[key], key)
            seen.add(key)
        elif found := re.fullmatch(r"loss_([a-z]+)_([a-z]+)", key):
            logits = data["logits"].clone().requires_grad_()
            loss = losses.image_level_bce(logits, data["labels"], found[1], found[2])
            loss.backward()
            _same(loss.detach(), data[key], key)
            _same(_gradient(logits), data[f"grad_{found[1]}_{found[2]}"], f"gradient of {key}")
            seen |= {key, f"grad_{found[1]}_{found[2]}"}
    assert seen == set(data)


@pytest.mark.golden
def test_pseudo_masks_equal_the_reference(golden: Path) -> None:
    data = _load(golden, "pseudo_mask")
    _same(losses.binarize(data["mask"]), data["binarized"], "binarized")
    seen = {"mask", "l1h", "binarized"}
    for key in data:
        if found := re.fullmatch(r"out_ambiguous([01])_top([\d.]+)_bkg([\d.]+)_low([\d.]+)", key):
            top, bkg, low = map(float, found.groups()[1:])
            ours = losses.pseudo_mask(data["mask"], top, bkg, low, drop_ambiguous=found[1] == "1")
            _same(ours, data[key], key)
            seen.add(key)
    assert seen == set(data)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["balanced_ce", "balanced_unbiased_ce"])
def test_balanced_losses_equal_the_reference(golden: Path, name: str) -> None:
    data = _load(golden, name)
    more = (int(data["old_classes"]),) if "old_classes" in data else ()
    assert set(data) - {"old_classes"} == {"logits", "pseudo", "l1h", "loss", "grad"}
    logits = data["logits"].clone().requires_grad_()
    loss = getattr(losses, name)(logits, data["pseudo"], data["l1h"], *more)
    loss.backward()
    _same(loss.detach(), data["loss"], name)
    _same(_gradient(logits), data["grad"], f"gradient of {name}")


def _pixel_loss(key: str, data: Arrays) -> Callable[[Tensor, str], Tensor]:
    """The function that ``key`` of pixel_losses.npz (without its reduction) names, of logits and reduction."""
    target, teacher, old = data["target"], data["logits_old"], int(data["old_classes"])
    kind, option = re.sub(r"_.*", "", key), re.sub(r".*[a-z]", "", key)
    if kind == "bce":
        return lambda z, reduction: losses.bce_ignore(z, target, reduction=reduction)
    if kind == "icarl":
        return lambda z, reduction: losses.icarl_bce(z, target, teacher.sigmoid(), float(option), reduction)
    if kind == "unce":
        return lambda z, reduction: losses.unbiased_ce(z, target, old, reduction=reduction)
    if kind == "kd":
        return lambda z, reduction: losses.distillation(z, teacher, float(option), reduction)
    if kind == "unkd":
        return lambda z, reduction: losses.unbiased_distillation(z, teacher, float(option), reduction)
    raise AssertionError(f"no function for {key}")


@pytest.mark.golden
def test_pixel_losses_equal_the_reference(golden: Path) -> None:
    data = _load(golden, "pixel_losses")
    seen = {"logits", "target", "logits_old", "old_classes"}
    for key in data:
        if found := re.fullmatch(r"(.+?)_(none|mean|sum)(_grad_of_sum)?", key):
            function, reduction, gradient = _pixel_loss(found[1], data), found[2], bool(found[3])
            logits = data["logits"].clone().requires_grad_()
            loss = function(logits, reduction)
            if gradient:
                loss.sum().backward()
                _same(_gradient(logits), data[key], key)
            else:
                _same(loss.detach(), data[key], key)
            seen.add(key)
    assert seen == set(data)


@pytest.mark.golden
@pytest.mark.parametrize("affinity", [0, 1])
def test_pseudo_mask_of_the_training_step_equals_the_reference(golden: Path, affinity: int) -> None:
    data = _load(golden, f"training_step_resnet50_affinity{affinity}")
    for key in [key for key in data if key.endswith("_refined")]:
        _same(losses.pseudo_mask(data[key]), data[key.replace("_refined", "_pseudo_mask")], key)


# --- image level -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ngwp", "att", "mean"])
def test_image_scores_have_right_gradients_and_shift_with_the_logits(mode: str) -> None:
    logits = _random(2, 4, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: losses.image_scores(z, mode), (logits,))
    if mode != "ngwp":
        torch.testing.assert_close(losses.image_scores(logits + 3, mode), losses.image_scores(logits, mode) + 3)


def test_image_level_bce_per_image_is_the_loss_of_each_image() -> None:
    logits, labels = _random(3, 6, 4, 4), torch.tensor([[1, 0], [0, 0], [1, 1]])
    each = losses.image_level_bce_per_image(logits, labels)
    alone = torch.stack([losses.image_level_bce(logits[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(each, alone)
    torch.testing.assert_close(each.mean(), losses.image_level_bce(logits, labels))


def test_pos_weight_weighs_present_classes_only() -> None:
    logits, present, absent = _random(2, 4, 3, 3), torch.ones(2, 2), torch.zeros(2, 2)
    plain, heavy = (losses.image_level_bce(logits, present, pos_weight=w) for w in (1.0, 3.0))
    torch.testing.assert_close(heavy, 3 * plain)
    torch.testing.assert_close(
        losses.image_level_bce(logits, absent, pos_weight=3.0), losses.image_level_bce(logits, absent)
    )


def test_unknown_names_are_refused() -> None:
    logits, target = _random(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="max"):
        losses.image_scores(logits, "max")
    with pytest.raises(ValueError, match="none"):
        losses.image_level_bce(logits, torch.ones(1, 1), reduction="none")
    with pytest.raises(ValueError, match="total"):
        losses.bce_ignore(logits, target, reduction="total")


# --- pseudo-labels and soft targets ----------------------------------------------------------------------------------


def test_pseudo_mask_by_hand() -> None:
    mask = torch.tensor([[[[0.9, 0.6, 0.1, 0.0]], [[0.1, 0.4, 0.5, 0.1]], [[0.0, 0.19, 0.0, 0.1]]]])
    # Thresholds: 0.63, 0.3, 0.2: the second pixel is class 1's alone, the third class's best pixel is too weak.
    expected = torch.tensor([[[[1, 0, 0, 0]], [[0, 1, 1, 0]], [[0, 0, 0, 0]]]]).float()
    assert torch.equal(losses.pseudo_mask(mask), expected)
    both = losses.pseudo_mask(mask, bkg=0.6, drop_ambiguous=False)
    assert both[0, :, 0, 1].tolist() == [1, 1, 0]
    assert losses.pseudo_mask(mask, bkg=0.6)[0, :, 0, 1].tolist() == [0, 0, 0]


def test_soft_target_lies_between_hard_and_soft() -> None:
    p = _random(2, 5, 3, 4).softmax(1)
    assert torch.equal(losses.soft_target(p, 0), p)
    assert torch.equal(losses.soft_target(p, 1).argmax(1), p.argmax(1)) and set(
        losses.soft_target(p, 1).unique().tolist()
    ) == {0.0, 1.0}
    torch.testing.assert_close(losses.soft_target(p, 0.3).sum(1), torch.ones(2, 3, 4, dtype=torch.float64))
    tied = torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1)
    assert losses.binarize(tied).flatten().tolist() == [1, 1, 0]


def test_mix_background() -> None:
    teacher, own = _random(2, 3, 2, 2).sigmoid(), _random(2, 5, 2, 2, seed=1).softmax(1)
    for bkg in (-1, 0, 0.3, 1):
        target = losses.mix_background(teacher, own, bkg)
        assert torch.equal(target[:, 1:3], teacher[:, 1:]) and torch.equal(target[:, 3:], own[:, 3:])
        smaller = torch.minimum(teacher[:, 0], own[:, 0])
        expected = smaller if bkg == -1 else bkg * own[:, 0] + (1 - bkg) * teacher[:, 0]
        torch.testing.assert_close(target[:, 0], expected)


# --- class-balanced cross entropy ------------------------------------------------------------------------------------


def _pseudo(classes: int, images: int = 3) -> Tensor:
    return F.one_hot(_labels((images, 5, 6), classes, ignored=0), classes).movedim(-1, 1).double()


def test_balanced_ce_counts_only_images_in_which_every_label_has_pixels() -> None:
    logits, pseudo = _random(3, 4, 5, 6), _pseudo(4)
    labels = torch.ones(3, 3)
    values, counted = losses.balanced_ce_per_image(logits, pseudo, labels)
    assert counted.tolist() == [1, 1, 1] and (values > 0).all()
    pseudo[1, 2] = 0
    values, counted = losses.balanced_ce_per_image(logits, pseudo, labels)
    assert counted.tolist() == [1, 0, 1]
    torch.testing.assert_close(losses.balanced_ce(logits, pseudo, labels), (values[0] + values[2]) / 3)


def test_balanced_ce_by_loop() -> None:
    logits, pseudo = _random(2, 3, 5, 6), _pseudo(3, images=2)
    pseudo[0, :, 0] = 0
    for image in range(2):
        total, loss = pseudo[image].sum(), torch.zeros((), dtype=torch.float64)
        log_p = logits[image].log_softmax(0)
        for y in range(5):
            for x in range(6):
                for c in range(3):
                    if pseudo[image, c, y, x]:
                        loss -= (total - pseudo[image, c].sum()) / (1 + total) * log_p[c, y, x]
        value = losses.balanced_ce_per_image(logits, pseudo, torch.ones(2, 2))[0][image]
        torch.testing.assert_close(value, loss / 30)


def test_balanced_unbiased_ce_without_old_classes_is_balanced_ce() -> None:
    logits, pseudo, labels = _random(3, 4, 5, 6), _pseudo(4), torch.ones(3, 3)
    torch.testing.assert_close(
        losses.balanced_unbiased_ce(logits, pseudo, labels, 1), losses.balanced_ce(logits, pseudo, labels)
    )


def test_balanced_unbiased_ce_folds_old_classes() -> None:
    logits, pseudo, labels = _random(3, 5, 5, 6), _pseudo(5), torch.ones(3, 4)
    folded = torch.cat([pseudo[:, :3].sum(1, keepdim=True), torch.zeros_like(pseudo[:, :2]), pseudo[:, 3:]], 1)
    torch.testing.assert_close(
        losses.balanced_unbiased_ce(logits, pseudo, labels, 3), losses.balanced_unbiased_ce(logits, folded, labels, 3)
    )


def test_empty_pseudo_mask_gives_zero() -> None:
    logits = _random(2, 4, 3, 3).requires_grad_()
    loss = losses.balanced_ce(logits, torch.zeros(2, 4, 3, 3), torch.zeros(2, 3))
    loss.backward()
    assert loss == 0 and torch.isfinite(_gradient(logits)).all()


# --- pixel level -----------------------------------------------------------------------------------------------------

PIXEL_LOSSES: dict[str, Callable[..., Tensor]] = {
    "bce": lambda z, t, o, **k: losses.bce_ignore(z, t, **k),
    "icarl": lambda z, t, o, **k: losses.icarl_bce(z, t, o.sigmoid(), **k),
    "unce": lambda z, t, o, **k: losses.unbiased_ce(z, t, 3, **k),
    "kd": lambda z, t, o, **k: losses.distillation(z, o, **k),
    "unkd": lambda z, t, o, **k: losses.unbiased_distillation(z, o, **k),
}


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_gradients_of_pixel_losses(name: str) -> None:
    logits, target, teacher = _random(2, 5, 2, 3).requires_grad_(), _labels((2, 2, 3), 5), _random(2, 3, 2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda z: PIXEL_LOSSES[name](z, target, teacher, reduction="none"), (logits,))


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_large_logits_and_half_precision_stay_finite(name: str) -> None:
    target, teacher = _labels((2, 4, 4), 5), _random(2, 3, 4, 4, seed=1, scale=100)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        logits = _random(2, 5, 4, 4, scale=300).to(dtype).requires_grad_()
        loss = PIXEL_LOSSES[name](logits, target, teacher.to(dtype), reduction="mean")
        loss.backward()
        assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(_gradient(logits)).all()


@pytest.mark.parametrize("name", ["bce", "unce"])
def test_all_ignored_gives_zero(name: str) -> None:
    logits, target = _random(2, 5, 3, 3).requires_grad_(), torch.full((2, 3, 3), IGNORE)
    for reduction in losses.REDUCTIONS:
        loss = PIXEL_LOSSES[name](logits, target, logits[:, :3], reduction=reduction).sum()
        loss.backward()
        assert loss == 0 and not _gradient(logits).any()


def test_bce_equals_torchs_on_one_hot_labels() -> None:
    logits, target = _random(2, 5, 4, 4), _labels((2, 4, 4), 5, ignored=0)
    one_hot = F.one_hot(target, 5).movedim(-1, 1).double()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(1)
    torch.testing.assert_close(losses.bce_ignore(logits, target), expected)
    torch.testing.assert_close(losses.soft_bce(logits, one_hot), expected)
    torch.testing.assert_close(losses.bce_ignore(logits, target.to(torch.uint8)), expected)


@pytest.mark.parametrize("bkg", [-1, 0, 0.3, 1])
def test_icarl_is_soft_bce_against_the_mixed_target(bkg: float) -> None:
    logits, target, teacher = _random(2, 5, 4, 4), _labels((2, 4, 4), 5), _random(2, 3, 4, 4, seed=1).sigmoid()
    one_hot = F.one_hot(torch.where(target == IGNORE, 5, target), 6)[..., :5].movedim(-1, 1).double()
    expected = losses.soft_bce(logits, losses.mix_background(teacher, one_hot, bkg))
    torch.testing.assert_close(losses.icarl_bce(logits, target, teacher, bkg), expected)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_unbiased_ce_without_old_classes_is_cross_entropy(reduction: str) -> None:
    logits, target = _random(2, 5, 4, 4), _labels((2, 4, 4), 5)
    torch.testing.assert_close(
        losses.unbiased_ce(logits, target, 1, reduction=reduction),
        F.cross_entropy(logits, target, ignore_index=IGNORE, reduction=reduction),
    )


def test_unbiased_distillation_without_new_classes_is_distillation() -> None:
    logits, teacher = _random(2, 4, 3, 3), _random(2, 4, 3, 3, seed=1)
    for alpha in (1.0, 0.5):
        torch.testing.assert_close(
            losses.unbiased_distillation(logits, teacher, alpha), losses.distillation(logits, teacher, alpha)
        )


def test_distillation_is_least_where_student_and_teacher_agree() -> None:
    teacher = _random(2, 4, 3, 3)
    agree = losses.distillation(torch.cat([teacher, _random(2, 2, 3, 3, seed=2)], 1), teacher)
    assert agree < losses.distillation(_random(2, 6, 3, 3, seed=3), teacher)
    torch.testing.assert_close(agree, -(teacher.softmax(1) * teacher.log_softmax(1)).mean())


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_reductions_agree(name: str) -> None:
    logits, target, teacher = _random(2, 5, 4, 4), _labels((2, 4, 4), 5), _random(2, 3, 4, 4, seed=1)
    none, total, mean = (PIXEL_LOSSES[name](logits, target, teacher, reduction=r) for r in ("none", "sum", "mean"))
    count = (target != IGNORE).sum() if name in ("bce", "unce") else target.numel()
    torch.testing.assert_close(none.sum(), total)
    torch.testing.assert_close(total / count, mean)
