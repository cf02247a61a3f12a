"""How time and memory of each script grow with the number of images: 10^3, 10^4, 10^5 rows.

    python -m benchmarks.scale --work DIR [--jobs NAME ...] [--rows 1000 10000 100000] [--seconds 600]

Images are 64 pixels a side and the networks the smallest there are, so that what is left is the scripts' own work. Each measurement
is a command in a process of its own: its seconds, start included, and the largest resident memory of any of its processes. What is
measured is noted in DIR/measured.jsonl and not measured again; what is prepared (images, trees, manifests) is kept in DIR. A job
whose next size would take longer than --seconds, by what its last one took, is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pages import ROOT, finish, make_parser, write_page
from results.table import markdown_table
from utils.errors import UserError

SIZES = (1000, 10_000, 100_000)
CLASSES = ("circle", "square", "triangle", "star", "ring")
NEW = ("cross", "crescent", "heart")
# Images that the others are links to; a collection needs all of them different.
DISTINCT = 64
SIDE = 64
# Downloads of one original, as in the published lists.
PER_LIST = 17
NETWORK = "timm:resnet10t"


@dataclass(frozen=True)
class Measured:
    """One command: what it took."""

    job: str
    rows: int
    seconds: float
    mib: float


@dataclass(frozen=True)
class Place:
    """Where everything is prepared."""

    root: Path

    def fresh(self, name: str) -> Path:
        """A folder to write into, empty."""
        path = self.root / "out" / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """``name`` in the folder, made where it is not there yet; half of it never stands under its name."""
        path = self.root / name
        if not path.exists():
            half = path.with_name(f"half-{path.name}")
            if half.is_dir():
                shutil.rmtree(half)
            half.parent.mkdir(parents=True, exist_ok=True)
            make(half)
            half.rename(path)
        return path


# ---- what is prepared -------------------------------------------------------------------------------------------------


def _noise(path: Path, seed: int) -> None:
    """A photograph's worth of bytes: blocks of colour, no two alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=85)


def _few(folder: Path) -> None:
    folder.mkdir()
    for i in range(DISTINCT):
        _noise(folder / f"{i}.jpg", i)


def links(place: Place, rows: int) -> Path:
    """Folders of 1,000 images each; all are links to few."""
    few = place.once("few", _few)

    def make(folder: Path) -> None:
        for i in range(rows):
            name = folder / f"{i // 1000:05d}" / f"{i:07d}.jpg"
            if i % 1000 == 0:
                name.parent.mkdir(parents=True)
            os.link(few / f"{i % DISTINCT}.jpg", name)

    return place.once(f"links-{rows}", make)


def manifest(place: Place, rows: int, classes: Sequence[str] = NEW) -> Path:
    """A manifest of ``links``, with captions that name the class."""
    images = links(place, rows)

    def make(path: Path) -> None:
        with path.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "class", "url", "caption"])
            for i in range(rows):
                name, word = images / f"{i // 1000:05d}" / f"{i:07d}.jpg", classes[i % len(classes)]
                writer.writerow([name, word, f"https://example.org/{i}.jpg", f"a {word} on a table, number {i}"])

    return place.once(f"manifest-{classes[0]}-{rows}.csv", make)


def tree(place: Place, rows: int) -> Path:
    """A replay tree, 17 images an original."""
    few = place.once("few", _few)

    def make(folder: Path) -> None:
        for i in range(rows):
            name = folder / f"{i // PER_LIST:07d}" / "image" / f"{i % PER_LIST:05d}.jpg"
            if i % PER_LIST == 0:
                name.parent.mkdir(parents=True)
            os.link(few / f"{i % DISTINCT}.jpg", name)

    return place.once(f"tree-{rows}", make)


def different(place: Place, rows: int) -> Path:
    """A folder of one class, every image another."""

    def make(folder: Path) -> None:
        (folder / "circle").mkdir(parents=True)
        for i in range(rows):
            _noise(folder / "circle" / f"{i:07d}.jpg", i)

    return place.once(f"different-{rows}", make)


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{arguments[0]}: failed while it prepared: {done.stderr.strip().splitlines()[-1]}")


def training(place: Place) -> list[str]:
    """The options that all runs share."""
    data = ["--dataset", "shapes", "--task", "5-3", "--overlap", "--dataset_dir", str(place.root / "shapes")]
    how = ["--backbone", NETWORK, "--crop_size", str(SIDE), "--crop_size_val", str(SIDE), "--batch_size", "4"]
    how += ["--epochs", "1", "--iters_per_epoch", "1", "--sample_num", "0", "--num_workers", "0", "--device", "cpu"]
    where = ["--checkpoints", str(place.root / "checkpoints"), "--logdir", str(place.root / "logs")]
    return ["run.py", "--name", "scale", *data, *how, *where]


