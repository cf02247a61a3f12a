"""Real photographs in minutes on a CPU: base step, fine-tuning, MiB, WILSON and joint training on the "animals" protocol.

    python benchmarks/animals.py --data DIR [--seeds 0 1 2] [--jobs 2] [--work animals] [--out benchmarks/results/animals.md]

DIR holds PASCAL VOC images of animals in VOC layout (JPEGImages, SegmentationClassAug, splits). Task 4-2 of data set voc: cat,
dog, horse and person first, then cow and sheep. Every line of run.py goes on where it was stopped; what is done is not run again.
With --jobs N, N lines run side by side and share the cores: on a small machine that is faster than one line on all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pages import write_page  # noqa: E402
from results.rows import read_table  # noqa: E402
from utils.errors import UserError  # noqa: E402

COMMON = (
    "--dataset voc --overlap --backbone timm:tf_efficientnet_lite0 --crop_size 160 --crop_size_val 160 --batch_size 16 "
    "--num_workers 0 --device cpu --sample_num 0 --resume auto --ckpt_interval 2 --val_interval 1000"
)
BASE_EPOCHS, STEP_EPOCHS = 6, 8
# Label of the table -> name of the run, and its options.
LINES = {
    "base": ("base", f"--task 4-2 --step 0 --bce --lr 0.02 --epochs {BASE_EPOCHS}"),
    "fine-tuning": ("ft", f"--task 4-2 --step 1 --bce --lr 0.002 --epochs {STEP_EPOCHS}"),
    "MiB": (
        "mib",
        f"--task 4-2 --step 1 --unce --unkd --loss_kd 10 --alpha 1 --init_balanced --lr 0.002 --epochs {STEP_EPOCHS}",
    ),
    "WILSON": (
        "wilson",
        "--task 4-2 --step 1 --weakly --affinity --alpha 0.5 --loss_de 1 --lr_policy warmup --pseudo_ep 3 --lr 0.001 --lr_head 2 "
        f"--init_balanced --freeze_norm --epochs {STEP_EPOCHS}",
    ),
    "joint": ("joint", f"--task animals-offline --step 0 --bce --lr 0.02 --epochs {BASE_EPOCHS}"),
}
OLD, NEW = ("cat", "dog", "horse", "person"), ("cow", "sheep")


def command(label: str, seed: int, data: str, work: Path) -> list[str]:
    """The run.py line of one cell of the table."""
    name, options = LINES[label]
    line = f"run.py --name {name}-{seed} --random_seed {seed} {options} {COMMON} --dataset_dir {shlex.quote(data)}"
    line += f" --logdir {work}/logs --checkpoints {work}/checkpoints"
    if "--step 1" in options:
        line += f" --step_ckpt {work}/checkpoints/step/voc-4-2-ov/base-{seed}_0.pth"
    return shlex.split(line)


def finished(work: Path, label: str, seed: int) -> dict[str, str] | None:
    """The row that a run left in the results table; None where it has not run to its end."""
    name, options = LINES[label]
    task, step = options.split()[1:4:2]
    return last_row(work, task, int(step), f"{name}-{seed}")


def last_row(work: Path, task: str, step: int, name: str) -> dict[str, str] | None:
    """The last test of a run in the results table of a work folder; None where there is none."""
    path = work / "logs" / "results" / f"voc-{task}.csv"
    rows = read_table(path)[1] if path.is_file() else []
    return next((row for row in reversed(rows) if row["name"] == name and int(row["step"]) == step), None)


def groups(row: dict[str, str]) -> dict[str, float]:
    """Old, new and all-class mIoU and their harmonic mean, from the class IoUs (so that joint training has them too)."""

    def mean(names: tuple[str, ...]) -> float:
        values = [float(row[f"iou {name}"]) for name in names if row.get(f"iou {name}")]
        return statistics.fmean(values) if values else 0.0

    old, new = mean(OLD), mean(NEW)
    harmonic = 2 * old * new / (old + new) if old + new else 0.0
    return {"old": old, "new": new, "all": float(row["mean_iou"]), "harmonic": harmonic}


def run_missing(labels: Sequence[str], seeds: Sequence[int], jobs: int, data: str, work: Path) -> None:
    """Run the lines that have no result yet, ``jobs`` at a time; a line of step 1 waits for the base of its seed.

    Raises:
        subprocess.CalledProcessError: a line ended with an error (its own message is on the terminal).
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    bases: dict[int, Future[None]] = {}

    def run(label: str, seed: int) -> None:
        if "--step 1" in LINES[label][1] and seed in bases:
            bases[seed].result()
        if finished(work, label, seed) is None:
            line = command(label, seed, data, work)
            print("+ python", shlex.join(line), flush=True)
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            subprocess.run([sys.executable, *line], cwd=ROOT, check=True, env=environment)

    with ThreadPoolExecutor(jobs) as pool:
        futures = []
        # Bases are first in the queue, so that no line that waits for one can hold the thread it needs.
        for label in sorted(labels, key=lambda label: label != "base"):
            for seed in seeds:
                future = pool.submit(run, label, seed)
                futures.append(future)
                if label == "base":
                    bases[seed] = future
        for future in futures:
            future.result()


