"""Image and mask files that came from anywhere: what can be read is read rightly, what cannot is named; and masks written.

The one place that hands files to Pillow. Training data raise ``DecodeError``, which names the file and the fault. Web data are
sifted by ``readable_images``: the unreadable are skipped, counted and listed.

Values of more than 8 bits follow one rule a format, whatever an image's own maximum: white is 65535 in 16 and 32 bits, 4095 in the
12 bits of a TIFF, 1 in floats.
"""

from __future__ import annotations

import logging
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from tqdm import tqdm

from utils.errors import UserError, shown_text
from utils.visualise import palette
from utils.whole import whole_file

LOG = logging.getLogger("webwilss")
# What Pillow may try: formats that hold pictures. PostScript would start Ghostscript, metafiles and containers other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
# More pixels than this are a decompression bomb or a mistake; photographs stay below.
MAX_PIXELS = 200_000_000
# How long a frame is shown whose file does not say.
FRAME_SECONDS = 0.1
# Pixels that are converted at once, where a conversion needs many bytes a pixel.
STRIP = 1 << 20
# Whole numbers of more than 8 bits; all but a TIFF's packed 12 bits call 65535 white.
WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")
WHITE, WHITE_12 = 65535, 4095
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
# An image of more than 8 bits that has fewer levels than this once it has 8: 12 bits read as 16 have 17.
FEW_LEVELS = 20
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations from here on exchange width and height.
SIDEWAYS = 5
LOSSY = ("JPEG", "WEBP", "AVIF", "JPEG2000")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
CURE = "save masks as palette or grey PNGs of class numbers"


class DecodeError(UserError):
    """A file that cannot be used as an image or mask; the message is ``PATH: fault``, one line without control characters."""