def base(place: Place) -> Path:
    """A step-0 checkpoint of the smallest network after one iteration."""
    path = place.root / "checkpoints/step/shapes-5-3-ov/scale_0.pth"
    if not path.is_file():
        from dataset import shapes

        for split in ("train", "val"):
            shapes.make(place.root / "shapes", split, size=SIDE, train=48, val=12)
        _run([*training(place), "--step", "0", "--bce", "--no_pretrained"])
    return path


# ---- what is measured -------------------------------------------------------------------------------------------------


def collect_web(place: Place, rows: int) -> list[str]:
    source = f"folder:{different(place, rows)}"
    return ["collect_web.py", "--classes", "circle", "--source", source, "--per_class", str(rows),
            "--out", str(place.fresh("collected"))]  # fmt: skip


def generate_caption(place: Place, rows: int) -> list[str]:
    given = manifest(place, rows)
    return [
        "generate_caption.py",
        str(given),
        str(place.fresh("captioned") / "manifest.csv"),
        "--captioner",
        "file",
        "--captions",
        str(given),
    ]


def measure_noun(place: Place, rows: int) -> list[str]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        words = [f"{i // PER_LIST:07d}.png {CLASSES[i // PER_LIST % 5]} " for i in range(0, rows, PER_LIST)]
        (folder / "classes.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        (folder / "nouns").mkdir()
        for start in range(0, rows, PER_LIST):
            lines = [f"{i:05d}.jpg table {CLASSES[i % 5]} day \n" for i in range(min(PER_LIST, rows - start))]
            (folder / "nouns" / f"{start // PER_LIST:07d}.txt").write_text("".join(lines), encoding="utf-8")

    lists = place.once(f"nouns-{rows}", make)
    return ["-m", "utils.measure_noun", "filter_replay_with_NN", "--nouns", str(lists / "nouns"),
            "--classes", str(lists / "classes.txt"), "--out", str(place.fresh("kept"))]  # fmt: skip


def generate_label(place: Place, rows: int) -> list[str]:
    checkpoint, images = base(place), tree(place, rows)
    # What an earlier measurement labelled would not be labelled again.
    for labels in images.glob("*/pseudolabel"):
        shutil.rmtree(labels)
    return [
        "generate_label.py",
        "--ckpt",
        str(checkpoint),
        "--path",
        str(images),
        "--num_workers",
        "0",
        "--device",
        "cpu",
    ]


def generate_train_file(place: Place, rows: int) -> list[str]:
    images = tree(place, rows)
    if not next(images.glob("*/pseudolabel/*.png"), None):
        _run(generate_label(place, rows))
    return ["generate_train_file.py", "--path", str(images)]


def select_web(place: Place, rows: int) -> list[str]:
    return ["select_web.py", "--web_path", str(manifest(place, rows)), "--out", str(place.fresh("selected") / "manifest.csv"),
            "--web_labels", "caption", "--classes", *NEW, "--num_workers", "0", "--device", "cpu"]  # fmt: skip


def train_discriminator(place: Place, rows: int) -> list[str]:
    return ["train_discriminator.py", "--step_ckpt", str(base(place)), "--web_path", str(manifest(place, rows, CLASSES)), "--epochs", "1",
            "--network", "resnet10t", "--size", "32", "--num_workers", "0", "--device", "cpu",
            "--out", str(place.fresh("discriminator.pth"))]  # fmt: skip


def run_start(place: Place, rows: int) -> list[str]:
    base(place)
    (place.root / "checkpoints/step/shapes-5-3-ov/scale_1.pth").unlink(missing_ok=True)
    return [*training(place), "--step", "1", "--weakly", "--web", "--web_path", str(manifest(place, rows))]


def predict(place: Place, rows: int) -> list[str]:
    return ["predict.py", str(links(place, rows)), "--model", str(base(place)), "--out", str(place.fresh("predicted")),
            "--device", "cpu"]  # fmt: skip


# Command of each job; what it says of itself in the table.
JOBS: dict[str, tuple[Callable[[Place, int], list[str]], str]] = {
    "collect_web.py": (collect_web, "from a folder, every image another"),
    "generate_caption.py": (generate_caption, "a manifest, captions from a file"),
    "utils.measure_noun": (measure_noun, f"the filter, lists of {PER_LIST}"),
    "generate_label.py": (generate_label, f"a tree, {PER_LIST} images an original; network {NETWORK}"),
    "generate_train_file.py": (generate_train_file, "the same tree"),
    "select_web.py": (select_web, "by captions alone, which looks at no image and writes no contact sheet"),
    "train_discriminator.py": (train_discriminator, "one epoch of images of 32 pixels"),
    "run.py": (
        run_start,
        "start of a weak step on web images, at most 500 of each of 3 classes; one iteration, the test of 12 images",
    ),
    "predict.py": (predict, f"masks; network {NETWORK}"),
}


def measure(job: str, rows: int, place: Place) -> Measured:
    """Prepare, then run and measure.

    Raises:
        UserError: the command failed; says its last line.
    """
    command = JOBS[job][0](place, rows)
    log = place.root / f"{job}-{rows}.log"
    with log.open("w") as file:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file)
        # Of the process and all that it waited for.
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        raise UserError(f"{job} with {rows} rows: exit code {process.returncode}: {last}")
    return Measured(job, rows, seconds, used.ru_maxrss / 1024)


