"""Reading image and mask files that came from anywhere: what can be read is read rightly, what cannot is named.

Training data raise ``DecodeError``, which names the file and the fault. Web data are sifted by ``readable_images``: the unreadable
are skipped, counted and listed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from utils.errors import UserError

LOG = logging.getLogger("webwilss")
# More pixels than this are a decompression bomb or a mistake; photographs stay below.
MAX_PIXELS = 200_000_000
# Modes whose values are more than 8 bits wide, and the value that they call white.
WIDE = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "I": 65535}


class DecodeError(UserError):
    """A file that cannot be used as an image or mask; the message is ``PATH: fault``."""


def _fail(path: Path | str, fault: str) -> DecodeError:
    return DecodeError(f"{path}: {fault}")


def _open(path: Path) -> Image.Image:
    """The file's first frame, fully decoded."""
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
            if not head:
                raise _fail(path, "is empty")
            if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
                raise _fail(path, "is a web page, not an image")
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(file)
                if image.width * image.height > MAX_PIXELS:
                    raise _fail(path, f"has {image.width} x {image.height} pixels, more than any photograph")
                image.load()
    except FileNotFoundError as error:
        raise _fail(path, "no such file") from error
    except IsADirectoryError as error:
        raise _fail(path, "is a folder") from error
    except PermissionError as error:
        raise _fail(path, "may not be read") from error
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _fail(path, "is no image that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
        raise _fail(path, f"is damaged ({reason})") from error
    return image


def load_image(path: Path | str) -> Image.Image:
    """An image as RGB, upright.

    EXIF rotation is applied; 16-bit values are scaled to 8 bits; transparency is laid on white; of an animation the first frame
    is taken.

    Raises:
        DecodeError: the file is missing, empty, truncated, no image, or absurdly large.
    """
    path = Path(path)
    image = _open(path)
    try:
        image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, ZeroDivisionError):
        LOG.debug("%s: its EXIF block is damaged and was ignored", path)
    if image.mode in WIDE:
        values = np.asarray(image, dtype=np.float64) * (255 / WIDE[image.mode])
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255 if values.max(initial=0) <= 1 else 1
        image = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def load_mask(path: Path | str) -> NDArray[np.uint8]:
    """A mask's values (H, W), palette indices or grey levels.

    Raises:
        DecodeError: as for images, or the file holds colours where class numbers should be.
    """
    path = Path(path)
    image = _open(path)
    if image.mode in WIDE:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 255:
            raise _fail(path, f"has values up to {values.max()}; a mask holds class numbers from 0 to 255")
        return values.astype(np.uint8)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode not in ("P", "L"):
        raise _fail(path, f"is a colour picture (mode {image.mode}); a mask is a palette or grey PNG of class numbers")
    return np.array(image, dtype=np.uint8)


def check_pair(
    image_size: tuple[int, int], mask: NDArray[np.uint8], image_path: Path | str, mask_path: Path | str
) -> None:
    """Raise DecodeError unless the mask (H, W) is of the image's size (width, height)."""
    if mask.shape != (image_size[1], image_size[0]):
        raise _fail(
            mask_path,
            f"is {mask.shape[1]} x {mask.shape[0]} pixels, its image {image_path} is {image_size[0]} x {image_size[1]}",
        )


def readable_images(paths: Iterable[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Sift files of web images: which can be read, and which cannot and why.

    Returns:
        readable files, and (file, fault) of those skipped; their number is logged.
    """
    good: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for path in tqdm(list(paths), desc="Reading images", disable=None):
        try:
            load_image(path)
            good.append(path)
        except DecodeError as error:
            skipped.append((path, str(error).removeprefix(f"{path}: ")))
    if skipped:
        LOG.warning("%d of %d images cannot be read and are left out", len(skipped), len(skipped) + len(good))
    return good, skipped
