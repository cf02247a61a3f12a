"""Options that are declared once, as the fields of a dataclass; the command line and its simple refusals derive from them.

    @dataclass(frozen=True)
    class Options:
        lr: float = option("training", 0.01, "learning rate of the body", check=rate)

    add_arguments(parser, Options)

An option's type is its field's: a ``bool`` is a switch to what its default is not, ``int`` and ``float`` are read as such, and ``check``
reads what has bounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn

_KEY = "option"
_READ: dict[str, Callable[[str], Any]] = {"int": int, "float": float}


@dataclass(frozen=True)
class Option:
    """All that is said of an option.

    Attributes:
        group: its heading in ``--help``.
        default: its value where the command line is silent; None where there is none, or where it depends on other options.
        help: what it is for, without its default.
        check: reads a text; raises ArgumentTypeError, whose message says what was expected.
        choices: the values to choose from; a table may grow.
        known: gives names for ``--help`` to list, where ``choices`` cannot.
        of_dataset: data set -> default, where it is not the common one.
        late: the parser leaves None where the command line is silent, and ``fill`` puts the default. For options that may be
            refused though they have their default.
        shown: the default in words, where it depends on other options.
        aliases: other spellings.
        needs: what it would change nothing without, or could not work without.
        contradicts: the switch that it cannot be given with.
        path: ``file`` or ``folder``, which must exist.
        neutral: whether trained weights do not depend on it, so that it may change between a run and its continuation.
        name: of the field.
        kind: type of the field.
    """

    group: str
    default: Any
    help: str
    check: Callable[[str], Any] | None = None
    choices: Iterable[Any] | None = None
    known: Callable[[], Iterable[str]] | None = None
    of_dataset: Mapping[str, Any] = field(default_factory=dict)
    late: bool = False
    shown: str = ""
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    contradicts: str = ""
    path: str = ""
    neutral: bool = False
    name: str = ""
    kind: str = ""

    @property
    def silent(self) -> Any:
        """What the parser gives where the command line is silent."""
        return None if self.late or self.of_dataset else self.default

    def default_of(self, dataset: str) -> Any:
        """The default with a data set."""
        return self.of_dataset.get(dataset, self.default)

    def explained(self) -> str:
        """Help with the known names, and the default in brackets."""
        shown = self.shown
        if not shown and self.default not in (None, "") and not self.kind.startswith("bool"):
            shown = "; ".join([str(self.default), *(f"{name} {value}" for name, value in self.of_dataset.items())])
        text = self.help if self.known is None else f"{self.help}: {', '.join(self.known())}"
        return f"{text} [{shown}]" if shown else text

    def add_to(self, group: argparse._ArgumentGroup) -> None:
        """Make it an argument of a parser's group."""
        if self.kind.startswith("bool"):
            kind: dict[str, Any] = {"action": "store_false" if self.default else "store_true"}
        else:
            kind = {"type": self.check or _READ.get(self.kind.partition(" ")[0]), "choices": self.choices}
        group.add_argument(f"--{self.name}", *self.aliases, default=self.silent, help=self.explained(), **kind)


def option(
    group: str,
    default: Any,
    help: str,
    /,
    *,
    needs: str | tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    """A field that is an option (``Option`` says what may be given of one)."""
    needed = (needs,) if isinstance(needs, str) else needs
    return field(metadata={_KEY: Option(group, default, help, needs=needed, aliases=aliases, **more)})


def declared(*classes: type) -> dict[str, Option]:
    """The options of dataclasses by their names, in order."""
    return {
        own.name: replace(own.metadata[_KEY], name=own.name, kind=str(own.type)) for of in classes for own in fields(of)
    }


def add_arguments(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Make options arguments of ``parser``, in groups in the order of their first members."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for one in options:
        if one.group not in groups:
            groups[one.group] = parser.add_argument_group(one.group)
        one.add_to(groups[one.group])


def fill(given: argparse.Namespace, options: Iterable[Option], dataset: str) -> dict[str, Any]:
    """What was given, with defaults where the command line is silent."""
    values = vars(given).copy()
    for one in options:
        if values[one.name] is None:
            values[one.name] = one.default_of(dataset)
    return values


def said(given: argparse.Namespace, options: Iterable[Option]) -> Iterator[Option]:
    """The options whose value is not the one of silence."""
    return (one for one in options if getattr(given, one.name) != one.silent)


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line, without the page of usage; exit code 2 as argparse has it."""

    def error(self, message: str) -> NoReturn:
        """Say it and end."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists all options)\n")
