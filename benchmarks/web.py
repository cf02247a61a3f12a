"""The web half of the method judged on truth: the discriminator's claim, the selection of noisy web images, training on them.

    python benchmarks/web.py --data DIR --web DIR --animals DIR [--seeds 0 1 2] [--jobs 2] [--work web-bench]

--data: the photographs of benchmarks/animals.py; --animals: its work folder, with the base steps and WILSON's results; --web: one folder
of web images a class (cat, cow, dog, horse, sheep). Candidates for cow and sheep are mixed with known noise: 30 % show another class,
20 % are drawings. Lines that are done are not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.animals import COMMON, LINES, finished, groups, last_row  # noqa: E402
from benchmarks.pages import write_page  # noqa: E402
from experiments.imitation.noise import DRAWN, WRONG, mix  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.manifest import FILE  # noqa: E402

BASE, NEW, KNOWN = ("cat", "dog", "horse"), ("cow", "sheep"), ("cat", "dog", "horse", "person", "cow", "sheep")
DISCRIMINATOR = (
    "--network tf_efficientnet_lite0 --pretrained imagenet --size 160 --epochs 8 --num_workers 0 --device cpu"
)
SOURCES = ("amplitude", "pixels")
STEP = LINES["WILSON"][1]


def candidates(settings: argparse.Namespace, threads: int) -> Path:
    """The mixed candidates with their truth and captions, the tags that an ImageNet classifier sees; a manifest."""
    folder = settings.work / "candidates"
    captioned: Path = folder / "captioned.csv"
    if not (folder / FILE).is_file():
        mix(settings.web, folder, NEW, BASE)
    run(f"generate_caption.py {folder / FILE} {captioned} --only_missing --device cpu", threads, captioned)
    return captioned


def run(line: str, threads: int, done: Path | None = None) -> None:
    """One command line of the project, unless what it makes is there already.

    Raises:
        subprocess.CalledProcessError: it ended with an error.
    """
    if done is not None and done.exists():
        return
    print(f"+ python {line}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    code = subprocess.run([sys.executable, *shlex.split(line)], cwd=ROOT, env=environment).returncode
    # 1 says that something was left out, and has said what.
    if code not in (0, 1):
        raise subprocess.CalledProcessError(code, line)


def discriminator_file(work: Path, source: str, seed: int) -> Path:
    """Where a discriminator of the benchmark is kept."""
    return work / f"{source}-{seed}.pth"


def train_line(settings: argparse.Namespace, source: str, seed: int) -> str:
    """The line that trains one discriminator."""
    base = settings.animals / f"checkpoints/step/voc-4-2-ov/base-{settings.seeds[0]}_0.pth"
    return (
        f"train_discriminator.py --step_ckpt {base} --web_path {settings.web} --out {discriminator_file(settings.work, source, seed)} "
        f"--dataset_dir {settings.data} --source {source} --random_seed {seed} {DISCRIMINATOR}"
    )


def transfer(settings: argparse.Namespace, source: str, seed: int) -> dict[str, float]:
    """Accuracy and area under the curve of a discriminator on held-out images of seen classes, and on classes never seen."""
    from dataset import make_source
    from utils import distributed
    from utils.manifest import open_manifest
    from web import discriminator as engine
    from web.examples import Example, web_examples

    cache = settings.work / f"{source}-{seed}.json"
    if cache.is_file():
        found: dict[str, float] = json.loads(cache.read_text(encoding="utf-8"))
        return found
    runtime = distributed.start("cpu")
    saved = engine.load(discriminator_file(settings.work, source, seed), runtime)
    negatives, _ = web_examples(open_manifest(settings.web), NEW)
    positives = []
    for split in ("train", "val"):
        data = make_source("voc", settings.data, split)
        names = data.class_names
        labels = data.image_labels()
        base = [i - 1 for i, name in names.items() if name in (*BASE, "person")]
        new = [i - 1 for i, name in names.items() if name in NEW]
        # What step 0 was trained on holds a base class: these images hold none.
        chosen = np.flatnonzero(labels[:, new].any(axis=1) & ~labels[:, base].any(axis=1))
        positives += [Example(data.image_path(int(i)), "cow or sheep", True) for i in chosen]
    examples = [*positives, *negatives]
    scores = engine.quality(engine.probabilities(saved.discriminator, examples, runtime, 0), examples)
    result = {
        "seen accuracy": saved.scores.accuracy,
        "seen AUC": saved.scores.auc,
        "seen calibration error": saved.scores.calibration_error,
        "unseen accuracy": scores.accuracy,
        "unseen AUC": scores.auc,
        "unseen calibration error": scores.calibration_error,
    }
    cache.write_text(json.dumps(result), encoding="utf-8")
    return result


def arms(settings: argparse.Namespace, manifest: Path) -> dict[str, str | None]:
    """Name of each selection -> its options; None for no selection at all."""
    disc = f"--discriminator {discriminator_file(settings.work, 'amplitude', settings.discriminator_seeds[0])}"
    pixels = f"--discriminator {discriminator_file(settings.work, 'pixels', settings.discriminator_seeds[0])}"
    words = f"--web_labels caption --classes {' '.join(KNOWN)}"
    keep, ratio = f"--keep {settings.keep}", f"--ratio {settings.ratio}"
    return {
        "no filter": None,
        "discriminator, ratio > 1": disc,
        f"discriminator, ratio > {settings.ratio}": f"{disc} {ratio}",
        f"discriminator, best {settings.keep}": f"{disc} {keep}",
        "captions": words,
        "captions and discriminator, ratio > 1": f"{words} {disc}",
        f"captions and discriminator, ratio > {settings.ratio}": f"{words} {disc} {ratio}",
        f"captions and pixel discriminator, ratio > {settings.ratio}": f"{words} {pixels} {ratio}",
    }


def judge(path: Path) -> tuple[float, float, float]:
    """Precision, recall and kept share of a selection; an image is right that shows its class and is no drawing."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = np.array([row.get("kept", "1") == "1" for row in rows])
    right = np.array([row["true_class"] == row["class"] and row["domain"] == "photo" for row in rows])
    precision = float((kept & right).sum() / kept.sum()) if kept.any() else float("nan")
    return precision, float((kept & right).sum() / right.sum()), float(kept.mean())


