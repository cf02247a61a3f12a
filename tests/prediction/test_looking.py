"""Tiles against whole images, and what large images cost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prediction.looking import Looker, LookSettings, Seen
from prediction.scratch import ImageOnDisk
from prediction.tiles import blended, spans
from segmentation_module import Segmenter
from utils.errors import UserError

SMALL = LookSettings(tile=256, overlap=64)


def mosaic(photos: list[Path], size: tuple[int, int]) -> Image.Image:
    """An image of that (width, height), of photographs beside each other."""
    sheet = Image.new("RGB", size)
    for number, left in enumerate(range(0, size[0], 96)):
        for other, top in enumerate(range(0, size[1], 96)):
            picture = Image.open(photos[(number * 5 + other) % len(photos)]).convert("RGB")
            sheet.paste(picture.resize((96, 96)), (left, top))
    return sheet


def in_tiles(looker: Looker, image: Image.Image, folder: Path, probabilities: Path | None = None) -> Seen:
    with ImageOnDisk(image, folder) as on_disk:
        return looker.look_in_tiles(on_disk, folder, probabilities)


class Near:
    """A network whose every pixel sees 24 pixels around it, zeros beyond the edges of what it is given, as convolutions do."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        colours = images.float() / 255 - 0.5
        for window, padding in (((1, 49), (0, 24)), ((49, 1), (24, 0))):
            colours = torch.nn.functional.avg_pool2d(colours, window, stride=1, padding=padding)
        return torch.cat([colours, -colours, colours.mean(dim=1, keepdim=True)], dim=1)