def _fail(path: Path | str, fault: str) -> DecodeError:
    return DecodeError(shown_text(f"{path}: {fault}"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file's first frame, its head read and its pixels not; all that Pillow raises in the block is one ``DecodeError``."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise _fail(path, "is a folder")
        if not stat.S_ISREG(kind):
            raise _fail(path, "is a pipe, a socket or a device, not a file")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = file.read(512)
            head = start.lstrip().lower()
            if not head:
                raise _fail(path, "is empty")
            if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
                raise _fail(path, "is a web page, not an image")
            file.seek(0)
            # A JPEG's list of further frames is not wanted, and often damaged.
            jpeg = start.startswith(b"\xff\xd8\xff")
            image: Image.Image = _Jpeg(file) if jpeg else Image.open(file, formats=_formats())
            if image.width * image.height > MAX_PIXELS:
                raise _fail(path, f"has {image.width} x {image.height} pixels, more than any photograph")
            yield image
    except DecodeError:
        raise
    except FileNotFoundError as error:
        raise _fail(path, "no such file") from error
    except PermissionError as error:
        raise _fail(path, "may not be read") from error
    except UnidentifiedImageError as error:
        raise _fail(path, "is no image that can be read") from error
    except Image.DecompressionBombError as error:
        raise _fail(path, "has more pixels than any photograph") from error
    # Decoders of damaged files raise errors of every kind: struct.error, KeyError, OverflowError, RuntimeError ...
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise _fail(path, f"is damaged ({lines[0][:100] if lines else type(error).__name__})") from error


class _Jpeg(JpegImageFile):
    """A JPEG whose EXIF block is not searched for the resolution, where damage would end the reading."""

    def _read_dpi_from_exif(self) -> None:
        pass


def _formats() -> list[str]:
    """Those of ``FORMATS`` that this Pillow reads."""
    if not all(name in Image.OPEN for name in FORMATS):
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _raw(image: Image.Image) -> tuple[str, int]:
    """How the values lie in the file, in Pillow's words (``L;4``, ``I;12``), and a netpbm file's own maximum or 0; before it is loaded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return "", 0
    args = tiles[0].args if isinstance(tiles[0].args, tuple) else (tiles[0].args,)
    maximum = args[-1] if tiles[0].codec_name in ("ppm", "ppm_plain") else 0
    return str(args[0]) if args else "", maximum if isinstance(maximum, int) else 0


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the block is damaged."""
    try:
        # The PNG reader's own method would decode the whole picture.
        tag = Image.Image.getexif(image).get(ORIENTATION)
    except Exception:
        LOG.debug("a damaged EXIF block was ignored")
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """The decoded image, turned as its own EXIF tag says, and the tag."""
    if image.format == "TIFF":
        # Pillow turns TIFFs itself, and fails at whatever else is damaged in their EXIF: it is shown the orientation alone.
        orientation = _orientation(image)
        shown = Image.Exif()
        shown[ORIENTATION] = orientation
        image.getexif = lambda: shown  # type: ignore[method-assign]
        image.load()
        return image, orientation
    image.load()
    # Only now: a PNG may state it behind the pixels.
    orientation = _orientation(image)
    return (image.transpose(TURNS[orientation]) if orientation in TURNS else image), orientation


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(first row, strip) from top to bottom, so that a conversion's copies stay small."""
    rows = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _from_wide(image: Image.Image, white: int, path: Path) -> Image.Image:
    values = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        wide = np.asarray(strip).astype(np.int64)
        if wide.size and (wide.min() < 0 or wide.max() > WHITE):
            raise _fail(
                path,
                f"has values from {wide.min()} to {wide.max()}; more than 8 bits go from 0, black, to {WHITE}, white:"
                " save it so, or with 8 bits",
            )
        values[top : top + len(wide)] = ((2 * 255 * wide + white) // (2 * white)).clip(0, 255)
    return Image.fromarray(values)


def _from_float(image: Image.Image, path: Path) -> Image.Image:
    values = np.empty((image.height, image.width), np.uint8)
    above, lit, most = 0, 0, 0.0
    for top, strip in _strips(image):
        real = np.nan_to_num(np.asarray(strip), nan=0.0, posinf=1.0, neginf=0.0)
        above, lit = above + int((real > 1).sum()), lit + int((real > 0).sum())
        most = max(most, float(real.max(initial=0)))
        values[top : top + len(real)] = (real.clip(0, 1) * 255).astype(np.uint8)
    if 2 * above > lit:
        raise _fail(
            path, f"has float values up to {most:g}, most of them above 1; floats go from 0 to 1: save it with 8 bits"
        )
    return Image.fromarray(values)


def _on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        layer = strip.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        flat.paste(Image.alpha_composite(white, layer).convert("RGB"), (0, top))
    return flat


def load_image(path: Path | str) -> Image.Image:
    """An image as RGB, upright.

    EXIF rotation is applied, damaged EXIF is ignored; values of more than 8 bits are scaled by the rule of their format;
    transparency is laid on white; of an animation the first frame is taken.

    Raises:
        DecodeError: the file is missing, empty, truncated, no image, absurdly large, or its values do not fit its format's rule.
    """
    path = Path(path)
    with _opened(path) as image:
        return _as_rgb(image, path)


def unreduced(size: tuple[int, int]) -> int:
    """No reduction, whatever the size: 1."""
    return 1


def load_reduced(path: Path | str, reduction: Callable[[tuple[int, int]], int]) -> tuple[Image.Image, tuple[int, int]]:
    """An image as ``load_image`` gives it, or a smaller one of it where its file can be decoded so, and its full size.

    Args:
        path: the file.
        reduction: is told width and height of the upright image, before a JPEG is decoded, and says by how much its sides may be
            divided: 1, 2, 4 or 8. A side that cannot be divided is rounded up.

    Raises:
        DecodeError: as there.
    """
    path = Path(path)
    with _opened(path) as image:
        if isinstance(image, JpegImageFile):
            orientation = _orientation(image)
            size = image.size[::-1] if orientation >= SIDEWAYS else image.size
            by = reduction(size)
            # An image that is turned would begin with the pixel that was rounded up.
            if by > 1 and (orientation == 1 or not (image.width % by or image.height % by)):
                image.draft(None, (image.width // by, image.height // by))
            return _as_rgb(image, path), size
        image = _as_rgb(image, path)
    reduction(image.size)
    return image, image.size


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """The frame that an opened file stands at, by the rules of ``load_image``."""
    raw, _ = _raw(image)
    image, _ = _upright(image)
    if image.mode in WIDE:
        image = _from_wide(image, WHITE_12 if raw == "I;12" else WHITE, path)
    elif image.mode == "F":
        image = _from_float(image, path)
    if image.mode in ALPHA or "transparency" in image.info:
        image = _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def has_frames(path: Path | str) -> bool:
    """Whether a file holds a sequence: a second frame of the first one's size. Pages of other sizes are previews of the first.

    Raises:
        DecodeError: the file is missing, empty, or no image.
    """
    with _opened(Path(path)) as image:
        if getattr(image, "n_frames", 1) < 2:
            return False
        size = image.size
        image.seek(1)
        return image.size == size


def load_frames(path: Path | str) -> Iterator[tuple[Image.Image, float]]:
    """The frames of a sequence (GIF, PNG, WebP, TIFF), each as ``load_image`` gives the first, and how many seconds each is shown.

    Files that do not say how long show each for a tenth of a second. Pages of a size other than the first one's are left out.

    Raises:
        DecodeError: as for images; frames before a damaged one have been given by then.
    """
    path = Path(path)
    with _opened(path) as image:
        size = image.size
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            if image.size != size:
                continue
            frame = _as_rgb(image, path)
            # A WebP says how long only once it is loaded.
            seconds = float(image.info.get("duration") or 0) / 1000 or FRAME_SECONDS
            yield (frame.copy() if frame is image else frame), seconds


@dataclass(frozen=True)
class Head:
    """What an image file says of itself before a pixel is decoded.

    Attributes:
        size: width and height of the upright image.
        orientation: its EXIF tag, 1 (upright as it lies) to 8.
        wide: whether its values have more than 8 bits.
    """

    size: tuple[int, int]
    orientation: int
    wide: bool


def read_head(path: Path | str) -> Head:
    """The head of an image file.

    Raises:
        DecodeError: the file is missing, empty, or no image.
    """
    with _opened(Path(path)) as image:
        raw, maximum = _raw(image)
        orientation = _orientation(image)
        width, height = image.size
        # Pillow states the size of TIFFs turned already.
        if orientation >= SIDEWAYS and image.format != "TIFF":
            width, height = height, width
        wide = image.mode in WIDE or image.mode == "F" or ";16" in raw or maximum > 255
        return Head((width, height), orientation, wide)


def levels(image: Image.Image) -> int:
    """Different values of an RGB image's richest band, at most 256."""
    counts = np.array(image.histogram()).reshape(-1, 256)
    return int((counts > 0).sum(axis=1).max())


def brightest(image: Image.Image) -> int:
    """The highest value in any band of an RGB image."""
    counts = np.array(image.histogram()).reshape(-1, 256).sum(axis=0)
    return int(np.flatnonzero(counts).max(initial=0))


@dataclass(frozen=True)
class Mask:
    """A mask file.

    Attributes:
        values: (H, W), palette indices or grey levels as they lie in the file.
        palette: the colours of its indices, three bytes each; empty for a grey mask.
        orientation: its EXIF tag, which ``values`` follow already.
    """

    values: NDArray[np.uint8]
    palette: bytes
    orientation: int


def read_mask(path: Path | str) -> Mask:
    """A mask's values and what else its file says.

    Grey levels of 1, 2 and 4 bits are the numbers in the file, not stretched to 255; the mask's own EXIF tag turns it.

    Raises:
        DecodeError: as for images, or the file holds colours where class numbers should be, or its format loses detail.
    """
    path = Path(path)
    with _opened(path) as image:
        form, compression = str(image.format), str(image.info.get("compression", "")).lower()
        if form in LOSSY or (form == "TIFF" and compression in LOSSY_TIFF):
            what = form if form in LOSSY else f"TIFF with {compression} compression"
            raise _fail(path, f"is a {what}, which changes class numbers along edges; {CURE} from the annotation")
        raw, maximum = _raw(image)
        image, orientation = _upright(image)
        palette = bytes(image.getpalette() or ()) if image.mode == "P" else b""
        return Mask(_numbers(image, raw, maximum, path), palette, orientation)


def _numbers(image: Image.Image, raw: str, maximum: int, path: Path) -> NDArray[np.uint8]:
    """(H, W), the numbers in a mask's file: what Pillow stretched to the full range is shrunk again."""
    if image.mode == "F":
        raise _fail(path, f"holds float values; {CURE}")
    if image.mode not in ("1", "P", "L", *WIDE):
        raise _fail(path, f"is a colour picture (mode {image.mode}); a mask is a palette or grey PNG of class numbers")
    values = np.asarray(image)
    if maximum:
        full = 255 if image.mode == "L" else WHITE
        values = (values.astype(np.int64) * maximum + full // 2) // full
    elif raw.startswith(("L;2", "L;4")):
        values = values // (85 if raw.startswith("L;2") else 17)
    if image.mode in WIDE and values.size and (values.min() < 0 or values.max() > 255):
        worst = values.min() if values.min() < 0 else values.max()
        raise _fail(path, f"has values up to {worst}; a mask holds class numbers from 0 to 255")
    return np.array(values, dtype=np.uint8)


def load_mask(path: Path | str) -> NDArray[np.uint8]:
    """A mask's values (H, W), palette indices or grey levels, as ``read_mask`` reads them.

    Raises:
        DecodeError: as there.
    """
    return read_mask(path).values


def mapped(mask: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask whose values are replaced by those of a ``table`` of 256."""
    # Four times as fast as an index, which numpy widens to eight bytes a pixel.
    values = bytearray(np.ascontiguousarray(mask)).translate(table.tobytes())
    return np.frombuffer(values, np.uint8).reshape(mask.shape)


def strangers(mask: NDArray[np.uint8], known: bytes) -> list[int]:
    """The values of a mask that are none of the ``known``, in order."""
    return sorted(set(mask.tobytes().translate(None, known)))


def write_mask(path: Path, mask: NDArray[np.uint8], size: tuple[int, int] | None = None) -> None:
    """Write a mask (H, W) of class ids as a palette PNG in VOC's colours.

    Args:
        path: the file; its folder is made.
        mask: the ids.
        size: (width, height) of the file, by nearest values; None leaves the mask's own.

    Raises:
        UserError: the file cannot be written.
    """
    picture = Image.fromarray(mask)
    if size is not None and picture.size != size:
        picture = picture.resize(size, Image.Resampling.NEAREST)
    picture.putpalette(palette().tobytes())
    with whole_file(path) as temporary:
        picture.save(temporary, format="PNG")


def check_pair(
    image_size: tuple[int, int], mask: NDArray[np.uint8], image_path: Path | str, mask_path: Path | str
) -> None:
    """Raise DecodeError unless the mask (H, W) is of the upright image's size (width, height)."""
    if mask.shape == (image_size[1], image_size[0]):
        return
    fault = f"is {mask.shape[1]} x {mask.shape[0]} pixels, its image {image_path} is {image_size[0]} x {image_size[1]}"
    orientation = read_head(image_path).orientation if Path(image_path).is_file() else 1
    if orientation >= SIDEWAYS and mask.shape == image_size:
        fault += (
            f" once its EXIF orientation {orientation} has turned it;"
            " turn the mask as well, or save the image without the tag"
        )
    raise _fail(mask_path, fault)


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