def table(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """Markdown rows: mean and spread (standard deviation) over the seeds, in percent."""
    lines = ["| run | old mIoU | new mIoU | all mIoU | harmonic |", "|---|---|---|---|---|"]
    for label, runs in results.items():
        cells = []
        for key in ("old", "new", "all", "harmonic"):
            values = [100 * run[key] for run in runs]
            if label == "base" and key in ("new", "harmonic"):
                cells.append("-")
                continue
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):.1f} ± {spread:.1f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def expectations(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """What a right implementation should show, and what this one shows."""

    def mean(label: str, key: str) -> float:
        return statistics.fmean(run[key] for run in results[label])

    checks = [
        ("base all-class mIoU", mean("base", "all"), 0.55, "above"),
        ("fine-tuning: old mIoU kept, share of base", mean("fine-tuning", "old") / mean("base", "old"), 0.5, "below"),
        ("WILSON: old mIoU kept, share of base", mean("WILSON", "old") / mean("base", "old"), 0.85, "above"),
        ("WILSON: new mIoU, share of MiB's", mean("WILSON", "new") / mean("MiB", "new"), 0.5, "above"),
    ]
    lines = ["| expected | measured | bound | met |", "|---|---|---|---|"]
    for name, value, bound, side in checks:
        met = value > bound if side == "above" else value < bound
        lines.append(f"| {name} | {value:.3f} | {side} {bound} | {'yes' if met else 'no'} |")
    return lines


def page(results: dict[str, list[dict[str, float]]], seeds: list[int]) -> str:
    """The results page."""
    import torch

    lines = [
        "# Animals: real photographs, task 4-2, overlap",
        "",
        f"Written by `benchmarks/animals.py`; seeds {', '.join(map(str, seeds))}, mean ± standard deviation, percent. Machine: "
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__.partition('+')[0]}.",
        "Tested on the validation photographs, crop 160; pixels of classes not in the task are left out.",
        "",
        *table(results),
        "",
        *expectations(results),
        "",
        "Command lines (seed 0; DIR is the folder of photographs):",
        "",
        "```",
        *(f"# {label}\n" + shlex.join(["python", *command(label, 0, "DIR", Path("animals"))]) for label in LINES),
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the photographs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="lines that run side by side")
    parser.add_argument("--work", type=Path, default=Path("animals"), help="folder of checkpoints and logs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/animals.md")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(LINES), default=tuple(LINES), help="run these lines only, write no page"
    )
    arguments = parser.parse_args()
    if not Path(arguments.data).is_dir():
        raise UserError(f"--data {arguments.data}: no such folder")
    data, work = str(Path(arguments.data).resolve()), arguments.work.resolve()
    run_missing(arguments.only, arguments.seeds, arguments.jobs, data, work)
    if set(arguments.only) != set(LINES):
        return 0
    results: dict[str, list[dict[str, float]]] = {}
    for label in LINES:
        rows = [finished(work, label, seed) for seed in arguments.seeds]
        results[label] = [groups(row) for row in rows if row is not None]
    print(write_page(arguments.out, page(results, arguments.seeds)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"animals.py: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
