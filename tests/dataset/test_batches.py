"""From a source to batches: views, augmentation, samplers; nothing depends on workers, ranks or interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import make_source
from dataset.batch import collate
from dataset.incremental import IncrementalView
from dataset.sampler import GlobalBatchSampler, InterleavedBatchSampler, evaluation_shard
from dataset.transform import train_transform, val_transform
from tasks import load_task
from utils.errors import UserError
from utils.normalisation import NORMALISATIONS


def view(folder: Path, step: int, **changes) -> IncrementalView:  # type: ignore[no-untyped-def]
    settings = {
        "train": True,
        "mask_old": True,
        "unknown": "ignore",
        "transform": train_transform(32),
        "seed": 5,
    } | changes
    source = make_source("shapes", folder, "train")
    return IncrementalView(source, load_task("shapes", "5-3"), step, np.arange(len(source)), **settings)


def test_a_step_sees_its_own_labels_only(small_shapes: Path) -> None:
    whole = view(small_shapes, 1, transform=val_transform(None))
    for i in range(len(whole)):
        sample = whole[i]
        assert set(sample.mask.unique().tolist()) <= {0, 6, 7, 8}
        assert sample.image_labels.shape == (8,) and not sample.image_labels[:5].any()
        truth = {int(v) for v in np.unique(whole.source.mask(i)) if v in (6, 7, 8)}
        assert {int(c) + 1 for c in sample.image_labels.nonzero()} == truth
    unmasked = view(small_shapes, 1, mask_old=False, transform=val_transform(None))
    assert any(unmasked[i].image_labels[:5].any() for i in range(10))
    test = view(small_shapes, 0, train=False, mask_old=False, transform=val_transform(None))
    values = set(torch.cat([test[i].mask.flatten() for i in range(len(test))]).unique().tolist())
    assert values == {0, 1, 2, 3, 4, 5, 255}, "classes not yet learned are left out of the test"


def test_image_labels_are_of_the_whole_image(small_shapes: Path) -> None:
    cropped, whole = (
        view(small_shapes, 0),
        view(small_shapes, 0, transform=val_transform(None)),
    )
    assert all(torch.equal(cropped[i].image_labels, whole[i].image_labels) for i in range(10))


def test_augmentation_depends_on_epoch_and_image_alone(small_shapes: Path) -> None:
    a, b = view(small_shapes, 0), view(small_shapes, 0)
    torch.manual_seed(1)
    first = a[(3, 7)]
    before = torch.get_rng_state()
    torch.manual_seed(2)
    b[(0, 1)]
    second = b[(3, 7)]
    assert torch.equal(first.image, second.image) and torch.equal(first.mask, second.mask)
    assert not torch.equal(first.image, b[(4, 7)].image)
    torch.manual_seed(1)
    a[(3, 7)]
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_image_and_mask_are_moved_together() -> None:
    """A mask painted into the image must still lie on it after any crop and flip."""
    mask = np.zeros((90, 140), np.uint8)
    mask[20:70, 30:60] = 1
    image = Image.fromarray(np.repeat(mask[..., None] * 255, 3, axis=2))
    transform = train_transform(48)
    for seed in range(20):
        pixels, labels = transform(image, mask, seed)
        assert pixels.shape == (3, 48, 48) and labels.shape == (48, 48)
        inside = pixels[0] > 127
        # Bilinear and nearest differ on the edge only.
        assert (inside != labels.bool()).float().mean() < 0.08


def test_normalisation_and_whole_images() -> None:
    image = Image.fromarray(np.full((5, 7, 3), (255, 0, 128), np.uint8))
    images, labels = val_transform(None)(image, np.full((5, 7), 255, np.uint8))
    assert images.dtype == labels.dtype == torch.uint8
    pixels = NORMALISATIONS["imagenet"].apply(images)
    mean, std = map(torch.tensor, (NORMALISATIONS["imagenet"].mean, NORMALISATIONS["imagenet"].std))
    expected = (torch.tensor([1.0, 0.0, 128 / 255]) - mean) / std
    torch.testing.assert_close(pixels[:, 2, 3], expected)
    assert labels.shape == (5, 7) and int(labels[0, 0]) == 255


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (31, 500), (32, 32)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    image, mask = Image.new("RGB", size), np.zeros(size[::-1], np.uint8)
    for transform in (train_transform(32), val_transform(32)):
        pixels, labels = transform(image, mask)
        assert pixels.shape == (3, 32, 32) and labels.shape == (32, 32)


def test_jitter_changes_colours_and_nothing_else() -> None:
    """Crop, flip and mask are those without it; with probability jitter / 3 an image is grey."""
    rng = np.random.default_rng(0)
    image, mask = Image.fromarray(rng.integers(60, 200, (50, 60, 3), np.uint8)), rng.integers(0, 9, (50, 60), np.uint8)
    grey, changed, draws = 0, 0, 60
    for seed in range(draws):
        found = []
        for jitter in (0.0, 0.6):
            found.append(train_transform(32, jitter)(image, mask, seed))
        (plain, labels), (other, same) = found
        assert torch.equal(labels, same) and other.shape == plain.shape
        # The luminance still shows the same crop.
        assert np.corrcoef(plain.float().mean(0).flatten(), other.float().mean(0).flatten())[0, 1] > 0.5
        grey += bool(torch.equal(other[0], other[1]) and torch.equal(other[1], other[2]))
        changed += not torch.equal(plain, other)
    assert changed == draws and 0.1 < grey / draws < 0.4


def test_pseudo_labels_replace_masks(small_shapes: Path, tmp_path: Path) -> None:
    source = make_source("shapes", small_shapes, "train")
    for name in source.ids:
        Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / f"{name}.png")
    assert set(view(small_shapes, 1, pseudo=tmp_path)[0].mask.unique().tolist()) == {7}
    (tmp_path / f"{source.ids[3]}.png").unlink()
    with pytest.raises(UserError, match="no pseudo-label for 1 images"):
        view(small_shapes, 1, pseudo=tmp_path)


def batches(epochs: int, ranks: int, iters: int | None, start: int = 0, length: int = 23) -> list[list]:
    samplers = [GlobalBatchSampler(length, 4, rank, ranks, seed=9, iters_per_epoch=iters) for rank in range(ranks)]
    found = []
    for epoch in range(epochs):
        parts = []
        for sampler in samplers:
            sampler.set_epoch(epoch, start)
            parts.append(list(sampler))
        found.append([sum(slices, []) for slices in zip(*parts, strict=True)])
    return found


@pytest.mark.parametrize("iters", [None, 3, 14])
def test_global_batches(iters: int | None) -> None:
    one = batches(3, 1, iters)
    assert one == batches(3, 2, iters) == batches(3, 4, iters), "the ranks together see what one process sees"
    assert [epoch[2:] for epoch in one] == batches(3, 1, iters, start=2), "an interrupted epoch goes on where it was"
    assert all(len(epoch) == (iters or 5) for epoch in one)
    keys = [key for epoch in one for batch in epoch for key in batch]
    assert len(set(keys)) == len(keys), "no image is drawn twice with the same augmentation"
    if iters == 14:
        for number in (0, 1):
            drawn = [index for round_, index in keys if round_ == number]
            assert sorted(drawn) == list(range(23)), "every image once before any comes again"


def test_batches_that_cannot_be() -> None:
    with pytest.raises(UserError, match="cannot be shared by 3 processes"):
        GlobalBatchSampler(10, 4, 0, 3, 0)
    with pytest.raises(UserError, match="3 training images, fewer than --batch_size 4"):
        GlobalBatchSampler(3, 4, 0, 1, 0)
    few = GlobalBatchSampler(3, 4, 0, 1, 0, iters_per_epoch=5)
    assert [len(batch) for batch in few] == [4] * 5


def interleaved(new: int, replay: int, epochs: int, ranks: int, iters: int | None, start: int = 0) -> list[list]:
    samplers = [InterleavedBatchSampler(new, replay, 4, rank, ranks, 9, iters_per_epoch=iters) for rank in range(ranks)]
    found = []
    for epoch in range(epochs):
        parts = []
        for sampler in samplers:
            sampler.set_epoch(epoch, start)
            parts.append(list(sampler))
        found.append([sum(slices, []) for slices in zip(*parts, strict=True)])
    return found


@pytest.mark.parametrize(("new", "replay"), [(23, 9), (9, 23), (12, 12), (3, 50)])
@pytest.mark.parametrize("iters", [None, 7])
def test_interleaved_batches(new: int, replay: int, iters: int | None) -> None:
    one = interleaved(new, replay, 4, 1, iters)
    assert one == interleaved(new, replay, 4, 2, iters) == interleaved(new, replay, 4, 4, iters)
    assert [epoch[2:] for epoch in one] == interleaved(new, replay, 4, 1, iters, start=2)
    assert all(len(epoch) == (iters or 2 * max(new, replay) // 4) for epoch in one)
    keys = [key for epoch in one for batch in epoch for key in batch]
    for batch in (keys[i : i + 4] for i in range(0, len(keys), 4)):
        assert [index >= new for _, index in batch] == [False, True, False, True]
    assert len(set(keys)) == len(keys), "no image is drawn twice with the same augmentation"
    for stream, count in ((keys[::2], new), (keys[1::2], replay)):
        indices = [index for _, index in stream]
        for begin in range(0, len(indices), count):
            assert len(set(indices[begin : begin + count])) == len(indices[begin : begin + count])
    if new == replay:
        pairs = {(a[1], b[1] - new) for a, b in zip(keys[::2], keys[1::2], strict=True)}
        assert len(pairs) > new, "an image meets another replay image each time"


@pytest.mark.parametrize(("share", "places"), [(0.25, [3, 7]), (0.5, [1, 3, 5, 7]), (0.75, [1, 2, 3, 5, 6, 7])])
@pytest.mark.parametrize("ranks", [1, 2])
def test_shares_of_replay_images(share: float, places: list[int], ranks: int) -> None:
    samplers = [InterleavedBatchSampler(20, 12, 8, rank, ranks, 9, share=share) for rank in range(ranks)]
    batches = [sum(slices, []) for slices in zip(*map(list, samplers), strict=True)]
    assert len(batches) == max(int(20 / (8 - 8 * share)), int(12 / (8 * share))), "all images of both kinds are seen"
    for batch in batches:
        assert [place for place, (_, index) in enumerate(batch) if index >= 20] == places
    for kept, count in ((False, 20), (True, 12)):
        indices = [index for batch in batches for _, index in batch if (index >= 20) is kept]
        assert len(set(indices[:count])) == min(count, len(indices)), "each once before any twice"


def test_interleaved_batches_that_cannot_be() -> None:
    with pytest.raises(UserError, match="--batch_size 5 cannot be divided so that --replay_share"):
        InterleavedBatchSampler(10, 10, 5, 0, 1, 0)
    with pytest.raises(UserError, match="cannot be shared by 4 processes"):
        InterleavedBatchSampler(10, 10, 6, 0, 4, 0)
    with pytest.raises(UserError, match="--batch_size 6 cannot be divided so that --replay_share"):
        InterleavedBatchSampler(10, 10, 6, 0, 1, 0, share=0.25)
    for share in (0, 1):
        with pytest.raises(UserError, match=f"--replay_share {share} of it"):
            InterleavedBatchSampler(10, 10, 6, 0, 1, 0, share=share)
    with pytest.raises(UserError, match="5 training images, fewer than --batch_size 8"):
        InterleavedBatchSampler(3, 2, 8, 0, 1, 0)


def test_evaluation_covers_every_image_once() -> None:
    for length in (0, 1, 7, 8):
        shards = [list(evaluation_shard(length, rank, 3)) for rank in range(3)]
        assert sorted(sum(shards, [])) == list(range(length))


def test_collate(small_shapes: Path) -> None:
    data = view(small_shapes, 1)
    batch = collate([data[0], data[1]])
    assert batch.images.shape == (2, 3, 32, 32) and batch.masks.shape == (2, 32, 32)
    assert batch.images.dtype == batch.masks.dtype == torch.uint8, "four bytes a pixel travel"
    assert batch.image_labels.shape == (2, 8) and batch.is_replay.tolist() == [False, False]
    assert batch.names == tuple(data.source.ids[:2])
    there = batch.to(torch.device("cpu"), torch.float64)
    assert (there.images.dtype, there.masks.dtype) == (torch.uint8, torch.int64)
    assert there.image_labels.dtype == torch.float64
