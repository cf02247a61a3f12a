"""Near-duplicates of one image among N: hashes looked up by their parts, beside a comparison with all.

    python -m benchmarks.duplicates [--hashes 1000 10000 100000 1000000 10000000] [--near 10] [--looks 100]

Hashes are drawn; one in ten of those that are looked for differs from one of them in few bits. Both ways give the same positions, else
this ends. Seconds are those of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.pages import finish, make_parser, write_page
from results.table import markdown_table
from utils.errors import UserError
from web.near_hashes import BITS, NearHashes

# More would take minutes one after another.
MOST_WHOLE = 100_000
INTRODUCTION = """# Near-duplicates

Written by `python -m benchmarks.duplicates`: milliseconds of one look for hashes that differ in at most {near} of 64 bits (median of
{looks}; an image takes two, one of them mirrored), by a comparison with all and by tables of parts of hashes (`web/near_hashes.py`), and
seconds until all hashes had come, each with a look before."""


def looked_for(values: np.ndarray, near: int, looks: int) -> list[int]:
    """Hashes to look for: strangers, and one in ten that is near to one that is there."""
    generator = np.random.default_rng(1)
    found = []
    for number in range(looks):
        value = int(generator.integers(0, 1 << BITS, dtype=np.uint64))
        if number % 10 == 0:
            value = int(generator.choice(values))
            for bit in generator.choice(BITS, int(generator.integers(0, near + 1)), replace=False):
                value ^= 1 << int(bit)
        found.append(value)
    return found


def milliseconds(look: Callable[[int], np.ndarray], values: Sequence[int]) -> tuple[float, list[list[int]]]:
    """The median of a look, and what was found; the first one warms up."""
    look(values[0])
    times, found = [], []
    for value in values:
        begin = time.perf_counter()
        positions = look(value)
        times.append(1000 * (time.perf_counter() - begin))
        found.append(positions.tolist())
    return statistics.median(times), found


def measure(count: int, near: int, looks: int) -> list[str]:
    """One line of the table.

    Raises:
        UserError: the two ways find other hashes.
    """
    values = np.random.default_rng(0).integers(0, 1 << BITS, count, dtype=np.uint64)
    hashes = NearHashes(near)
    begin = time.perf_counter()
    for value in values.tolist():
        if count <= MOST_WHOLE:
            hashes.find(value)
        hashes.add(value)
    whole = f"{time.perf_counter() - begin:.2f}" if count <= MOST_WHOLE else "-"
    asked = looked_for(values, near, looks)
    slow, expected = milliseconds(hashes.compared, asked)
    fast, found = milliseconds(hashes.find, asked)
    if found != expected:
        raise UserError(f"benchmarks.duplicates: {count} hashes: the tables find others than a comparison with all")
    return [f"{count:,}", f"{slow:.3f}", f"{fast:.3f}", f"{slow / fast:.1f}", whole]


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("duplicates", __doc__)
    parser.add_argument("--hashes", nargs="+", type=int, default=[10**power for power in range(3, 8)])
    parser.add_argument("--near", type=int, default=10, help="bits that may differ [%(default)s]")
    parser.add_argument("--looks", type=int, default=100)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; write the page."""
    settings = get_argparser().parse_args(arguments)
    rows = [measure(count, settings.near, settings.looks) for count in settings.hashes]
    headings = ["hashes", "ms, compared with all", "ms, tables", "times as fast", "s, all of them one after another"]
    introduction = INTRODUCTION.format(near=settings.near, looks=settings.looks)
    print(write_page(settings.out, "\n".join([introduction, "", *markdown_table(headings, rows)])))
    return 0


if __name__ == "__main__":
    finish("duplicates", main)
