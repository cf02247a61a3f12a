"""Several captioners of one image: what each says, behind each other, every phrase once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from captions.captioners.base import NOTHING_SEEN, Captioner
from utils.errors import UserError


class JoinedCaptioner:
    """Writes "horse, sorrel, person" where one captioner writes "horse, sorrel" and another "horse, person".

    Args:
        captioners: by name, in the order of their words.
    """

    def __init__(self, captioners: dict[str, Captioner]) -> None:
        self.captioners = tuple(captioners.values())
        self.origin: Mapping[str, object] = {
            "captioner": "+".join(captioners),
            "parts": [dict(captioner.origin) for captioner in self.captioners],
        }

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """One line for each file, or the first fault that a captioner has with it."""
        said = [captioner.caption_files(paths) for captioner in self.captioners]
        return [joined(lines) for lines in zip(*said, strict=True)]


def joined(lines: Sequence[str | UserError]) -> str | UserError:
    """What several captioners say of one image, in one line; the first fault of any of them."""
    phrases: dict[str, str] = {}
    for line in lines:
        if isinstance(line, UserError):
            return line
        for phrase in filter(None, map(str.strip, line.split(","))):
            phrases.setdefault(phrase.lower(), phrase)
    # Another sees something.
    if len(phrases) > 1:
        phrases.pop(NOTHING_SEEN, None)
    return ", ".join(phrases.values())