def ratio_table(path: Path) -> list[str]:
    """How alike to the training data the discriminator finds what is right, what is wrong and what is drawn."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["ratio"]]
    ratios = np.log10([float(row["ratio"]) for row in rows])
    drawn = np.array([row["domain"] == "drawing" for row in rows])
    right = np.array([row["true_class"] == row["class"] for row in rows]) & ~drawn
    lines = ["| log10(p_ds / p_web) of | quarter below | median | quarter above |", "|---|---|---|---|"]
    for name, chosen in (("right photographs", right), ("other photographs", ~right & ~drawn), ("drawings", drawn)):
        lines.append(
            f"| {name} | " + " | ".join(f"{q:.2f}" for q in np.quantile(ratios[chosen], (0.25, 0.5, 0.75))) + " |"
        )
    return lines


def step_line(settings: argparse.Namespace, name: str, manifest: Path, seed: int) -> str:
    """The line that trains step 1 on web images, at as many iterations as WILSON on the data set's images."""
    return (
        f"run.py --name {name}-{seed} --random_seed {seed} {STEP} {COMMON} --iters_per_epoch {settings.iterations} --web "
        f"--web_path {manifest} --dataset_dir {settings.data} --logdir {settings.work}/logs --checkpoints {settings.work}/checkpoints "
        f"--step_ckpt {settings.animals}/checkpoints/step/voc-4-2-ov/base-{seed}_0.pth"
    )


def result_of(work: Path, name: str, seed: int) -> dict[str, float] | None:
    """The test scores that a line left behind."""
    row = last_row(work, "4-2", 1, f"{name}-{seed}")
    return groups(row) if row else None


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 3) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.fmean(values):.{digits}f} ± {scale * deviation:.{digits}f}"


