"""Caption-driven rehearsal judged on truth: is old knowledge kept, and do single-class steps learn?

    python benchmarks/replay.py --data DIR --web DIR --captioned DIR --animals DIR --web_bench DIR [--seeds 0 1 2] [--jobs 2]

--data, --web, --animals as for benchmarks/web.py; --web_bench: its work folder (selected web images of cow and sheep, and the runs
without replay); --captioned: photographs with captions.json. The search for each original image's caption is imitated on a pool of
web images of base classes and captioned photographs: it finds images of the original's classes, and now and then anything else,
drawings and images of new classes among them. Every later stage is the project's own script. Lines that are done are not run again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.animals import COMMON, LINES, finished, groups, last_row  # noqa: E402
from benchmarks.pages import write_page  # noqa: E402
from benchmarks.web import BASE, NEW, run, spread  # noqa: E402
from experiments.imitated_search import (  # noqa: E402
    CAPTIONS,
    IMAGES,
    LISTING,
    Picture,
    find,
    make_pool,
    originals,
    read_pool,
    write_downloads,
)
from utils.errors import UserError  # noqa: E402

# Originals whose captions are searched for.
ORIGINALS = 300
WEAK = LINES["WILSON"][1].removeprefix("--task 4-2 --step 1 ")


def search(settings: argparse.Namespace) -> tuple[dict[str, list[Picture]], dict[str, list[str]]]:
    """What is found for every original, laid out as the scripts expect it, and the originals' class words."""
    folder = settings.work / "pool"
    if not (folder / LISTING).is_file():
        make_pool(settings.web, settings.captioned, folder, NEW, BASE)
    run(f"generate_caption.py {folder / IMAGES} {folder / CAPTIONS} --device cpu", settings.threads)
    wanted = originals("voc", settings.data, "4-2", "overlap", ORIGINALS)
    found = find(read_pool(folder), wanted)
    write_downloads(settings.work, found, wanted)
    return found, wanted


def trees(settings: argparse.Namespace) -> dict[int, Path]:
    """Filtered, labelled and listed replay trees, one for each seed's base model."""
    work = settings.work
    classes, nouns, kept = work / "class_words.txt", work / "nouns", work / "kept"
    run(f"-m utils.measure_noun generate_NN --captions {work / 'captions'} --out {nouns}", settings.threads)
    run(
        f"-m utils.measure_noun filter_replay_with_NN --nouns {nouns} --classes {classes} --out {kept}",
        settings.threads,
    )
    made = {}
    for seed in settings.seeds:
        tree = work / f"tree-{seed}"
        move = (
            f"-m utils.measure_noun move_with_filtered_caption --kept {kept} --images {work / 'downloads'} --out {tree}"
        )
        run(f"{move} --mode hardlink", settings.threads)
        run(
            f"generate_label.py --ckpt {base(settings, '4-2', seed)} --path {tree} --device cpu --num_workers 0",
            settings.threads,
        )
        run(f"generate_train_file.py --path {tree}", settings.threads)
        made[seed] = tree
    return made


def base(settings: argparse.Namespace, task: str, seed: int) -> Path:
    """The base step of a seed. That of 4-1 sees the same images and classes as that of 4-2, so it is the same under another name."""
    path: Path = settings.animals / f"checkpoints/step/voc-4-2-ov/base-{seed}_0.pth"
    if task == "4-2":
        return path
    from utils import checkpoint

    own: Path = settings.work / f"checkpoints/step/voc-{task}-ov/base-{seed}_0.pth"
    if not own.is_file():
        state = checkpoint.load(path)
        state["identity"]["task"] = state["options"]["task"] = task
        checkpoint.save(own, state)
    return own


