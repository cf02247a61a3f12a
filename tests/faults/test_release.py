"""Releasing: killed, doubled and on a full disk, the folder is the old one, the new one, or says that it is half written."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from export import get_argparser, main
from modules.released import CONFIG, WEIGHTS, read_released
from tests.faults.harness import (
    LONG,
    count_changes,
    files,
    half_written,
    held,
    killed,
    killed_somewhere,
    only_long,
    plain,
    python,
    rng,
    run,
    seeds,
)
from utils.errors import UserError

pytestmark = pytest.mark.timeout(3600 if LONG else 300)


def line(model: Path, out: Path) -> list[str]:
    return python("export.py", "--model", model, "--out", out)


def released(model: Path, out: Path) -> dict[str, bytes]:
    """The end of an export that nobody disturbs."""
    assert main(get_argparser().parse_args(line(model, out)[2:])) == 0
    return ended(out)


def ended(out: Path) -> dict[str, bytes]:
    """A folder's files; of the weights what they are, because their table of contents has no order of its own."""
    weights = read_released(out)[1]
    return files(out, "*") | {WEIGHTS: json.dumps({name: plain(value) for name, value in weights.items()}).encode()}


def check_whole_or_said(out: Path, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    try:
        read_released(out)
    except UserError as error:
        assert "half written" in str(error), error
    else:
        there = {name: content for name, content in ended(out).items() if name in (CONFIG, WEIGHTS)}
        assert there in [{name: end[name] for name in (CONFIG, WEIGHTS)} for end in (old, new)]


def test_an_export_is_killed_and_doubled(labellers: tuple[Path, Path], tmp_path: Path) -> None:
    """In the moment between the weights' new name and the configuration's, which is the worst."""
    out, where = tmp_path / "out", tmp_path / "said"
    new = released(labellers[1], out)
    old = released(labellers[0], out)
    assert old.keys() == new.keys() and old[WEIGHTS] != new[WEIGHTS]
    with held(line(labellers[1], out), out, where, "rename .config.json.") as child:
        run(line(labellers[0], out), where).check_refused(str(out))
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    with pytest.raises(UserError, match="half written"):
        read_released(out)
    assert released(labellers[1], out) == new and not half_written(out)


@only_long
def test_an_export_on_a_full_disk(labellers: tuple[Path, Path], tmp_path: Path) -> None:
    """The old folder stays as it was."""
    out = tmp_path / "out"
    old = released(labellers[0], out)
    before, largest = files(out, "*"), (out / WEIGHTS).stat().st_size // 2
    assert largest > len(old[CONFIG])
    run(line(labellers[1], out), tmp_path / "said", largest=largest).check_refused(WEIGHTS, "File too large")
    assert files(out, "*") == before and not half_written(out)


@only_long
@pytest.mark.parametrize("seed", seeds(20))
def test_an_export_is_killed_at_any_moment(labellers: tuple[Path, Path], tmp_path: Path, seed: int) -> None:
    out, where = tmp_path / "out", tmp_path / "said"
    new, old = released(labellers[1], out), released(labellers[0], out)
    total = count_changes(line(labellers[1], tmp_path / "other"), tmp_path / "other", where)
    killed_somewhere(line(labellers[1], out), out, where, rng("export", seed), total)
    check_whole_or_said(out, old, new)
    assert run(line(labellers[1], out), where).code == 0
    assert ended(out) == new and not half_written(out)


@only_long
def test_a_first_export_is_killed(labellers: tuple[Path, Path], tmp_path: Path) -> None:
    """What is half written for the first time can be written again."""
    out, where = tmp_path / "out", tmp_path / "said"
    killed(line(labellers[0], out), out, where, "rename .config.json.")
    with pytest.raises(UserError, match="half written"):
        read_released(out)
    assert run(line(labellers[0], out), where).code == 0
    read_released(out)
