"""Every number reaches every file, on the main rank only."""

from __future__ import annotations

import builtins
import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.logging import LogCaptureHandler

import utils.logger
from tests.conftest import ROOT
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


def own_handlers() -> list[logging.Handler]:
    """Handlers of the project's log but for those of pytest, which listens where a log does not propagate."""
    return [h for h in logging.getLogger("webwilss").handlers if not isinstance(h, LogCaptureHandler)]


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


def test_wandb_shows_a_figure_without_pyplot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb asks for the window of a figure, which ours has none of; signs of names are no formulas."""
    pytest.importorskip("wandb")
    from utils.visualise import confusion_figure

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    logger = _make(tmp_path, wandb_mode="offline")
    names = ["$5 and $10_{note}", "a/b", "<b>", "bill $\\frac$ x", 'x, "y"', "100%", "\u732b", "\U0001f600"]
    logger.figure("confusion", confusion_figure(np.eye(len(names)), names), 1)
    logger.class_table("iou", dict.fromkeys(names, 0.5), 1)
    logger.close()
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/confusion_*.png"))
    assert "confusion" in _board(tmp_path).Tags()["images"]
    assert {f"iou/{name}" for name in names} == {line["tag"] for line in _lines(tmp_path)}
    assert " W " not in (tmp_path / "log.txt").read_text()


class _Failing:
    """A board that fails at its second number."""

    name = "Board"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def scalars(self, values: Any, step: int) -> None:
        self.calls.append("scalars")
        if len(self.calls) == 2:
            raise BrokenPipeError("gone\nfor good")

    def images(self, tag: str, images: Any, step: int) -> None:
        self.calls.append("images")

    def text(self, tag: str, text: str, step: int) -> None:
        self.calls.append("text")

    def close(self) -> None:
        self.calls.append("close")

    def give_up(self) -> None:
        self.calls.append("given up")


def test_a_board_that_fails_is_told_once_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = _make(tmp_path)
    failing = _Failing()
    logger._boards.insert(0, failing)
    for step in range(4):
        logger.scalars({"x": step}, step)
    logger.images("samples", np.zeros((1, 8, 9, 3), np.uint8), 1)
    logger.close()
    assert failing.calls == ["scalars", "scalars", "given up"]
    assert [line["step"] for line in _lines(tmp_path)] == [0, 1, 2, 3]
    board = _board(tmp_path)
    assert len(board.Scalars("x")) == 4 and "samples" in board.Tags()["images"], "others show it all"
    assert capsys.readouterr().err.count("Board is left out from here on (gone for good)") == 1


class _Fake:
    """A wandb that does what it is told."""

    class Error(Exception):
        pass

    def __init__(self, fault: Exception | None = None, seconds: float = 0.0) -> None:
        self.fault, self.seconds = fault, seconds

    def init(self, **_: Any) -> _Fake:
        if self.fault is not None:
            raise self.fault
        return self

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, values: Any) -> None: ...

    def finish(self) -> None:
        time.sleep(self.seconds)

    def teardown(self) -> None: ...


def test_a_wandb_that_cannot_begin_is_left_out_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it says of its set-up is refused before hours of training; a fault of its own takes nothing with it."""
    monkeypatch.setitem(sys.modules, "wandb", _Fake(OSError("no port")))
    logger = _make(tmp_path, wandb_mode="online", tensorboard=False)
    logger.scalars({"x": 1}, 1)
    logger.close()
    assert capsys.readouterr().err.count("wandb is left out from here on (no port)") == 1 and len(_lines(tmp_path)) == 1
    monkeypatch.setitem(sys.modules, "wandb", _Fake(_Fake.Error("no API key")))
    with pytest.raises(UserError, match="no API key"):
        _make(tmp_path, wandb_mode="online", tensorboard=False)
    assert not own_handlers()


def test_a_wandb_that_does_not_finish_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", _Fake(seconds=30))
    monkeypatch.setattr(utils.logger, "WANDB_PATIENCE", 0.2)
    logger = _make(tmp_path, wandb_mode="online", tensorboard=False)
    begun = time.monotonic()
    logger.close()
    assert time.monotonic() - begun < 10
    assert capsys.readouterr().err.count("wandb is left out from here on (not done after 0.2 s") == 1


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from utils.logger import Logger
logger = Logger(Path(sys.argv[1]), main=True, name="full", options={})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for step in range(30):
    logger.images("noise", np.random.default_rng(step).integers(0, 255, (1, 64, 64, 3), np.uint8), step)
    logger.scalars({"x": step}, step)
if len(sys.argv) > 2:
    for step in range(20):
        logger.scalars({"y" * 10_000: step}, step)
        logger.info("z" * 10_000)
logger.close()
print("ended")
"""


@pytest.mark.parametrize("files", [False, True])
def test_a_full_disk_ends_no_training(tmp_path: Path, files: bool) -> None:
    """Events, then ``scalars.jsonl`` and ``log.txt``: each told once on stderr; what was written stays."""
    line = [sys.executable, "-c", FULL, str(tmp_path), *(["files"] if files else [])]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and done.stdout == "ended\n", done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert done.stderr.count("TensorBoard is left out from here on (") == 1
    assert (
        done.stderr.count("log.txt: left out from here on (")
        == done.stderr.count("numbers are missing there (")
        == files
    )
    written = (tmp_path / "scalars.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in written[:30]] == list(range(30))


def test_a_log_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the log cannot be written"):
        _make(tmp_path / "file/log")


def test_another_rank_s_logger_silences_no_later_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("webwilss")
    first = _make(tmp_path / "none", main=False)
    second = _make(tmp_path / "a", tensorboard=False)
    second.info("seen")
    first.close()
    second.close()
    assert capsys.readouterr().err.count("seen") == 1
    assert not own_handlers() and log.propagate, "as it was before"
    _make(tmp_path / "none", main=False)
    _make(tmp_path / "b", tensorboard=False).info("seen again")
    assert capsys.readouterr().err.count("seen again") == 1
