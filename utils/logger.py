"""A run's log: messages on stderr and in log.txt, numbers in scalars.jsonl, TensorBoard and wandb, pictures in the last two."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from utils.errors import PlainFormatter, UserError, reason
from utils.visualise import drawn
from utils.whole import cut_half_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger("webwilss")
WANDB_MODES = ("off", "offline", "online")
# Seconds that wandb may take to send what is left.
WANDB_PATIENCE = 120.0
_FORMAT = PlainFormatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")


class _Stderr(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the moment, so that redirected and captured streams get their lines."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _File(logging.FileHandler):
    """``log.txt``; where a line cannot be written, that is told once, and later ones are left out."""

    def handleError(self, record: logging.LogRecord) -> None:
        LOG.removeHandler(self)
        LOG.warning(f"{self.baseFilename}: left out from here on ({reason(sys.exc_info()[1] or OSError())})")


def _set_up(main: bool, debug: bool) -> logging.Handler:
    """Give the project's log one handler, in place of an earlier Logger's: stderr on the main rank, none elsewhere."""
    LOG.propagate = False
    LOG.setLevel(logging.DEBUG if debug else logging.INFO)
    for earlier in [handler for handler in LOG.handlers if isinstance(handler, _Stderr | logging.NullHandler)]:
        LOG.removeHandler(earlier)
    handler: logging.Handler = _Stderr() if main else logging.NullHandler()
    handler.setFormatter(_FORMAT)
    LOG.addHandler(handler)
    return handler


# ---- boards -----------------------------------------------------------------------------------------------------------


class _Board(Protocol):
    """Where numbers and pictures are shown, beside the files that hold them."""

    name: str

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Show images (N, H, W, 3) uint8."""

    def text(self, tag: str, text: str, step: int) -> None: ...

    def close(self) -> None: ...

    def give_up(self) -> None:
        """Leave nothing behind that would speak up when the process ends; called after a fault."""


class _TensorBoard:
    """Event files in the run's folder."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook = threading.excepthook
        threading.excepthook = self._of_a_thread
        try:
            self._writer = SummaryWriter(str(folder))
        except BaseException:
            self.give_up()
            raise

    def _of_a_thread(self, caught: threading.ExceptHookArgs) -> None:
        """The thread that writes raises what the next call raises here again; its traceback would be noise."""
        if type(caught.thread).__name__ != "_AsyncWriterThread":
            self._hook(caught)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        self._writer.add_images(tag, images, step, dataformats="NHWC")

    def text(self, tag: str, text: str, step: int) -> None:
        self._writer.add_text(tag, text, step)

    def close(self) -> None:
        self._writer.flush()
        self._writer.close()
        self.give_up()

    def give_up(self) -> None:
        threading.excepthook = self._hook


class _Wandb:
    """A run of wandb, begun by ``_start_wandb``."""

    name = "wandb"

    def __init__(self, run: Any) -> None:
        self._run = run

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        import wandb

        self._run.log({tag: [wandb.Image(image) for image in images], "step": step})

    def text(self, tag: str, text: str, step: int) -> None:
        """The options are in wandb's own table of them."""

    def close(self) -> None:
        """Send what is left, as long as patience lasts."""
        import wandb

        def finish() -> None:
            self._run.finish()
            wandb.teardown()

        _within(WANDB_PATIENCE, finish, "wandb sync sends what its folder holds")

    def give_up(self) -> None:
        import wandb

        # The first thing that it does is to take back what wandb wants to do, and wait for, when the process ends.
        with suppress(Exception):
            _within(2.0, wandb.teardown, "")


def _within(seconds: float, act: Callable[[], Any], cure: str) -> None:
    """Do something that may hang.

    Raises:
        TimeoutError: it takes longer, and goes on as long as the process.
        RuntimeError: it failed.
    """
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:  # nobody else would see it
            failed.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:g} s; {cure}")
    if failed:
        raise RuntimeError(reason(failed[0])) from failed[0]


def _start_wandb(folder: Path, name: str, options: Mapping[str, Any], mode: str) -> _Wandb:
    """A wandb run in ``folder``; ``offline`` needs no account."""
    try:
        import wandb
    except ImportError as error:
        raise UserError(f'--wandb {mode}: the package is missing; pip install "wandb>=0.19" or leave it off') from error
    try:
        run = wandb.init(
            project="web-wilss",
            name=name,
            dir=folder,
            config=dict(options),
            mode="offline" if mode == "offline" else "online",
        )
    except wandb.Error as error:
        raise UserError(f"--wandb {mode}: wandb did not start ({error}); --wandb offline needs no account") from error
    # wandb's own counter rises with every call; the charts follow the run's step.
    run.define_metric("*", step_metric="step")
    return _Wandb(run)


def _as_text(name: str) -> str:
    """A name within Markdown, each sign as it is."""
    signs = "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+-.!|" else sign for sign in " ".join(name.split()))
    return escape(signs, quote=False)