def main() -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    for name, text in (
        ("data", "photographs"),
        ("web", "web images"),
        ("animals", "work folder of benchmarks/animals.py"),
    ):
        add(f"--{name}", type=Path, required=True, help=text)
    add("--work", type=Path, default=Path("web-bench"), help="folder of all that is made")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--discriminator_seeds", type=int, nargs="+", default=[0, 1], help="the first one selects")
    add("--jobs", type=int, default=1, help="lines that run side by side")
    add("--ratio", type=float, default=0.01, help="a gentler threshold than the paper's")
    add("--keep", type=int, default=150, help="best so many of each class")
    add("--iterations", type=int, default=25, help="iterations of an epoch of step 1")
    add("--train_on", default="", help="selection to train on [captions and discriminator at --ratio]")
    add("--out", type=Path, default=ROOT / "benchmarks/results/web.md")
    settings = parser.parse_args()
    for name in ("data", "web", "animals"):
        path = getattr(settings, name).resolve()
        setattr(settings, name, path)
        if not path.is_dir():
            raise UserError(f"--{name} {path}: no such folder")
    settings.work = settings.work.resolve()
    settings.work.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // settings.jobs)

    manifest = candidates(settings, threads)
    with ThreadPoolExecutor(settings.jobs) as pool:
        jobs = [
            pool.submit(run, train_line(settings, s, seed), threads, discriminator_file(settings.work, s, seed))
            for seed in settings.discriminator_seeds
            for s in SOURCES
        ]
        for job in jobs:
            job.result()
    moved = {s: [transfer(settings, s, seed) for seed in settings.discriminator_seeds] for s in SOURCES}
    selections = arms(settings, manifest)
    files = {}
    for number, (name, options) in enumerate(selections.items()):
        files[name] = manifest if options is None else manifest.parent / f"arm{number}.csv"
        if options is not None:
            run(
                f"select_web.py --web_path {manifest} --out {files[name]} --num_workers 0 --device cpu {options}",
                threads,
                files[name],
            )
    best = settings.train_on or f"captions and discriminator, ratio > {settings.ratio}"
    trained = {"raw": manifest, "selected": files[best]}
    with ThreadPoolExecutor(settings.jobs) as pool:
        jobs = [
            pool.submit(run, step_line(settings, name, path, seed), threads)
            for seed in settings.seeds
            for name, path in trained.items()
            if result_of(settings.work, name, seed) is None
        ]
        for job in jobs:
            job.result()
    print(write_page(settings.out, page(settings, moved, files, selections, best)))
    return 0


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def page(
    settings: argparse.Namespace,
    moved: dict[str, list[dict[str, float]]],
    files: dict[str, Path],
    selections: dict[str, str | None],
    best: str,
) -> str:
    """The results page."""
    lines = [
        "# Web images: the discriminator, the selection, and training on what it chose",
        "",
        f"Written by `benchmarks/web.py`; mean ± standard deviation over seeds {_listed(settings.discriminator_seeds)} "
        f"(discriminators) and {_listed(settings.seeds)} (training).",
        "",
        "## Does the amplitude spectrum transfer to classes never seen?",
        "",
        "Trained on photographs of step 0 against web images of cat, dog and horse; the same network on pixels beside it. Unseen: "
        "photographs with cow or sheep and no base class against web images of cow and sheep.",
        "",
    ]
    keys = list(next(iter(moved.values()))[0])
    lines += ["| input | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for source, runs in moved.items():
        lines.append(f"| {source} | " + " | ".join(spread([r[key] for r in runs]) for key in keys) + " |")
    lost = {s: statistics.fmean(r["seen AUC"] - r["unseen AUC"] for r in runs) for s, runs in moved.items()}
    lines += [
        "",
        f"From seen to unseen classes the area under the curve falls by {lost['amplitude']:.3f} on amplitude spectra and by "
        f"{lost['pixels']:.3f} on pixels (negative: it rises).",
        "",
        "## Selection from noisy candidates",
        "",
        f"Candidates for cow and sheep: {1 - WRONG - DRAWN:.0%} right, {WRONG:.0%} of another class, {DRAWN:.0%} drawings. Right is an "
        "image that shows its class and is no drawing. Captions are an ImageNet classifier's tags (`captions/captioners/tags.py`).",
        "",
        "| selection | precision | recall | kept |",
        "|---|---|---|---|",
    ]
    for name, path in files.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in judge(path)) + " |")
    lines += ["", *ratio_table(files["discriminator, ratio > 1"])]
    lines += [
        "",
        f"## Step 1 of 4-2 on web images alone ({best}; {settings.iterations} iterations an epoch in every line)",
        "",
        "| trained on | old mIoU | new mIoU | all mIoU | harmonic |",
        "|---|---|---|---|---|",
    ]
    for label, name in (("web images as they came", "raw"), ("web images selected", "selected")):
        runs = [r for seed in settings.seeds if (r := result_of(settings.work, name, seed))]
        lines.append(f"| {label} | " + " | ".join(spread([r[k] for r in runs], 100, 1) for k in runs[0]) + " |")
    rows = [row for seed in settings.seeds if (row := finished(settings.animals, "WILSON", seed))]
    if rows:
        wilson = [groups(row) for row in rows]
        cells = " | ".join(spread([r[k] for r in wilson], 100, 1) for k in wilson[0])
        lines.append(f"| photographs of the data set (WILSON) | {cells} |")
    first = settings.seeds[0]
    shown = [train_line(settings, "amplitude", settings.discriminator_seeds[0])]
    shown += [
        f"select_web.py --web_path {files['no filter']} --out {files[name]} --num_workers 0 --device cpu {options}"
        for name, options in selections.items()
        if options is not None
    ]
    shown += [
        step_line(settings, name, path, first)
        for name, path in (("raw", files["no filter"]), ("selected", files[best]))
    ]
    text = "\n".join(f"python {line}" for line in shown)
    for path, word in (
        (settings.work, "WORK"),
        (settings.data, "DIR"),
        (settings.web, "WEB"),
        (settings.animals, "ANIMALS"),
    ):
        text = text.replace(str(path), word)
    return "\n".join([*lines, "", "Command lines (first seed):", "", "```", text, "```", ""])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"web.py: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
