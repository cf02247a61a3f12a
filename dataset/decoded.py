"""Which web images were decoded before, so that a run's start need not decode all of them to see that they can be read."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from dataset.source import cache_folder
from utils.errors import UserError
from utils.images import load_image
from utils.whole import write_whole

LOG = logging.getLogger("webwilss")


class Decoded:
    """Files of one manifest that were decoded without a fault, a line each in a file of ``cache_folder()``.

    A line is of a file's path, size and time: one that changed is decoded again. One that cannot be read is decoded at every start: it
    may be readable tomorrow.

    Args:
        source: the manifest.
    """

    def __init__(self, source: Path) -> None:
        self.path = cache_folder() / f"decoded-{_short(os.fsencode(source.resolve()))}.txt"
        self.known: set[str] = set()
        self.before = self.now = 0
        try:
            self.known.update(self.path.read_text(encoding="ascii").split())
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError):
            LOG.warning("%s cannot be read: all web images are decoded again", self.path)

    def check(self, file: Path) -> None:
        """Decode a file, unless that was done before.

        Raises:
            DecodeError: it cannot be read.
        """
        line = _line(file)
        if line in self.known:
            self.before += 1
            return
        load_image(file)
        self.now += 1
        if line is not None:
            self.known.add(line)

    def keep(self) -> None:
        """Write down what was decoded; say what was and what was not."""
        if self.before:
            LOG.info("Web images decoded to see whether they can be read: %d; before: %d", self.now, self.before)
        if not self.now:
            return
        try:
            write_whole(self.path, "".join(f"{line}\n" for line in sorted(self.known)))
        except UserError as error:
            LOG.warning("Web images are decoded again at the next start: %s", error)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _line(file: Path) -> str | None:
    """Of a file as it is now; None where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return _short(b"%s\0%d\0%d" % (os.fsencode(file.resolve()), stat.st_size, stat.st_mtime_ns))
