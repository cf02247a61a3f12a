"""Which spellings are one name."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from utils.spelling import fits, folded, on_disk, separated, squeezed

SIGNED = [
    ("HER2+", "HER2-"),
    ("HER2+", "HER2"),
    ("HER2-", "HER2"),
    ("C", "C++"),
    ("C", "C#"),
    ("α-cell", "β-cell"),
    ("α-cell", "cell"),
    ("café", "cafe"),
    ("Maße", "Masse"),
    ("m²", "m2"),
    ("1-2", "12"),
    ("grade -1", "grade 1"),
    ("HER2- cells", "HER2 cells"),
    ("A'", "A"),
    ("犬", "猫"),
    ("+", "-"),
]


@pytest.mark.parametrize(("one", "other"), SIGNED)
def test_signs_and_letters_are_never_forgotten(one: str, other: str) -> None:
    assert squeezed(one) != squeezed(other)
    assert fits(one, [other]) == () and fits(other, [one]) == ()
    assert fits(one, [other, one]) == (one,) and fits(other, [other, one]) == (other,)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("type_1", ["type1", "type_1"], ("type_1",)),
        ("type1", ["type1", "type_1"], ("type1",)),
        ("Type-1", ["type1", "type_1"], ("type_1",)),
        ("TYPE1", ["type1", "type_1"], ("type1",)),
        ("t_ype1", ["type1", "type_1"], ("type1", "type_1")),
        ("cat", ["Cat", "CAT"], ("Cat", "CAT")),
        ("Cat", ["Cat", "CAT"], ("Cat",)),
        (" dog ", ["dog"], ("dog",)),
        ("potted plant", ["pottedplant"], ("pottedplant",)),
        ("ｄｏｇ", ["dog"], ("dog",)),
        ("HER2\u2212", ["HER2+", "HER2-"], ("HER2-",)),
        ("\u00b5-cell", ["\u03bc_cell"], ("\u03bc_cell",)),
        (unicodedata.normalize("NFD", "Zürich"), ["Zürich", "zurich"], ("Zürich",)),
        ("", ["", "_"], ()),
        ("cat", [], ()),
    ],
)
def test_the_most_exact_spelling_wins(name: str, known: list[str], found: tuple[str, ...]) -> None:
    assert fits(name, known) == found
    assert fits(name, known[::-1]) == found[::-1]


def test_forms() -> None:
    assert folded("  Dining_Table ") == "dining_table"
    assert separated("TV/Monitor") == separated("tv - monitor") == separated("_tv__monitor_") == "tv monitor"
    assert separated("HER2-") == "her2-" and separated("Na+-channel") == "na+-channel"
    assert squeezed("Grade 1-2") == "grade1 2"


def test_a_file_is_found_whatever_form_its_letters_have(tmp_path: Path) -> None:
    apart, whole = unicodedata.normalize("NFD", "Zürich.jpg"), "Zürich.jpg"
    (tmp_path / apart).touch()
    assert on_disk(tmp_path / whole) == tmp_path / apart and on_disk(tmp_path / apart) == tmp_path / apart
    assert on_disk(tmp_path / "Köln.jpg") == tmp_path / "Köln.jpg"
    assert on_disk(tmp_path / "none" / whole) == tmp_path / "none" / whole
    (tmp_path / whole).touch()
    assert on_disk(tmp_path / whole) == tmp_path / whole