def read(path: Path) -> list[Measured]:
    """What was measured before."""
    if not path.is_file():
        return []
    return [Measured(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def too_long(job: str, rows: int, done: Iterable[Measured], seconds: float) -> bool:
    """Whether a job of ``rows`` would take longer than ``seconds``, growing in proportion from its largest measurement."""
    of_job = max((one for one in done if one.job == job), key=lambda one: one.rows, default=None)
    return of_job is not None and of_job.seconds * rows / of_job.rows > seconds


def table(measured: Sequence[Measured], sizes: Sequence[int]) -> str:
    """One line a job: seconds and MiB at each size, then what a further image costs between the two largest."""
    rows = []
    for job, (_, what) in JOBS.items():
        found = {one.rows: one for one in measured if one.job == job}
        cells = [f"{found[n].seconds:.1f} s, {found[n].mib:.0f} MiB" if n in found else "-" for n in sizes]
        last = sorted(found)[-2:]
        grown = ["-", "-", "-"]
        if len(last) == 2:
            small, large = found[last[0]], found[last[1]]
            more = large.rows - small.rows
            power = math.log(large.seconds / small.seconds, large.rows / small.rows)
            grown = [
                _grown(1000 * (large.seconds - small.seconds) / more),
                _grown((large.mib - small.mib) * 1024 / more),
            ]
            grown.append(f"{power:.2f}")
        rows.append([f"`{job}`", what, *cells, *grown])
    head = ["script", "what it does", *(f"{n:,} images" for n in sizes), "ms / image", "KiB / image", "exponent"]
    return "\n".join(markdown_table(head, rows))


def _grown(value: float) -> str:
    """Two digits; 0 where less was measured at the larger size, which is noise."""
    return f"{max(value, 0):.2g}"


def page(measured: Sequence[Measured], sizes: Sequence[int]) -> str:
    return f"""# Growth with the number of images

`OMP_NUM_THREADS=1 python -m benchmarks.scale --work DIR`, images of {SIDE} pixels. Seconds from start to end, start of
Python and torch included, and the peak of resident memory. **ms / image** and **KiB / image**: what a further image costs between
the two largest sizes. **exponent**: of the time between these sizes; 1 is in proportion, less where the start counts.

{table(measured, sizes)}
"""


def main() -> int:
    parser = make_parser("scale", __doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is prepared and measured")
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="NAME", help=f"[all: {', '.join(JOBS)}]"
    )
    parser.add_argument("--rows", nargs="+", type=int, default=list(SIZES), help="sizes [%(default)s]")
    parser.add_argument("--seconds", type=float, default=600, help="longest measurement [%(default)s]")
    parser.add_argument(
        "--prepare", action="store_true", help="prepare alone; measure later, on a machine that is quiet"
    )
    return _measure_all(parser.parse_args())


def _measure_all(given: argparse.Namespace) -> int:
    place, notes = Place(given.work.resolve()), given.work / "measured.jsonl"
    place.root.mkdir(parents=True, exist_ok=True)
    measured = read(notes)
    for rows in sorted(given.rows):
        for job in given.jobs:
            if any(one.job == job and one.rows == rows for one in measured):
                continue
            if too_long(job, rows, measured, given.seconds):
                print(f"{job}, {rows} rows: left out, it would take longer than {given.seconds:.0f} s")
                continue
            if given.prepare:
                JOBS[job][0](place, rows)
                continue
            measured.append(measure(job, rows, place))
            with notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(measured[-1])) + "\n")
            print(f"{job}, {rows} rows: {measured[-1].seconds:.1f} s, {measured[-1].mib:.0f} MiB", flush=True)
    sizes = sorted({one.rows for one in measured})
    if sizes:
        print(write_page(given.out, page(measured, sizes)))
    return 0


if __name__ == "__main__":
    finish("scale", main)
