"""Every number reaches every file, on the main rank only."""

from __future__ import annotations

import builtins
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.errors import UserError
from utils.logger import Logger


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """Leave the project's log as it was found."""
    log = logging.getLogger("webwilss")
    before, propagate = log.handlers[:], log.propagate
    log.handlers[:] = []
    yield
    log.handlers[:], log.propagate = before, propagate


def _make(folder: Path, **more: Any) -> Logger:
    settings: dict[str, Any] = {"main": True, "name": "run", "options": {"lr": 0.1}}
    return Logger(folder, **settings | more)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]


def _board(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return board


def test_scalars_reach_the_lines_file_and_tensorboard(tmp_path: Path) -> None:
    logger = _make(tmp_path)
    logger.scalars({"loss/total": 1.5, "loss/bad": math.nan, "loss/worse": math.inf}, 3)
    logger.scalars({"loss/total": float(np.float32(0.25))}, 4)
    logger.class_table("iou", {"cat": 0.5, "dining table": math.nan}, 4)
    logger.close()
    lines = _lines(tmp_path)
    assert [(line["step"], line["tag"], line["value"]) for line in lines] == [
        (3, "loss/total", 1.5),
        (3, "loss/bad", None),
        (3, "loss/worse", None),
        (4, "loss/total", 0.25),
        (4, "iou/cat", 0.5),
        (4, "iou/dining table", None),
    ]
    assert all(line["time"] > 1.6e9 and set(line) == {"step", "tag", "value", "time"} for line in lines)
    events = _board(tmp_path).Scalars("loss/total")
    assert [(event.step, event.value) for event in events] == [(3, 1.5), (4, 0.25)]


def test_pictures_and_texts_reach_tensorboard(tmp_path: Path) -> None:
    from utils.visualise import confusion_figure

    logger = _make(tmp_path)
    logger.figure("confusion", confusion_figure(np.eye(3), ["a", "b", "c"]), 1)
    logger.images("samples", np.zeros((2, 8, 9, 3), np.uint8), 1)
    logger.text("note", "hello", 1)
    logger.close()
    tags = _board(tmp_path).Tags()
    assert {"confusion", "samples"} <= set(tags["images"])
    assert {"note/text_summary", "options/text_summary"} <= set(tags["tensors"])


def test_a_second_run_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        logger = _make(tmp_path, tensorboard=False)
        logger.scalars({"x": step}, step)
        logger.info(f"round {step}")
        logger.close()
        logger.close()
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2]
    text = (tmp_path / "log.txt").read_text()
    assert text.count("round 1") == text.count("round 2") == 1
    assert not list(tmp_path.glob("events*"))


def test_half_a_line_of_a_killed_run_takes_no_other_with_it(tmp_path: Path) -> None:
    for step in (1, 2):
        logger = _make(tmp_path, tensorboard=False)
        logger.scalars({"x": step}, step)
        logger.close()
        with (tmp_path / "scalars.jsonl").open("a") as file:
            file.write('{"step": 1, "ta')
    _make(tmp_path, tensorboard=False).close()
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2]


def test_messages_by_level_once_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _make(tmp_path / "a", tensorboard=False), _make(tmp_path / "b", tensorboard=False)
    second.info("seen")
    second.warning("beware")
    second.debug("hidden")
    logging.getLogger("webwilss").info("from a library file")
    first.close()
    second.close()
    error = capsys.readouterr().err
    assert error.count("seen") == error.count("beware") == error.count("from a library file") == 1
    assert "hidden" not in error and "W beware" in error
    assert "from a library file" in (tmp_path / "b" / "log.txt").read_text()
    debug = _make(tmp_path / "c", tensorboard=False, debug=True)
    debug.debug("shown")
    debug.close()
    assert "shown" in capsys.readouterr().err


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = _make(tmp_path / "none", main=False, wandb_mode="online")
    logger.info("x")
    logger.debug("x")
    logger.warning("x")
    logging.getLogger("webwilss").warning("x")
    logger.scalars({"x": 1}, 1)
    logger.class_table("x", {"x": 1}, 1)
    logger.images("x", np.zeros((1, 2, 2, 3), np.uint8), 1)
    logger.text("x", "x", 1)
    logger.close()
    assert not (tmp_path / "none").exists() and capsys.readouterr().err == ""


def test_wandb_missing_or_unknown_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="sometimes"):
        _make(tmp_path, wandb_mode="sometimes")
    imported = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return imported(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install"):
        _make(tmp_path, wandb_mode="offline")


def test_wandb_offline_needs_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    logger = _make(tmp_path, wandb_mode="offline", tensorboard=False)
    logger.scalars({"x": 1.0, "y": math.nan}, 1)
    logger.images("samples", np.zeros((1, 4, 4, 3), np.uint8), 1)
    logger.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_main_rank_is_heard_after_a_silent_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One process that runs several ranks one after the other, as tests do."""
    _make(tmp_path / "none", main=False).info("silent")
    logger = _make(tmp_path / "run")
    logger.info("heard")
    logger.close()
    assert "heard" in capsys.readouterr().err
