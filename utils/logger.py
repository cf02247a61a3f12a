"""A run's log: messages on stderr and in log.txt, numbers in scalars.jsonl, TensorBoard and wandb, pictures in the last two."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import PlainFormatter, UserError
from utils.whole import cut_half_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger("webwilss")
WANDB_MODES = ("off", "offline", "online")
_FORMAT = PlainFormatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")


class _Stderr(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the moment, so that redirected and captured streams get their lines."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _set_up(main: bool, debug: bool) -> None:
    """Give the project's log one handler: stderr on the main rank, none elsewhere."""
    LOG.propagate = False
    LOG.setLevel(logging.DEBUG if debug else logging.INFO)
    if any(isinstance(handler, _Stderr | logging.NullHandler) for handler in LOG.handlers):
        return
    handler: logging.Handler = _Stderr() if main else logging.NullHandler()
    handler.setFormatter(_FORMAT)
    LOG.addHandler(handler)


def _start_wandb(folder: Path, name: str, options: Mapping[str, Any], mode: str) -> Any:
    """A wandb run in ``folder``; ``offline`` needs no account."""
    if mode not in WANDB_MODES:
        raise UserError(f"--wandb {mode}: unknown; choose one of {', '.join(WANDB_MODES)}")
    if mode == "off":
        return None
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
    return run


class Logger:
    """The main rank's log; on every other rank each method returns at once and no file is made."""

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
            UserError: wandb is asked for and missing, refuses to start, or ``wandb_mode`` is unknown.
        """
        self.main = main
        _set_up(main, debug)
        if not main:
            return
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._wandb = _start_wandb(self.folder, name, options, wandb_mode)
        self._file = logging.FileHandler(self.folder / "log.txt", encoding="utf-8")
        self._file.setFormatter(_FORMAT)
        LOG.addHandler(self._file)
        # Behind half a line the next one would be lost too.
        cut_half_line(self.folder / "scalars.jsonl")
        self._scalars = (self.folder / "scalars.jsonl").open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder))
        self.text("options", "\n".join(f"    {key}: {value}" for key, value in options.items()), 0)

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
        for tag, number in values.items():
            value = float(number)
            line = {"step": step, "tag": tag, "value": value if math.isfinite(value) else None, "time": now}
            self._scalars.write(json.dumps(line) + "\n")
            if self._board is not None:
                self._board.add_scalar(tag, value, step)
        self._scalars.flush()
        if self._wandb is not None:
            self._wandb.log({tag: float(number) for tag, number in values.items()} | {"step": step})

    def class_table(self, tag: str, values: Mapping[str, float], step: int) -> None:
        """Write one number per class name, as scalars ``tag/name`` and as a table."""
        if not self.main:
            return
        self.scalars({f"{tag}/{name}": value for name, value in values.items()}, step)
        rows = [f"| {name} | {value:.4f} |" for name, value in values.items()]
        self.text(tag, "\n".join(["| class | value |", "|---|---|", *rows]), step)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Show a matplotlib figure."""
        if not self.main:
            return
        if self._wandb is not None:
            import wandb

            self._wandb.log({tag: wandb.Image(figure), "step": step})
        if self._board is not None:
            self._board.add_figure(tag, figure, step)

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Show images (N, H, W, 3) uint8."""
        if not self.main:
            return
        if self._wandb is not None:
            import wandb

            self._wandb.log({tag: [wandb.Image(image) for image in images], "step": step})
        if self._board is not None:
            self._board.add_images(tag, images, step, dataformats="NHWC")

    def text(self, tag: str, text: str, step: int) -> None:
        """Keep a Markdown text in TensorBoard."""
        if self.main and self._board is not None:
            self._board.add_text(tag, text, step)

    def close(self) -> None:
        """Write what is pending and let the files go; a second call does nothing."""
        if not self.main or self._scalars.closed:
            return
        self._scalars.close()
        LOG.removeHandler(self._file)
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
