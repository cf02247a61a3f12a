"""Mask refinement against the reference and against a plain double loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modules.affinity import DILATIONS, PAMR


def _by_hand(image: torch.Tensor, mask: torch.Tensor, iterations: int, dilations: tuple[int, ...]) -> torch.Tensor:
    """One image (3, H, W), one mask (C, H, W): pixel by pixel, from the definition."""
    height, width = image.shape[1:]
    weights, places = {}, {}
    for y in range(height):
        for x in range(width):
            around, index = [], []
            for d in dilations:
                for dy in (-d, 0, d):
                    for dx in (-d, 0, d):
                        place = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                        around.append(image[:, place[0], place[1]])
                        if dy or dx:
                            index.append(place)
            deviation = torch.stack(around).std(0)
            distance = torch.stack([(image[:, a, b] - image[:, y, x]).abs() for a, b in index])
            weights[y, x] = (-distance / (1e-8 + 0.1 * deviation)).mean(1).softmax(0)
            places[y, x] = index
    for _ in range(iterations):
        refined = torch.zeros_like(mask)
        for (y, x), index in places.items():
            for weight, (a, b) in zip(weights[y, x], index, strict=True):
                refined[:, y, x] += weight * mask[:, a, b]
        mask = refined
    return mask


@pytest.mark.golden
def test_refined_masks_equal_the_reference(golden: Path) -> None:
    files = sorted(golden.glob("pamr_*.npz"))
    assert files
    for file in files:
        data = np.load(file)
        assert set(data.files) == {"image", "mask", "refined", "refined_default_dilations_3_iterations"}
        image, mask = torch.from_numpy(data["image"]), torch.from_numpy(data["mask"])
        wide = PAMR(3, (1, 2, 4, 8, 12, 24))
        for module, key in ((PAMR(), "refined"), (wide, "refined_default_dilations_3_iterations")):
            np.testing.assert_allclose(
                module(image, mask).numpy(), data[key], rtol=0, atol=1e-5, err_msg=f"{file.name} {key}"
            )


@pytest.mark.parametrize("dilations", [(1,), (2, 9)])
def test_equals_the_definition_also_where_dilations_leave_the_image(dilations: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    mask = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    refined = PAMR(2, dilations)(image, mask)
    assert refined.dtype == torch.float64
    for i in range(2):
        torch.testing.assert_close(refined[i], _by_hand(image[i], mask[i], 2, dilations), rtol=0, atol=1e-12)


def test_masks_stay_distributions_and_constants_stay() -> None:
    image, mask = torch.rand(1, 3, 16, 16), torch.rand(1, 4, 7, 5).softmax(1)
    refined = PAMR()(image, mask)
    assert refined.shape == (1, 4, 16, 16)
    torch.testing.assert_close(refined.sum(1), torch.ones(1, 16, 16))
    grey, constant = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 2, 8, 8), 0.3)
    torch.testing.assert_close(PAMR()(grey, constant), constant)


def test_respects_edges_of_the_image() -> None:
    image = torch.zeros(1, 3, 12, 12)
    image[..., 6:] = 1
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., 6:] = 1
    mask[..., 2, 2] = 1
    refined = PAMR(10, (1, 2))(image, mask)[0, 0]
    assert refined[:, 6:].min() > 0.9, "the object stays"
    assert refined[2, 2] < 0.2, "a speck on another colour goes"


def test_has_no_state_and_computes_in_float32_under_autocast() -> None:
    module = PAMR()
    assert not module.state_dict() and not list(module.parameters()) and module.dilations == DILATIONS
    image, mask = torch.rand(1, 3, 9, 9), torch.rand(1, 2, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refined = module(image, mask)
        half = module(image.bfloat16(), mask.bfloat16())
    assert refined.dtype == half.dtype == torch.float32
    torch.testing.assert_close(refined, module(image, mask), rtol=0, atol=0)


def test_gradient_reaches_mask_and_image() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    mask = torch.rand(1, 2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(PAMR(2, (1, 2)), (image, mask))


def test_leaves_its_input_alone() -> None:
    image, mask = torch.rand(1, 3, 6, 6), torch.rand(1, 2, 6, 6)
    before = image.clone(), mask.clone()
    PAMR(1)(image, mask)
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])
    assert torch.equal(PAMR(0)(image, mask), mask)