def step_line(settings: argparse.Namespace, task: str, step: int, name: str, seed: int, tree: Path | None) -> str:
    """The line of one step, at the same number of iterations with and without replay."""
    folder = settings.work
    iterations = settings.iterations if task == "4-2" else settings.single
    previous = (
        base(settings, task, seed)
        if step == 1
        else folder / f"checkpoints/step/voc-{task}-ov/{name}-{seed}_{step - 1}.pth"
    )
    line = (
        f"run.py --name {name}-{seed} --random_seed {seed} --task {task} --step {step} {WEAK} {COMMON} "
        f"--iters_per_epoch {iterations} --web --web_path {settings.selected} --dataset_dir {settings.data} "
        f"--logdir {folder}/logs --checkpoints {folder}/checkpoints --step_ckpt {previous}"
    )
    return line if tree is None else f"{line} --replay --replay_path {tree} --replay_num 2"


def train(settings: argparse.Namespace, made: dict[int, Path]) -> None:
    """Run the lines that have no result yet; the steps of one model one after the other."""

    def chain(task: str, steps: int, name: str, seed: int) -> None:
        tree = made[seed] if name == "replay" else None
        for step in range(1, steps + 1):
            if last_row(settings.work, task, step, f"{name}-{seed}") is None:
                run(step_line(settings, task, step, name, seed, tree), settings.threads)

    with ThreadPoolExecutor(settings.jobs) as workers:
        jobs = [workers.submit(chain, "4-2", 1, "replay", seed) for seed in settings.seeds]
        jobs += [workers.submit(chain, "4-1", 2, name, seed) for seed in settings.seeds for name in ("web", "replay")]
        for job in jobs:
            job.result()


def found_table(found: dict[str, list[Picture]], wanted: dict[str, list[str]], kept: Path) -> list[str]:
    """How clean the search's result is, before and after the filter."""
    before = after = right_before = right_after = 0
    for original, pictures in found.items():
        path = kept / f"{original}.txt"
        names = set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()
        for number, picture in enumerate(pictures, 1):
            right = bool(picture.shows & set(wanted[original]))
            before, right_before = before + 1, right_before + right
            if f"{number:05}.jpg" in names:
                after, right_after = after + 1, right_after + right
    return [
        "| images | number | that show a class of their original |",
        "|---|---|---|",
        f"| found | {before} | {right_before / before:.3f} |",
        f"| kept by the caption filter | {after} | {right_after / max(after, 1):.3f} |",
    ]


def page(settings: argparse.Namespace, found: list[str]) -> str:
    """The results page."""
    bases = [groups(row) for seed in settings.seeds if (row := finished(settings.animals, "base", seed))]
    steps = {"4-2, web": _rows(settings.web_bench, "4-2", 1, "selected", settings.seeds)}
    for label, task, step in (("4-2", "4-2", 1), ("4-1 step 1", "4-1", 1), ("4-1 step 2", "4-1", 2)):
        for name, suffix in (("web", "web"), ("replay", "web and replay")):
            steps.setdefault(f"{label}, {suffix}", _rows(settings.work, task, step, name, settings.seeds))
    lines = [
        "# Caption-driven rehearsal: what is kept, and what single-class steps learn",
        "",
        f"Written by `benchmarks/replay.py`; seeds {', '.join(map(str, settings.seeds))}, mean ± standard deviation, "
        f"percent. Web images only; with and without replay {settings.iterations} iterations an epoch in 4-2, {settings.single} in 4-1. "
        "Old: cat, dog, horse, person; "
        "new: cow, sheep (as far as learned).",
        "",
        f"## The search of {ORIGINALS} originals, and its filter",
        "",
        *found,
        "",
        "## Scores",
        "",
        "| run | old mIoU | new mIoU | cow | sheep | all mIoU | harmonic |",
        "|---|---|---|---|---|---|---|",
        f"| base | {spread([b['old'] for b in bases], 100, 1)} | - | - | - | {spread([b['all'] for b in bases], 100, 1)} | - |",
    ]
    for name, runs in steps.items():
        cells = [spread([r[key] for r in runs if key in r], 100, 1) if any(key in r for r in runs) else "-"
                 for key in ("old", "new", "cow", "sheep", "all", "harmonic")]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *_expectations(steps), "", "Command lines (seed 0, step 1 of 4-1 with replay):", "", "```",
              "python " + step_line(settings, "4-1", 1, "replay", settings.seeds[0], settings.work / f"tree-{settings.seeds[0]}"),
              "```", ""]  # fmt: skip
    text = "\n".join(lines)
    for path, name in (
        (settings.work, "replay-bench"),
        (settings.animals, "animals"),
        (settings.web_bench, "web-bench"),
        (settings.data, "DIR"),
    ):
        text = text.replace(str(path), name)
    return text


