"""Frames of videos, and videos of overlays."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.errors import UserError, shown_text
from utils.images import DecodeError, load_frames
from utils.suffixes import split_suffix
from utils.whole import whole_file

SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"))
PLUGIN = "imageio_ffmpeg"
# The longer side of a GIF of overlays, whose frames all lie in memory.
GIF_SIDE = 480

Frame = NDArray[np.uint8]


def is_video(path: Path) -> bool:
    """Whether a file's name ends as a video's does."""
    return split_suffix(path.name)[1] in SUFFIXES


def check_decoder(path: Path) -> None:
    """Raise UserError where nothing can decode the video ``path``."""
    if importlib.util.find_spec(PLUGIN) is None:
        raise UserError(f"{path}: videos need the package imageio-ffmpeg; pip install -e .[video], or leave them out")


def frames_of(path: Path) -> Iterator[tuple[Frame, float]]:
    """The frames (H, W, 3) uint8 RGB of a video or of an image file with several, and how many seconds each is shown.

    Raises:
        DecodeError: the file cannot be read, or not to its end; frames before the fault have been given by then.
    """
    if not is_video(path):
        for image, seconds in load_frames(path):
            yield np.array(image), seconds
        return
    if not path.is_file():
        raise DecodeError(f"{path}: no such file")
    import imageio_ffmpeg

    try:
        read = imageio_ffmpeg.read_frames(str(path))
        said = next(read)
        width, height = said["size"]
        rate = float(said.get("fps") or 25.0)
        frame = None
        for frame in read:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3), 1 / rate
        if frame is None:
            raise ValueError("no frame")
    # It raises errors of every kind for damaged files.
    except Exception as error:
        lines = str(error).strip().splitlines()
        fault = f"is damaged or no video ({lines[0][:100] if lines else type(error).__name__})"
        raise DecodeError(shown_text(f"{path}: {fault}")) from error


def overlay_suffix(path: Path) -> str:
    """How the video of a file's overlays is called at the end."""
    return ".mp4" if is_video(path) else ".gif"


@contextmanager
def overlay_writer(path: Path, seconds: float) -> Iterator[Any]:
    """A function that takes the frames (H, W, 3) uint8 of a video, all of one size, one after the other; it is written whole.

    Args:
        path: ``.mp4`` or ``.gif``.
        seconds: how long each frame is shown.

    Raises:
        UserError: the file cannot be written.
    """
    with whole_file(path) as temporary:
        if path.suffix == ".gif":
            frames: list[Image.Image] = []

            def keep(frame: Frame) -> None:
                picture = Image.fromarray(frame)
                picture.thumbnail((GIF_SIDE, GIF_SIDE))
                frames.append(picture.quantize(dither=Image.Dither.NONE))

            yield keep
            first, *others = frames
            first.save(
                temporary,
                format="GIF",
                save_all=True,
                append_images=others,
                duration=max(20, round(1000 * seconds)),
                loop=0,
            )
            return
        import imageio_ffmpeg

        writer: Any = None

        def put(frame: Frame) -> None:
            nonlocal writer
            # H.264 wants even sides.
            even = np.pad(frame, ((0, len(frame) % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
            if writer is None:
                size = even.shape[1], even.shape[0]
                # The format cannot be read from a temporary name.
                writer = imageio_ffmpeg.write_frames(
                    str(temporary), size, fps=1 / seconds, macro_block_size=1, output_params=["-f", "mp4"]
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(even))

        try:
            yield put
        finally:
            if writer is not None:
                writer.close()