class Logger:
    """The main rank's log; on every other rank each method returns at once and no file is made.

    Numbers and messages are in files. A board, TensorBoard or wandb, that fails is told once and left out from then on;
    so is a picture that cannot be drawn.
    """

    def __init__(
        self,
        folder: Path,
        *,
        main: bool,
        name: str,
        options: Mapping[str, Any],
        wandb_mode: str = "off",
        debug: bool = False,
        tensorboard: bool = True,
    ) -> None:
        """Open the log of a run; a run that goes on adds to its files.

        Args:
            folder: made where it is missing; gets ``log.txt``, ``scalars.jsonl`` and the TensorBoard events.
            main: whether this rank writes.
            name: the run's name in wandb.
            options: what the run was started with, kept in TensorBoard and wandb.
            wandb_mode: ``off``, ``offline`` or ``online``.
            debug: whether messages of level debug are written.
            tensorboard: whether events are written.

        Raises:
            UserError: the files cannot be written, wandb is asked for and missing or refuses to start, or
                ``wandb_mode`` is unknown.
        """
        self.main = main
        self._handler = _set_up(main, debug)
        if not main:
            return
        if wandb_mode not in WANDB_MODES:
            raise UserError(f"--wandb {wandb_mode}: unknown; choose one of {', '.join(WANDB_MODES)}")
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Behind half a line the next one would be lost too.
            cut_half_line(self.folder / "scalars.jsonl")
            self._scalars: IO[str] | None = (self.folder / "scalars.jsonl").open("a", encoding="utf-8")
            self._file = _File(self.folder / "log.txt", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(f"{self.folder}: the log cannot be written ({error.strerror or error})") from error
        self._file.setFormatter(_FORMAT)
        LOG.addHandler(self._file)
        self._open = True
        self._boards: list[_Board] = []
        try:
            if wandb_mode != "off":
                self._begin("wandb", lambda: _start_wandb(self.folder, name, options, wandb_mode))
            if tensorboard:
                self._begin("TensorBoard", lambda: _TensorBoard(self.folder))
        except BaseException:
            self.close()
            raise
        self.text("options", "\n".join(f"    {key}: {value}" for key, value in options.items()), 0)

    def _begin(self, name: str, start: Callable[[], _Board]) -> None:
        try:
            self._boards.append(start())
        except UserError:
            raise
        except Exception as error:
            self._left_out(name, error)

    def _left_out(self, name: str, error: Exception) -> None:
        self.warning(f"{name} is left out from here on ({reason(error)}); the numbers are in {self.folder}")

    def _show(self, act: Callable[[_Board], None]) -> None:
        """Have each board that still works do something."""
        for board in list(self._boards):
            try:
                act(board)
            except Exception as error:
                self._boards.remove(board)
                self._left_out(board.name, error)
                board.give_up()

    def debug(self, message: str) -> None:
        """A message that ``--debug`` shows."""
        if self.main:
            LOG.debug(message)

    def info(self, message: str) -> None:
        if self.main:
            LOG.info(message)

    def warning(self, message: str) -> None:
        if self.main:
            LOG.warning(message)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by tag, one JSON line each: ``{"step", "tag", "value", "time"}``; not finite is null there."""
        if not self.main:
            return
        now = round(time.time(), 3)
        numbers = {tag: float(number) for tag, number in values.items()}
        lines = [
            json.dumps({"step": step, "tag": tag, "value": value if math.isfinite(value) else None, "time": now}) + "\n"
            for tag, value in numbers.items()
        ]
        if self._scalars is not None:
            try:
                self._scalars.write("".join(lines))
                self._scalars.flush()
            except OSError as error:
                self._forget_scalars()
                self.warning(f"{self.folder}/scalars.jsonl: later numbers are missing there ({reason(error)})")
        self._show(lambda board: board.scalars(numbers, step))

    def _forget_scalars(self) -> None:
        if self._scalars is not None:
            # What is pending is written again, and fails again where the disk is full.
            with suppress(OSError):
                self._scalars.close()
            self._scalars = None

    def class_table(self, tag: str, values: Mapping[str, float], step: int) -> None:
        """Write one number per class name, as scalars ``tag/name`` and as a table."""
        if not self.main:
            return
        self.scalars({f"{tag}/{name}": value for name, value in values.items()}, step)
        rows = [f"| {_as_text(name)} | {value:.4f} |" for name, value in values.items()]
        self.text(tag, "\n".join(["| class | value |", "|---|---|", *rows]), step)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Show a matplotlib figure: as the picture that it is, since boards would look for its window."""
        if not self.main:
            return
        try:
            picture = drawn(figure)
        except Exception as error:
            self.warning(f"The figure {tag} is left out ({reason(error)})")
            return
        self.images(tag, picture[None], step)

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Show images (N, H, W, 3) uint8."""
        if self.main:
            self._show(lambda board: board.images(tag, images, step))

    def text(self, tag: str, text: str, step: int) -> None:
        """Keep a Markdown text in TensorBoard."""
        if self.main:
            self._show(lambda board: board.text(tag, text, step))

    def close(self) -> None:
        """Write what is pending and let the files go; a second call does nothing.

        The process's log is then as it was before the Logger, if no other one took its place.
        """
        if self.main and self._open:
            self._open = False
            self._show(lambda board: board.close())
            self._boards = []
            self._forget_scalars()
            LOG.removeHandler(self._file)
            with suppress(OSError):
                self._file.close()
        if self._handler in LOG.handlers:
            LOG.removeHandler(self._handler)
            LOG.propagate = True
            LOG.setLevel(logging.NOTSET)
