"""Runs a script as its user does, within this process: its words in, its exit code and its lines out."""

from __future__ import annotations

import argparse
import contextlib
import io
import runpy
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest import mock

from tests.conftest import ROOT


@dataclass(frozen=True)
class Ended:
    """How a script ended.

    Attributes:
        code: exit code; 0 where it came to its end.
        out: what it printed.
        err: what it printed as errors.
    """

    code: int
    out: str
    err: str


@contextlib.contextmanager
def _as_main(words: Sequence[str]) -> Iterator[None]:
    with mock.patch.object(sys, "argv", list(words)), warnings.catch_warnings():
        # The module may be imported already, and runs a second time under the name __main__.
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _execute(words: Sequence[str]) -> None:
    if words[0] == "-m":
        with _as_main(words[1:]):
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        with _as_main(words):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def call(*words: str) -> Ended:
    """Run ``python WORDS``: ``call("run.py", "--step", "1")`` or ``call("-m", "utils.table", "--logs", "logs")``."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            _execute(words)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                err.write(f"{ended.code}\n")
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    return Ended(code, out.getvalue(), err.getvalue())


class _Parsing(BaseException):
    """A script has come to its command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(*words: str) -> argparse.ArgumentParser:
    """The parser of a script, caught when it is about to read the command line."""

    def caught(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _Parsing(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", caught):
        try:
            _execute(words)
        except _Parsing as parsing:
            return parsing.parser
    raise AssertionError(f"{' '.join(words)} reads no command line")
