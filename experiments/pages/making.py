"""How the experiment was made: options, commands, versions."""

from __future__ import annotations

import platform
import shlex
import subprocess
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from experiments.pages.pieces import fold, grid, note
from experiments.pages.study import Study

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")
# Paths and names that differ by what they are.
OWN = ("name", "step_ckpt", "logdir", "checkpoints")


def options(study: Study) -> str:
    """Options in which the arms differ, and the whole commands."""
    runs = {arm: own[0] for arm in study.arms if (own := study.last_runs(arm))}
    first = next(iter(runs.values()))
    keys = [
        key for key in first.options if key not in OWN and len({str(run.options[key]) for run in runs.values()}) > 1
    ]

    def text(value: object) -> str:
        if value is None or value is False:
            return "–"
        return "yes" if value is True else str(value).replace(f"{study.history.work}/", "")

    rows = [[f"--{key}", *(text(run.options[key]) for run in runs.values())] for key in keys]
    changed = {
        (f"--{key}", arm)
        for key in keys
        for arm, run in runs.items()
        if str(run.options[key]) != str(first.options[key])
    }
    commands = "".join(
        f'<h3>{escape(name)}</h3><div class="command">python {escape(shlex.join(stage.command))}</div>'
        for name, stage in study.history.stages.items()
    )
    return (
        note(
            "Options of the last step in which the arms differ, first seed; highlighted where an arm differs from the first. A dash "
            "is the default."
        )
        + grid(["option", *runs], rows, "options by arm", "text", changed)
        + fold(f"All {len(study.history.stages)} commands", commands)
    )


def versions(study: Study) -> str:
    """Software and machine that wrote the page."""
    rows = [["python", platform.python_version()]]
    for name in PACKAGES:
        try:
            rows.append([name, version(name)])
        except PackageNotFoundError:
            rows.append([name, "not installed"])
    tested = sorted(run.time for table in study.tables for runs in table.arms.values() for run in runs.values())
    rows += [
        ["commit", _commit()],
        ["system", f"{platform.system()} {platform.machine()}"],
        ["device", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"],
        ["tests of the runs", f"{tested[0]} to {tested[-1]}"],
        ["page written", datetime.now(UTC).isoformat(timespec="seconds")],
    ]
    return note("Those of the machine that wrote this page.") + grid(["what", "version"], rows, "versions", "text")


def _commit() -> str:
    """The project's commit, and whether its files differ from it."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not under version control"
    return done.stdout.strip()