@torch.inference_mode()
def blend(segmenter: Segmenter | Near, image: Image.Image, settings: LookSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (C, H, W) of tiles, and of the whole image."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    expected = segmenter.logits(pixels)
    result = torch.zeros_like(expected)

    def look(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
        return segmenter.logits(pixels[..., top:bottom, left:right])

    for piece in blended(image.size, look, tile=settings.tile, overlap=settings.overlap):
        height, width = piece.logits.shape[-2:]
        result[..., piece.top : piece.top + height, piece.left : piece.left + width] = piece.logits
    return result[0], expected[0]


def test_tiles_agree_with_the_whole_image(photos: list[Path]) -> None:
    """Of a network that sees 24 pixels around, with 16 left out along the edges of tiles: on all but one pixel in a thousand."""
    tiled, whole = blend(Near(), mosaic(photos, (620, 450)), SMALL)
    differs = tiled.argmax(0) != whole.argmax(0)
    assert len(whole.argmax(0).unique()) >= 5 and float(differs.float().mean()) < 0.001
    assert float((tiled - whole).abs().max()) < 0.05 * float(whole.std())


def test_the_more_tiles_see_the_more_they_agree(segmenter: Segmenter, photos: list[Path]) -> None:
    """The hardest case: a head at random, whose widest convolution sees 288 pixels around, counts as much as its narrowest."""
    image = mosaic(photos, (620, 450))
    shares = []
    for tile in (256, 512):
        tiled, whole = blend(segmenter, image, LookSettings(tile=tile, overlap=tile // 4))
        shares.append(float((tiled.argmax(0) == whole.argmax(0)).float().mean()))
    assert shares[0] > 0.4 and shares[1] > 0.9


@pytest.mark.parametrize("near", [True, False])
def test_no_jump_at_seams(segmenter: Segmenter, photos: list[Path], near: bool) -> None:
    """Where fading begins and ends, neighbours differ from the whole image's no more than the image itself changes elsewhere."""
    image = mosaic(photos, (620, 450))
    tiled, whole = blend(Near() if near else segmenter, image, SMALL)
    along = spans(image.width, SMALL.tile, SMALL.overlap)
    ends = sorted({place - 1 for span in along[1:] for place in (span.begin, span.begin + SMALL.overlap // 2)})
    jumps = ((tiled - whole) / whole.std()).diff(dim=-1).abs()
    natural = (whole / whole.std()).diff(dim=-1).abs()
    assert len(ends) >= 4 and jumps[..., ends].max() < (0.1 if near else 1) * natural.max()


@pytest.mark.parametrize("settings", [{"flip": True}, {"scales": (0.5, 1.0)}, {"threshold": 0.5}])
def test_looks_reach_the_tiles(segmenter: Segmenter, photos: list[Path], tmp_path: Path, settings: dict) -> None:
    """One tile that is the whole image is the whole image."""
    image = mosaic(photos, (200, 150))
    images = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    looker = Looker(segmenter, LookSettings(tile=256, overlap=32, **settings), probabilities=True)
    (seen,) = looker.look(images)
    tiled = in_tiles(looker, image, tmp_path, tmp_path / "shares.npz")
    assert np.array_equal(tiled.mask, seen.mask) and abs(tiled.confidence - seen.confidence) < 1e-5
    with np.load(tmp_path / "shares.npz") as shares:
        assert np.array_equal(shares["probabilities"], seen.probabilities)
        assert shares["class_ids"].tolist() == [0, 5, 2, 1, 3, 8, 4] and shares["class_names"][0] == "background"
    plain = Looker(segmenter, LookSettings(tile=0)).look(images)[0]
    assert not np.array_equal(plain.mask, seen.mask)


def test_probabilities_of_tiles(segmenter: Segmenter, photos: list[Path], tmp_path: Path) -> None:
    image = mosaic(photos, (520, 300))
    seen = in_tiles(Looker(segmenter, SMALL, probabilities=True), image, tmp_path, tmp_path / "shares.npz")
    with np.load(tmp_path / "shares.npz") as file:
        shares = file["probabilities"]
    assert shares.shape == (300, 520, 7) and shares.dtype == np.float16
    ids = np.array([0, 5, 2, 1, 3, 8, 4])
    top = np.sort(shares.astype(np.float32), axis=-1)
    clear = top[..., -1] - top[..., -2] > 1e-3
    assert np.array_equal(ids[shares.argmax(-1)][clear], seen.mask[clear]) and clear.mean() > 0.9
    assert abs(float(shares.max(-1).astype(np.float64).mean()) - seen.confidence) < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["shares.npz"]


def test_which_images_are_tiled() -> None:
    settings = LookSettings(tile=1024, overlap=256)
    assert not settings.in_tiles((2048, 1024)) and settings.in_tiles((2049, 1024))
    assert not LookSettings(tile=0).in_tiles((12000, 9000))
    with pytest.raises(UserError, match=r"--tile 256: tiles that share 100 pixels are at least 364 wide"):
        LookSettings(tile=256, overlap=100)
    with pytest.raises(UserError, match=r"--tile 32"):
        LookSettings(tile=32, overlap=8)
    with pytest.raises(UserError, match=r"--tile 256"):
        LookSettings(tile=256, overlap=0)


def test_an_image_on_the_disk(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (530, 41, 3), dtype=np.uint8)
    with ImageOnDisk(Image.fromarray(values), tmp_path) as image:
        assert np.array_equal(image.window(3, 250, 40, 530).permute(1, 2, 0).numpy(), values[250:530, 3:40])
        small = image.reduced(100)
        assert small.size == (7, 89)
        assert np.array_equal(np.asarray(small), np.asarray(Image.fromarray(values).reduce(6)))
    assert not list(tmp_path.iterdir())


def peak() -> float:
    """Peak resident memory since ``reset``, MiB."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found
    return int(found[1]) / 2**10


def reset() -> None:
    """Have the system forget the peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        pytest.skip(f"the peak of memory cannot be reset here ({error})")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_grows_by_the_image_alone(segmenter: Segmenter, photos: list[Path], tmp_path: Path) -> None:
    """Five bytes a pixel, the decoded picture's four and the mask's one; logits of the whole would take 28."""
    looker = Looker(segmenter, SMALL)
    peaks = []
    for size in ((500, 300), (500, 300), (1300, 700)):
        image = mosaic(photos, size)
        reset()
        in_tiles(looker, image, tmp_path)
        peaks.append(peak())
    more = (1300 * 700 - 500 * 300) / 2**20
    assert peaks[2] - peaks[1] < 5 * more + 6 < 28 * more
