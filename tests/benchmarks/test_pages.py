"""A results page that is written anew keeps what a person wrote below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pages import READING, write_page
from tests.conftest import ROOT
from utils.errors import UserError

NOTES = f"{READING}\n\n- Notes.\n\n## More notes\n\nThe end.\n"


def test_what_a_person_wrote_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results/page.md"
    assert write_page(path, "# Old\n\n1\n") == path.read_text() == "# Old\n\n1\n"
    path.write_text(f"{path.read_text()}\n{NOTES}")
    for text in ("# New\n\n2", "# New\n\n2\n", "# New\n\n2\n\n"):
        assert write_page(path, text) == path.read_text() == f"# New\n\n2\n\n{NOTES}"


def test_only_the_heading_itself_begins_it(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"# Old\n\nSee {READING}\n#{READING}\n")
    assert write_page(path, "# New") == "# New\n"


@pytest.mark.parametrize("name", ["web", "replay"])
def test_committed_pages_are_kept_whole(name: str, tmp_path: Path) -> None:
    """Written again with its own upper part, a committed page is the same to the byte."""
    committed = (ROOT / f"benchmarks/results/{name}.md").read_text(encoding="utf-8")
    upper, heading, _ = committed.partition(READING)
    path = tmp_path / "page.md"
    path.write_text(committed, encoding="utf-8")
    assert heading and write_page(path, upper) == committed


def test_a_page_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"page\.md: cannot be read"):
        write_page(path, "# New")
    assert path.read_bytes() == b"\xff\xfe"