def _rows(work: Path, task: str, step: int, name: str, seeds: list[int]) -> list[dict[str, float]]:
    """Scores of the runs that are there, with the IoU of each new class."""
    rows = [row for seed in seeds if (row := last_row(work, task, step, f"{name}-{seed}"))]
    return [groups(row) | {key: float(row[f"iou {key}"]) for key in NEW if row.get(f"iou {key}")} for row in rows]


def _expectations(steps: dict[str, list[dict[str, float]]]) -> list[str]:
    """What rehearsal should give, and what it gives here."""
    lines = ["| expected | measured | met |", "|---|---|---|"]

    def gain(pair: str, key: str) -> tuple[float, float]:
        without, with_ = ([run[key] for run in steps[name]] for name in (f"{pair}, web", f"{pair}, web and replay"))
        deviation = max(statistics.stdev(v) if len(v) > 1 else 0.0 for v in (without, with_))
        return statistics.fmean(with_) - statistics.fmean(without), deviation

    def line(text: str, pair: str, key: str, met: Callable[[float, float], bool]) -> str:
        difference, deviation = gain(pair, key)
        return f"| {text} | {100 * difference:+.1f} (spread {100 * deviation:.1f}) | {'yes' if met(difference, deviation) else 'no'} |"

    for pair in ("4-2", "4-1 step 2"):
        lines.append(line(f"{pair}: old mIoU rises by more than the spread", pair, "old", lambda d, s: d > s))
        lines.append(line(f"{pair}: new mIoU is not lower, beyond the spread", pair, "new", lambda d, s: d >= -s))
    for step, name in ((1, "cow"), (2, "sheep")):
        pair = f"4-1 step {step}"
        lines.append(line(f"{pair}: {name} is learned with replay, more than without", pair, name, lambda d, s: d > s))
    return lines


def main() -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    folders = {
        "data": "photographs",
        "web": "web images",
        "captioned": "photographs with captions.json",
        "animals": "work folder of benchmarks/animals.py",
        "web_bench": "work folder of benchmarks/web.py",
    }
    for name, text in folders.items():
        add(f"--{name}", type=Path, required=True, help=text)
    add("--selected", type=Path, help="manifest of new-class images [what benchmarks/web.py trains on as selected]")
    add("--work", type=Path, default=Path("replay-bench"), help="folder of all that is made")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--jobs", type=int, default=1, help="lines that run side by side")
    add("--iterations", type=int, default=25, help="iterations of an epoch of 4-2, as benchmarks/web.py had")
    add("--single", type=int, default=8, help="iterations of an epoch of 4-1, whose steps have one class")
    add("--prepare", action="store_true", help="make the replay trees and stop")
    add("--out", type=Path, default=ROOT / "benchmarks/results/replay.md")
    settings = parser.parse_args()
    for name in folders:
        path = getattr(settings, name).resolve()
        setattr(settings, name, path)
        if not path.is_dir():
            raise UserError(f"--{name} {path}: no such folder")
    settings.selected = settings.selected or settings.web_bench / "candidates/arm4.csv"
    if not settings.selected.is_file():
        raise UserError(f"--selected {settings.selected}: no such manifest; run benchmarks/web.py first")
    settings.work = settings.work.resolve()
    settings.threads = max(1, (os.cpu_count() or 1) // settings.jobs)

    found, wanted = search(settings)
    made = trees(settings)
    if settings.prepare:
        return 0
    train(settings, made)
    print(write_page(settings.out, page(settings, found_table(found, wanted, settings.work / "kept"))))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"replay.py: {error}", file=sys.stderr)
        sys.exit(2)
