"""A stage of an experiment: one command line, what it needs and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: its name, which is that of a file too.
        command: what stands behind ``python`` on its line: ``("run.py", "--name", "base-0", ...)``.
        after: names of the stages that must have ended before.
        needs: files and folders that must be there before anything runs: the user's data.
        makes: files and folders that it leaves behind, those of ``outputs`` first; what is not there in the end makes it a failure.
        speed: further arguments, on which the result does not depend.
        allowed: exit codes that are no failure. The scripts end with 1 where something is missing and the rest went on.
        ranks: whether it runs on several devices under torchrun, too.
        kind: what it does, for those who read its record: ``train``, ``test``, ``select`` ...; "" where nobody asks.
        arm: arm of a training or a test.
        rule: what a selection of web images goes by, as in ``Arm.web``.
        seed: random seed of what is made anew for each.
        step: step of a training or a test.
        inputs: by what they are, the files and folders that it reads and a reader of its record asks for.
        outputs: by what they are, files and folders that it leaves behind.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()
    makes: tuple[Path, ...] = ()
    speed: tuple[str, ...] = ()
    allowed: tuple[int, ...] = (0,)
    ranks: bool = False
    kind: str = ""
    arm: str = ""
    rule: str = ""
    seed: int | None = None
    step: int | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    outputs: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "makes", tuple(dict.fromkeys([*self.outputs.values(), *self.makes])))


def line(*parts: str | Path | Sequence[str]) -> tuple[str, ...]:
    """A command line: texts are split at their blanks, paths and sequences of arguments are taken as they are."""
    words: list[str] = []
    for part in parts:
        words += part.split() if isinstance(part, str) else [str(part)] if isinstance(part, Path) else part
    return tuple(words)


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
    digests: dict[str, str] = {}
    for stage in stages:
        text = json.dumps([stage.command, [digests[name] for name in stage.after]])
        digests[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return digests
