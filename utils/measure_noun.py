"""The published commands of the caption filter, as functions and as sub-commands:

    python -m utils.measure_noun generate_NN --captions DIR --out DIR
    python -m utils.measure_noun filter_replay_with_NN --nouns DIR --classes FILE --out DIR
    python -m utils.measure_noun filter_webnew_with_cls --nouns DIR --out DIR
    python -m utils.measure_noun move_with_filtered_caption --images DIR --kept DIR --out TREE

``--similarity depth`` filters exactly as published. An entry script in spite of its folder: the published module name is kept.
Source: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.script import GOES_ON, run

if TYPE_CHECKING:
    from captions.similarity import Similarity
    from dataset.replay_placing import Placed

LOG = logging.getLogger("webwilss")


def generate_NN(captions: Path, out: Path, tagger: str | None = None) -> int:
    """Find the nouns of caption files; a file to a file, a folder to a folder. Returns 0.

    Raises:
        UserError: a file is missing or no text, or the tagger is not installed.
    """
    from captions.filter_files import generate_noun_files
    from captions.nouns import DEFAULT_TAGGER, make_tagger

    name = tagger or DEFAULT_TAGGER
    count = generate_noun_files(captions, out, lambda: make_tagger(name))
    LOG.info("%s: nouns of %d captions found, the rest was done before", out, count)
    return 0


def filter_replay_with_NN(
    nouns: Path,
    out: Path,
    classes: Path | None = None,
    caption_nouns: Path | None = None,
    similarity: str | None = None,
    **choices: Any,
) -> int:
    """Choose the downloads that stand for each original image: one file of kept names per original. Returns 0.

    Args:
        nouns: folder or zip archive with one noun file per original.
        out: folder of the lists.
        classes: file of class words of the originals; filters against classes.
        caption_nouns: in its place, noun file of the originals' captions; filters against captions.
        similarity: a name of ``captions.similarity``.
        choices: fields of ``captions.filters.FilterRule`` that are not to be the similarity's own.

    Raises:
        UserError: bad input; names it.
    """
    from captions import filters
    from captions.filter_files import read_lists, read_originals, write_kept
    from captions.formats import read_class_words
    from captions.similarity import make_similarity

    name = similarity or filters.DEFAULT_SIMILARITY
    measure = make_similarity(name)
    if caption_nouns is not None:
        rule = replace(filters.caption_rule(name), **choices)
        wanted = filters.first_of(read_originals(caption_nouns), rule.first_nouns)
    elif classes is not None:
        rule = replace(filters.RULES[name], **choices)
        wanted = read_class_words(classes)
    else:
        raise UserError("either the class words or the captions' nouns of the originals are needed")
    lists = read_lists(nouns)
    _tell_unknown(measure, [word for words in wanted.values() for word in words])
    kept = filters.filter_replay_with_NN(lists, wanted, measure, rule)
    write_kept(out, kept)
    _report(out, kept, lists, f"{name}, {rule}")
    return 0


def filter_webnew_with_cls(nouns: Path, out: Path, similarity: str | None = None, **choices: Any) -> int:
    """Choose the downloads that show the new class searched for: one file of kept names per class. Returns 0.

    Args:
        nouns: folder or zip archive with one noun file per class, named for it.
        out: folder of the lists.
        similarity: a name of ``captions.similarity``.
        choices: fields of ``captions.filters.FilterRule`` that are not to be the similarity's own.

    Raises:
        UserError: bad input; names it.
    """
    from captions import filters
    from captions.filter_files import read_lists, write_kept
    from captions.similarity import make_similarity

    name = similarity or filters.DEFAULT_SIMILARITY
    measure = make_similarity(name)
    rule = replace(filters.new_class_rule(name), **choices)
    lists = read_lists(nouns)
    _tell_unknown(measure, list(lists))
    kept = filters.filter_webnew_with_cls(lists, measure, rule)
    write_kept(out, kept)
    _report(out, kept, lists, f"{name}, {rule}")
    return 0


def move_with_filtered_caption(images: Path, kept: Path, out: Path, mode: str = "copy", flat: bool = False) -> int:
    """Copy or link the kept images into a replay tree, or with ``flat`` into folders of classes. Returns 1 where some are missing.

    Raises:
        UserError: bad input; names it.
    """
    from captions.filter_files import read_kept
    from dataset.replay_placing import place_kept
    from dataset.replay_tree import IMAGES

    done = place_kept(images, read_kept(kept), out, mode, "" if flat else IMAGES)
    return _report_placed(done, images, out, mode)


def move_web_images(web: Path, classes: Sequence[str], out: Path, mode: str = "copy", anywhere: bool = False) -> int:
    """Copy or link the web images of classes that an earlier step learned into a replay tree. Returns 1 where some are left out.

    Later steps rehearse these classes then, too; the papers rehearse those of step 0 alone. ``anywhere``: also files that lie
    neither in the manifest's folder nor in one named for their class.

    Raises:
        UserError: bad input; names it.
    """
    from dataset.replay_placing import place_web

    return _report_placed(place_web(web, classes, out, mode, anywhere=anywhere), web, out, mode)


def _tell_unknown(measure: Similarity, words: Sequence[str]) -> None:
    """Say which wanted words no noun can be similar to."""
    from dataset.files import shown

    unknown = [word for word in dict.fromkeys(words) if math.isnan(measure.matrix([word], [word])[0, 0])]
    if unknown:
        LOG.warning("%d wanted words are no noun of the measure, and keep no image: %s", len(unknown), shown(unknown))


def _report_placed(done: Placed, source: Path, out: Path, mode: str) -> int:
    from dataset.files import shown

    LOG.info("%s: %d images placed (%s), %d were there before", out, done.placed, mode, done.before)
    if done.missing:
        LOG.error("%s: %d kept images are missing (%s ...)", source, len(done.missing), ", ".join(done.missing[:3]))
    if done.outside:
        LOG.error(
            "%s: %d rows name files that lie neither in its folder nor in one named for their class, and are left out (%s); "
            "--anywhere takes them, too", source, len(done.outside), shown(done.outside),
        )  # fmt: skip
    return 1 if done.missing or done.outside else 0


def _report(out: Path, kept: dict[str, list[str]], lists: dict[str, list[Any]], rule: str) -> None:
    count = sum(map(len, kept.values()))
    total = sum(map(len, lists.values()))
    none = sum(not names for names in kept.values())
    LOG.info("%s: %d of %d images kept for %d lists, none for %d (%s)", out, count, total, len(kept), none, rule)


def _add_filter(parser: argparse.ArgumentParser, most: str, most_help: str) -> None:
    parser.add_argument("--nouns", type=Path, required=True, help="folder or zip archive of noun files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists of kept images")
    parser.add_argument(
        "--similarity", help="depth (as published), path, wup, lin or embedding; by default the one that measures best"
    )
    parser.add_argument("--threshold", type=float, help="a noun counts where it is more similar than this")
    parser.add_argument("--first_nouns", type=int, help="look at so many nouns of a caption; 0: all")
    parser.add_argument(most, type=int, dest="most", help=most_help)
    parser.add_argument(
        "--order",
        choices=("best", "first"),
        help="keep the most similar images, or the first ones that pass (published)",
    )
    parser.add_argument(
        "--rivals",
        action=argparse.BooleanOptionalAction,
        help="a noun that is more similar to another class does not count (published: --no-rivals)",
    )
    parser.epilog = "What is not given is set by the similarity: for depth the published rule, else what benchmarks/captions.py found best."


def get_argparser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="utils.measure_noun", description="Filter downloads by the nouns of their captions."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    nouns = commands.add_parser("generate_NN", help="nouns of captions")
    nouns.add_argument("--captions", type=Path, required=True, help="caption file, or folder of them")
    nouns.add_argument("--out", type=Path, required=True, help="noun file, or folder for them")
    nouns.add_argument("--tagger", help="hanta (default), textblob or spacy")

    replay = commands.add_parser("filter_replay_with_NN", help="downloads that stand for original images")
    _add_filter(replay, "--per_original", "keep so many images per original, 2 by default; 0: all")
    replay.add_argument(
        "--against", choices=("classes", "caption"), default="classes",
        help="what the nouns are compared with: class words of the original, or the first nouns of its caption",
    )  # fmt: skip
    replay.add_argument("--classes", type=Path, help="class words of the originals, lines 'name word word'")
    replay.add_argument(
        "--caption_nouns", type=Path, help="noun file of the originals' captions, for --against caption"
    )

    new = commands.add_parser("filter_webnew_with_cls", help="downloads that show the class that was searched for")
    _add_filter(new, "--per_class", "keep so many images per class, 500 by default; 0: all")

    move = commands.add_parser("move_with_filtered_caption", help="kept images into the replay tree")
    move.add_argument("--images", type=Path, required=True, help="downloads, one folder per original (or class)")
    move.add_argument("--kept", type=Path, required=True, help="lists of kept images that a filter wrote")
    move.add_argument("--out", type=Path, required=True, help="the tree: ORIGINAL/image/NAME")
    move.add_argument("--mode", choices=("copy", "hardlink", "symlink"), default="copy")
    move.add_argument("--flat", action="store_true", help="OUT/CLASS/NAME, as web images of new classes lie")

    web = commands.add_parser("move_web_images", help="web images of an earlier step's classes into the replay tree")
    web.add_argument("--web_path", type=Path, required=True, help="what that step was trained on: manifest or folder")
    web.add_argument("--classes", nargs="+", required=True, help="its classes")
    web.add_argument("--out", type=Path, required=True, help="the tree: CLASS-NUMBER/image/NAME")
    web.add_argument("--mode", choices=("copy", "hardlink", "symlink"), default="copy")
    web.add_argument(
        "--anywhere", action="store_true",
        help="also files that lie neither in the manifest's folder nor in one named for their class",
    )  # fmt: skip
    return parser


@contextmanager
def _uncollected() -> Iterator[None]:
    """A filter makes no circles, but a list for each image: to look through all of them again and again takes as long as reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _run(given: argparse.Namespace) -> int:
    if given.command == "generate_NN":
        return generate_NN(given.captions, given.out, given.tagger)
    if given.command == "move_with_filtered_caption":
        return move_with_filtered_caption(given.images, given.kept, given.out, given.mode, given.flat)
    if given.command == "move_web_images":
        return move_web_images(given.web_path, given.classes, given.out, given.mode, given.anywhere)
    with _uncollected():
        return _filter(given)


def _filter(given: argparse.Namespace) -> int:
    choices = {name: getattr(given, name) for name in ("threshold", "first_nouns", "most", "rivals")}
    choices = {name: value for name, value in choices.items() if value is not None}
    if given.order is not None:
        choices["best"] = given.order == "best"
    if given.command == "filter_webnew_with_cls":
        return filter_webnew_with_cls(given.nouns, given.out, given.similarity, **choices)
    needed, other = ("classes", "caption_nouns") if given.against == "classes" else ("caption_nouns", "classes")
    if getattr(given, needed) is None or getattr(given, other) is not None:
        raise UserError(f"--against {given.against} needs --{needed} FILE and takes no --{other}")
    return filter_replay_with_NN(
        given.nouns, given.out, given.classes, given.caption_nouns, given.similarity, **choices
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, 1 where images are missing, 2 for bad input, 130 where it was stopped."""
    given = get_argparser().parse_args(arguments)
    return run(lambda: _run(given), "utils.measure_noun", stopped=GOES_ON)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
