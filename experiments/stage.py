"""A stage of an experiment: one command line, what it needs and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: its name, which is that of a file too.
        command: what stands behind ``python`` on its line: ``("run.py", "--name", "base-0", ...)``.
        after: names of the stages that must have ended before.
        needs: files and folders that must be there before anything runs: the user's data.
        makes: files and folders that it leaves behind; what is not there in the end makes it a failure.
        speed: further arguments, on which the result does not depend.
        allowed: exit codes that are no failure. The scripts end with 1 where something is missing and the rest went on.
        ranks: whether it runs on several devices under torchrun, too.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()
    makes: tuple[Path, ...] = ()
    speed: tuple[str, ...] = ()
    allowed: tuple[int, ...] = (0,)
    ranks: bool = False


def line(*parts: str | Path | Sequence[str]) -> tuple[str, ...]:
    """A command line: texts are split at their blanks, paths and sequences of arguments are taken as they are."""
    found: list[str] = []
    for part in parts:
        found += part.split() if isinstance(part, str) else [str(part)] if isinstance(part, Path) else part
    return tuple(found)


def check(stages: Sequence[Stage]) -> None:
    """Refuse a description that cannot run.

    Raises:
        ValueError: a name that stands twice or is none of a file, or a stage that comes before one that it waits for.
    """
    seen: set[str] = set()
    for stage in stages:
        if stage.name in seen or not re.fullmatch(r"[\w.-]+", stage.name):
            raise ValueError(f"stage {stage.name!r}: its name stands twice, or cannot be that of a file")
        for name in stage.after:
            if name not in seen:
                raise ValueError(f"stage {stage.name}: waits for {name}, which does not stand before it")
        seen.add(stage.name)


def missing(stages: Sequence[Stage]) -> list[str]:
    """A sentence for each thing that must be there and is not."""
    paths: dict[Path, str] = {}
    for stage in stages:
        for path in stage.needs:
            paths.setdefault(path, stage.name)
    return [f"{path}: is missing, the stage {name} needs it" for path, name in paths.items() if not path.exists()]


def wanted(stages: Sequence[Stage], last: str) -> list[Stage]:
    """The stages that ``last`` waits for, and those that they wait for, in their order; ``last`` included."""
    names = {last}
    for stage in reversed(stages):
        if stage.name in names:
            names.update(stage.after)
    return [stage for stage in stages if stage.name in names]


def keys(stages: Sequence[Stage]) -> dict[str, str]:
    """What the result of each stage depends on, as a digest: its command, and those of all stages before it."""
    found: dict[str, str] = {}
    for stage in stages:
        text = json.dumps([stage.command, [found[name] for name in stage.after]])
        found[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return found
