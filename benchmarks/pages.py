"""Results pages: what a script writes, and below it what a person made of it."""

from __future__ import annotations

from pathlib import Path

from utils.errors import UserError
from utils.whole import write_whole

READING = "## How to read this"


def write_page(path: Path, text: str) -> str:
    """Write a results page whole; from the heading ``READING`` on an existing page is a person's, and is kept.

    Args:
        path: Markdown file; its folder is made.
        text: what the script has to say.

    Returns:
        The whole page.

    Raises:
        UserError: the page that is there cannot be read, or the new one not be written; the old one is left as it is.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); move it away") from error
    lines = before.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.rstrip() == READING), len(lines))
    kept = "".join(lines[start:])
    page = text.rstrip("\n") + "\n" + (f"\n{kept}" if kept else "")
    write_whole(path, page)
    return page
