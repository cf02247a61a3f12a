"""Options declared as fields: what the parser makes of a declaration, and what is known of a value."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pytest

from utils.options import OneLineParser, add_arguments, declared, fill, option, said
from utils.values import positive

SIZES = {"small": 1}


@dataclass(frozen=True)
class Made:
    crop: int = option("data", 512, "crop", of_dataset={"drawn": 128}, check=positive)
    share: float = option("method", 0.5, "share", late=True, needs="mix")
    mix: bool = option("method", False, "mix", aliases=("--mixed",))
    whole: bool = option("data", True, "crops, not whole images")
    size: str | None = option("data", None, "size", choices=SIZES, shown="as it is")
    note: str = option("data", "", "note: one of", known=lambda: SIZES)


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(prog="made.py", allow_abbrev=False)
    add_arguments(made, declared(Made).values())
    return made


def values(line: str, dataset: str = "photos") -> dict[str, object]:
    return fill(parser().parse_args(line.split()), declared(Made).values(), dataset)


def test_defaults_depend_on_the_data_set() -> None:
    silent = {"crop": 512, "share": 0.5, "mix": False, "whole": True, "size": None, "note": ""}
    assert values("") == silent
    assert values("", "drawn") == silent | {"crop": 128}
    assert values("--crop 64", "drawn")["crop"] == 64


def test_a_switch_goes_to_what_its_default_is_not() -> None:
    assert values("--mixed")["mix"] is True
    assert values("--whole")["whole"] is False


def test_a_late_default_is_told_from_the_same_value_when_said() -> None:
    options = declared(Made).values()
    assert [one.name for one in said(parser().parse_args(["--share", "0.5"]), options)] == ["share"]
    assert not list(said(parser().parse_args([]), options))


def test_tables_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        values("--size large")
    monkeypatch.setitem(SIZES, "large", 2)
    assert values("--size large")["size"] == "large"
    assert "small, large" in parser().format_help()


def test_help_ends_with_the_default() -> None:
    page = " ".join(parser().format_help().split())
    assert "crop [512; drawn 128]" in page and "share [0.5]" in page and "size [as it is]" in page
    assert page.endswith("--mix, --mixed mix"), "a switch shows none"


def test_one_line_of_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        values("--crop 0")
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "made.py: argument --crop: 0 is not a positive whole number (made.py --help lists all options)\n"
    )
