"""Objects of new images in replay scenes: what is cut out, where it goes, what it teaches, and who gives to whom."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.paste import REACH, SCALES, Cut, Pasting, composed, cut, moved, pasted
from modules.affinity import PAMR
from utils.checks import check_pairs, replay_places
from utils.errors import UserError

NEW, OLD, SIDE = 2, 3, 24


def square(left: int = 8, top: int = 4, side: int = 12) -> Cut:
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(1, NEW, SIDE, SIDE)
    masks[0, 1, top : top + side, left : left + side] = 1
    return Cut(images, masks)


@pytest.mark.parametrize("affinity", [None, PAMR()])
def test_what_the_localizer_is_sure_of_is_cut_out(affinity: PAMR | None) -> None:
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    images[:, :, :32, :32] = 200
    probabilities = torch.zeros(3, OLD + NEW, 8, 8)
    probabilities[:, 0] = 1
    probabilities[:, :, :4, :4] = torch.tensor([0.1, 0, 0, 0.1, 0.8])[:, None, None]
    # The second image has the other new class, the third is the object wholly.
    probabilities[2] = torch.tensor([0.1, 0, 0, 0.1, 0.8])[:, None, None]
    found = cut(images, probabilities, torch.tensor([[0.0, 1], [1, 0], [0, 1]]), affinity)
    assert found.images.max() == pytest.approx(200 / 255) and not found.masks[:, 0].any()
    assert found.masks[0, 1, :24, :24].all() and not found.masks[0, 1, 40:].any()
    if affinity is not None:
        assert found.masks[0, 1].mean() == pytest.approx(0.25, abs=0.04), "along the image's edges"
    assert not found.masks[1:].any()


def sampled(source: Tensor, at_y: float, at_x: float) -> float:
    """The value between the four pixels around a place of (H, W); outside it is 0."""
    found = 0.0
    for row in (math.floor(at_y), math.floor(at_y) + 1):
        for column in (math.floor(at_x), math.floor(at_x) + 1):
            if 0 <= row < SIDE and 0 <= column < SIDE:
                found += (1 - abs(at_y - row)) * (1 - abs(at_x - column)) * float(source[row, column])
    return found


def slowly(objects: Cut, drawn: list[float]) -> tuple[Tensor, Tensor]:
    """``moved`` of one image, pixel by pixel."""
    mask = objects.masks[0].sum(dim=0)
    places = [(y, x) for y in range(SIDE) for x in range(SIDE) if mask[y, x]]
    middle_y, middle_x = (sum((2 * place[i] + 1) / SIDE - 1 for place in places) / len(places) for i in (0, 1))
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * drawn[1]
    to_x, to_y = (REACH * (2 * value - 1) for value in drawn[2:])
    images, masks = torch.zeros(3, SIDE, SIDE), torch.zeros(NEW, SIDE, SIDE)
    for y in range(SIDE):
        for x in range(SIDE):
            off_y, off_x = ((2 * value + 1) / SIDE - 1 - to for value, to in ((y, to_y), (x, to_x)))
            at_y = ((middle_y + off_y / scale + 1) * SIDE - 1) / 2
            at_x = ((middle_x + (-off_x if drawn[0] < 0.5 else off_x) / scale + 1) * SIDE - 1) / 2
            for channel in range(NEW):
                masks[channel, y, x] = sampled(objects.masks[0, channel], at_y, at_x)
            at_y, at_x = (min(max(value, 0), SIDE - 1) for value in (at_y, at_x))
            for channel in range(3):
                images[channel, y, x] = sampled(objects.images[0, channel], at_y, at_x)
    return images, masks


@pytest.mark.parametrize("drawn", [[0.1, 0.0, 0.3, 0.8], [0.9, 1.0, 0.5, 0.5], [0.9, 0.4, 0.0, 1.0]])
def test_an_object_is_moved_as_a_slow_version_moves_it(drawn: list[float]) -> None:
    found = moved(square(), torch.tensor([drawn]))
    images, masks = slowly(square(), drawn)
    torch.testing.assert_close(found.masks[0], masks, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.images[0], images, rtol=1e-4, atol=1e-4)
    assert masks.sum() > 0 and not found.masks[0, 0].any()


def test_the_middle_comes_to_the_middle_with_its_pixels() -> None:
    objects = square()
    found = moved(objects, torch.tensor([[0.9, 1.0, 0.5, 0.5]]))
    torch.testing.assert_close(found.masks[0, 1, 6:18, 6:18], torch.ones(12, 12))
    torch.testing.assert_close(found.images[0, :, 6:18, 6:18], objects.images[0, :, 4:16, 8:20])
    mirrored = moved(objects, torch.tensor([[0.1, 1.0, 0.5, 0.5]]))
    torch.testing.assert_close(mirrored.images[0, :, 6:18, 6:18], objects.images[0, :, 4:16, 8:20].flip(-1))


def test_what_is_pasted_and_what_it_teaches() -> None:
    objects = square()
    scene = torch.full((1, 3, SIDE, SIDE), 100, dtype=torch.uint8)
    found = pasted(scene, objects)
    inside = objects.masks[0, 1].bool()
    assert found.dtype == torch.uint8 and found[0, :, ~inside].eq(100).all()
    torch.testing.assert_close(found[0, :, inside].float() / 255, objects.images[0, :, inside], rtol=0, atol=0.5 / 255)
    torch.testing.assert_close(pasted(scene.float() / 255, objects)[0, :, inside], objects.images[0, :, inside])

    target = torch.rand(1, OLD + NEW, 4, 4, generator=torch.Generator().manual_seed(2))
    claims = torch.zeros(1, NEW, 4, 4)
    claims[0, 1, 0, :2] = torch.tensor([1, 0.25])
    found = composed(target, claims)
    assert torch.equal(found[..., 1:, :], target[..., 1:, :])
    assert found[0, :, 0, 0].tolist() == [0, 0, 0, 0, 1]
    torch.testing.assert_close(found[0, :, 0, 1], target[0, :, 0, 1] * 0.75 + torch.tensor([0, 0, 0, 0, 0.25]))


@pytest.mark.parametrize("fold", [False, True])
def test_a_cow_that_is_taken_for_a_horse_is_an_object_of_a_cow_where_absent_classes_are_folded(fold: bool) -> None:
    pasting = Pasting(1.0, 7, 2, 0.5, 0, NEW, None, fold)
    images = torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    probabilities = torch.zeros(1, OLD + NEW, 8, 8)
    probabilities[:, 0] = 1
    probabilities[:, :, 2:6, 2:6] = torch.tensor([0.1, 0.6, 0, 0, 0.3])[:, None, None]
    labels = torch.tensor([[0.0, 0, 0, 1], [0, 1, 0, 0]])
    scenes, claims = pasting(images, probabilities, labels, pasting.pairs(0, 0, 0, 1))
    assert bool(claims[0, 1].any()) == fold and not claims[0, 0].any()
    assert torch.equal(scenes, images[1:]) != fold


@pytest.mark.parametrize(("batch", "share"), [(8, 0.5), (8, 0.25), (8, 0.75)])
def test_two_ranks_paste_what_one_does(batch: int, share: float) -> None:
    pasting = Pasting(0.6, 7, batch, share, 2, NEW, None)
    assert pasting.pairs(1, 0, 0, 1).scenes == [], "the localizer is not sure yet"
    places, seen = replay_places(batch, share), []
    for number in range(6):
        one = pasting.pairs(3, number, 0, 1)
        assert all(places[scene] for scene in one.scenes) and not any(places[donor] for donor in one.donors)
        assert all(donor < scene and all(places[donor + 1 : scene]) for donor, scene, _ in zip(*one, strict=True))
        two = [pasting.pairs(3, number, rank, 2) for rank in (0, 1)]
        half = batch // 2
        assert two[0].scenes + [scene + half for scene in two[1].scenes] == one.scenes
        assert two[0].donors + [donor + half for donor in two[1].donors] == one.donors
        assert torch.equal(torch.cat([pairs.drawn for pairs in two]), one.drawn)
        seen.append(one.scenes)
    assert len({tuple(scenes) for scenes in seen}) > 1
    assert pasting.pairs(3, 0, 0, 1).scenes == seen[0]
    everywhere = Pasting(1.0, 7, batch, share, 2, NEW, None).pairs(3, 0, 0, 1).scenes
    assert everywhere == [place for place in range(batch) if places[place]]


def test_ranks_that_part_the_pairs_are_refused() -> None:
    check_pairs(12, 0.5, 3)
    with pytest.raises(UserError, match="--paste: 2 processes part replay images of --batch_size 6"):
        check_pairs(6, 0.5, 2)
