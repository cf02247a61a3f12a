"""Noisy candidates with known truth: a web search at the size of a folder.

    python -m experiments.noisy_web --web DIR --out DIR --new cow sheep --base cat dog horse [--noisy_base]

DIR holds one folder of web images a class.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.imitation.noise import mix
from utils.manifest import FILE
from utils.script import run


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.noisy_web",
        description="Noisy candidates with known truth.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--web", type=Path, required=True, help="one folder of web images a class")
    add("--out", type=Path, required=True, help="folder of the candidates and their manifest.csv")
    add("--new", nargs="+", required=True, help="classes that are searched for")
    add("--base", nargs="+", required=True, help="other classes that the search finds by mistake")
    add("--noisy_base", action="store_true", help="candidates for the base classes too, with the same noise")
    add("--seed", type=int, default=0, help="which images are mixed in [0]")
    return parser


def main(given: argparse.Namespace) -> None:
    """Mix the candidates and say how many they are."""
    count = mix(given.web, given.out, given.new, given.base, given.seed, given.noisy_base)
    print(f"{given.out / FILE}: {count} candidates")


if __name__ == "__main__":
    sys.exit(run(lambda: main(get_argparser().parse_args()), "experiments.noisy_web"))
