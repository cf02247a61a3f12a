"""One page of a whole experiment, which opens offline: table, curves, classes, confusions, predictions, web images, captions, options.

    python -m experiments.report --work work/animals-4-2 [--arms raw-web best] [--out report.html]

All of it comes from what the experiment left in its work folder; what is not there is said in a sentence.
"""

from __future__ import annotations

import argparse
import base64
import io
import math
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from experiments.history import History, RunFiles, read_history
from utils.errors import UserError, one_line
from utils.whole import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
ROOT = Path(__file__).resolve().parent.parent
# Arms that a grid of predictions shows, where they are there, in this order.
SHOWN_ARMS = ("base", "fine-tuning", "WILSON", "raw-web", "ours", "best", "joint")
# Pictures of each class in the grid of predictions; and share of an image that a class covers there at least.
PER_CLASS, VISIBLE = 2, 0.05
# Web images of a class and a reason, originals, and what was found for one of them.
WEB_SHOWN, ORIGINALS, FOUND = 6, 4, 6
THUMB = 176
# Validation scores whose curves are drawn.
SCORES = ("val/old_iou", "val/new_iou", "val/all_iou")
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")
STYLE = """
.heat td { text-align: right; color: #10151b; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
.curves img, .matrix img { width: 100%; height: auto; background: #fff; border-radius: .35rem; display: block; }
.matrix { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.answer { font-size: 1.15rem; }
section h3 { font-size: .95rem; margin: 1rem 0 .5rem; }
.command { font: .75rem ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .875rem; }
a { color: var(--bar); }
.changed { font-weight: 600; }
.grid + .soft { margin-top: 1rem; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
"""


class Report:
    """Builds the page's sections, each a heading and HTML.

    Args:
        history: what ended in the work folder.
        arms: arms to show, in this order; all that were tested where none is given.
        baseline: arm that differences are taken to.

    Raises:
        UserError: no run was tested, or an arm was not.
    """

    def __init__(self, history: History, arms: Sequence[str], baseline: str | None) -> None:
        from utils.summary import make_tables, read_runs

        self.history = history
        folders = dict.fromkeys(Path(run.options["logdir"]) for run in history.runs)
        tables = make_tables(read_runs(folders), arms)
        last = max(history.runs, key=lambda run: run.step)
        self.tables = [table for table in tables if table.experiment == last.results]
        # Joint training stands in the tables of the steps; its own is left out.
        self.last = self.tables[-1]
        self.arms = [*self.last.arms]
        self.baseline = baseline if baseline in self.last.arms else None
        self.task_runs = [run for run in history.runs if run.experiment == last.experiment]

    def _runs(self, arm: str) -> list[RunFiles]:
        """The runs of an arm at the last step it has."""
        found = list(self.history.of(arm))
        highest = max((run.step for run in found), default=0)
        return [run for run in found if run.step == highest]

    # ---- the answer, and the numbers ----------------------------------------------------------------------------------

    def answer(self) -> str:
        """The arm with the highest harmonic mean that learned step by step, against the baseline."""
        from utils.summary import difference

        scores = {arm: self.last.spread(arm, "harmonic")[0] for arm in self.arms if arm not in ("base", "joint")}
        known = {arm: value for arm, value in scores.items() if not math.isnan(value)}
        if not known:
            return "No arm has been tested on old and new classes."
        best = max(known, key=lambda arm: known[arm])
        parts = []
        for score in ("harmonic", "all", "old", "new"):
            text = f"{score} {100 * self.last.spread(best, score)[0]:.1f}"
            if self.baseline is not None and self.baseline != best:
                found = difference(self.last, best, self.baseline, score)
                interval = (
                    ""
                    if math.isnan(found.low)
                    else f", 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
                )
                text += f" ({100 * found.mean:+.1f} against {self.baseline}{interval})"
            parts.append(text)
        return (
            f"Highest harmonic mean of old and new classes: {best}, at step {self.last.step}. mIoU in percent: "
            + "; ".join(parts)
            + "."
        )

    def scores(self) -> str:
        """The tables of ``utils.table``, one a step, the last first."""
        from utils.table import difference_grid, score_grid

        parts = []
        for table in reversed(self.tables):
            grids = [score_grid(table)]
            if self.baseline in table.arms and len(table.arms) > 1:
                grids.append(difference_grid(table, str(self.baseline)))
            for grid in grids:
                body = _table(grid.headings, grid.rows)
                notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in grid.notes)
                parts.append(f"<h3>{escape(grid.title)}</h3>{body}{notes}")
        return "".join(parts)

    def classes(self) -> str:
        """Mean IoU of each class and arm over the seeds, shaded."""
        runs = self.last.arms
        names = max((list(next(iter(found.values())).classes) for found in runs.values()), key=len)
        rows = []
        for arm, by_seed in runs.items():
            cells = []
            for name in names:
                values = [
                    run.classes[name] for run in by_seed.values() if not math.isnan(run.classes.get(name, math.nan))
                ]
                cells.append(_heat(statistics.fmean(values)) if values else "<td>–</td>")
            rows.append(f'<tr><th scope="row">{escape(arm)}</th>{"".join(cells)}</tr>')
        head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in names)
        return (
            f'<p class="soft">IoU in percent, mean over the seeds, {escape(self.last.title)}.</p><div class="wide"><table class="heat">'
            f'<thead><tr><th scope="col">arm</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        )

    # ---- curves and confusions ----------------------------------------------------------------------------------------

    def curves(self) -> str:
        """One picture for each loss and validation score: a line an arm, the mean over its seeds; the seeds behind it, thin."""
        by_tag: dict[str, dict[str, list[dict[int, float]]]] = {}
        for arm in self.arms:
            for run in self._runs(arm):
                if run.step == 0:
                    continue
                for tag, curve in run.curves().items():
                    if tag.startswith("loss/") or tag in SCORES:
                        by_tag.setdefault(tag, {}).setdefault(arm, []).append(curve)
        if not by_tag:
            return "<p>The logs hold no curves of steps after the base step.</p>"
        pictures = []
        for tag in sorted(by_tag, key=lambda tag: (not tag.startswith("val"), tag)):
            figure = _curve_figure(tag, by_tag[tag], self.arms)
            arms = ", ".join(by_tag[tag])
            pictures.append(f'<img src="{_svg(figure)}" alt="{escape(tag)} over iterations, {escape(arms)}">')
        return (
            f'<p class="soft">Step {self.last.step}; mean over seeds, single seeds thin. Losses are means of ten iterations.</p>'
            f'<div class="curves">{"".join(pictures)}</div>'
        )

    def confusions(self) -> str:
        """Confusion matrices summed over seeds, rows in shares."""
        from utils.metrics import read_confusion
        from utils.visualise import confusion_figure

        pictures, missing = [], []
        for arm in self.arms:
            matrices: list[np.ndarray] = []
            names: list[str] = []
            for run in self._runs(arm):
                path = run.folder / f"confusion_{run.step}.csv"
                if path.is_file():
                    matrix, names = read_confusion(path)
                    matrices.append(matrix)
                else:
                    missing.append(f"{arm}, seed {run.seed}")
            if matrices:
                figure = confusion_figure(np.sum(matrices, axis=0), names)
                alt = f"confusion matrix of {arm}"
                pictures.append(
                    f'<figure><img src="{_svg(figure)}" alt="{escape(alt)}"><figcaption>{escape(arm)}, {len(matrices)} '
                    f"seed{'s' if len(matrices) > 1 else ''}</figcaption></figure>"
                )
        note = f'<p class="soft">No confusion matrix was kept of: {escape("; ".join(missing))}.</p>' if missing else ""
        return f'<div class="matrix">{"".join(pictures)}</div>{note}'

    # ---- pictures -----------------------------------------------------------------------------------------------------

    def predictions(self) -> str:
        """Test images beside what the arms make of them."""
        from dataset import default_folder, make_source
        from labelling import Labeller, Settings
        from tasks import BACKGROUND, IGNORE, load_task
        from utils.distributed import start, stop
        from utils.report import mask_image, png, swatch

        sample = next(run for run in self.task_runs if run.step == self.last.step)
        options = sample.options
        folder = default_folder(options["dataset"], options["data_root"], options["dataset_dir"])
        source = make_source(options["dataset"], folder, "val", sample.step)
        task = load_task(options["dataset"], options["task"])
        wanted = [i for i in task.seen(sample.step) if i != BACKGROUND]
        # New classes first: they are what the experiment is about.
        chosen = _choose(source.image_labels(), [*task.new(sample.step), *wanted], lambda i: source.mask(i))
        arms = [arm for arm in SHOWN_ARMS if any(run.checkpoint.is_file() for run in self._runs(arm))]
        lost = [arm for arm in SHOWN_ARMS if arm in self.arms and arm not in arms]
        if not chosen or not arms:
            return "<p>No test image with a class of the task, or no checkpoint, is left to show.</p>"
        size = options["crop_size_val"] or argparse_default(options["dataset"])
        pairs = [_cropped(source.image(i), source.mask(i), size) for i in chosen]
        runtime = start("auto")
        try:
            masks: dict[str, list[np.ndarray]] = {}
            for arm in arms:
                run = next(run for run in self._runs(arm) if run.checkpoint.is_file())
                labeller = Labeller(run.checkpoint, Settings(), runtime)
                import torch

                batch = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in pairs])
                masks[arm] = list(labeller.label(batch))
        finally:
            stop()
        known = {*task.seen(sample.step), IGNORE}
        rows = []
        for position, (index, (image, truth)) in enumerate(zip(chosen, pairs, strict=True)):
            judged = np.where(np.isin(truth, list(known)), truth, IGNORE).astype(np.uint8)
            figures = [_picture(_jpeg(image), "image", source.ids[index], "photo")]
            for name, mask in (("truth", judged), *((arm, masks[arm][position]) for arm in arms)):
                figures.append(_picture(png(mask_image(mask)), name, source.ids[index], "mask"))
            rows.append(
                f'<div class="sample"><h3>{escape(source.ids[index])}</h3><div class="row">{"".join(figures)}</div></div>'
            )
        legend = "".join(
            f"<li>{swatch(i)}{escape(source.class_names.get(i, 'not judged'))}</li>" for i in [0, *wanted, IGNORE]
        )
        note = f'<p class="soft">No checkpoint is left of: {escape(", ".join(lost))}.</p>' if lost else ""
        return (
            f'<p class="soft">The first {PER_CLASS} test images of each class, new classes first, where it covers a twentieth of the crop; '
            f'the first seed of each arm.</p><ul class="legend">{legend}</ul>{"".join(rows)}{note}'
        )

    def web_images(self) -> str:
        """Kept and rejected web images of the selections of the first seed, by class and reason."""
        parts = []
        seen = set()
        for name, command in self.history.stages.items():
            if command[0] != "select_web.py" or (kind := name.rpartition("-")[0]) in seen:
                continue
            seen.add(kind)
            parts.append(_selection(kind.removeprefix("select-"), Path(command[command.index("--out") + 1])))
        return "".join(parts) or "<p>No web image was selected in this experiment.</p>"

    def captions(self) -> str:
        """Some originals with what was found for them: caption, nouns, and whether it was kept."""
        from captions.formats import read_captions, read_class_words

        history = self.history
        captions, nouns = history.option("replay-nouns", "--captions"), history.option("replay-nouns", "--out")
        kept, words = history.option("replay-filter", "--out"), history.option("replay-filter", "--classes")
        images = history.option("replay-tree", "--images")
        if captions is None or nouns is None or kept is None or words is None or images is None:
            return "<p>Nothing was rehearsed in this experiment.</p>"
        classes = read_class_words(words)
        files = sorted(kept.glob("*.txt"))
        # Spread over the originals, so that they show several classes.
        chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(ORIGINALS, len(files))).astype(int))]
        parts = []
        for file in chosen:
            keep = set(file.read_text(encoding="utf-8").split("\n"))
            names = dict(read_captions(nouns / file.name)) if (nouns / file.name).is_file() else {}
            found = sorted(read_captions(captions / file.name), key=lambda pair: pair[0] not in keep)
            cards = "".join(
                _card(
                    images / file.stem / name,
                    name in keep,
                    f"“{caption}”; nouns: {names.get(name, '').strip() or 'none'}",
                )
                for name, caption in found[:FOUND]
            )
            title = f"{file.stem}: {' '.join(classes.get(file.stem, ())) or 'no class word'}"
            parts.append(
                f'<h3>{escape(title)}; {len(keep - {""})} of {len(found)} kept</h3><div class="grid">{cards}</div>'
            )
        return "".join(parts)

    # ---- how it was made ----------------------------------------------------------------------------------------------

    def options(self) -> str:
        """Options in which the arms differ, and the whole commands."""
        first = {arm: runs[0] for arm in self.arms if (runs := self._runs(arm))}
        skipped = {"name", "step_ckpt", "logdir", "checkpoints"}
        keys = [
            key
            for key in next(iter(first.values())).options
            if key not in skipped and len({str(run.options[key]) for run in first.values()}) > 1
        ]
        base = next(iter(first.values()))
        rows = []
        for key in keys:
            cells = []
            for run in first.values():
                value = run.options[key]
                text = "–" if value in (None, False) else "yes" if value is True else str(value)
                kind = "text changed" if str(value) != str(base.options[key]) else "text"
                cells.append(f'<td class="{kind}">{escape(text)}</td>')
            rows.append(f'<tr><th scope="row">--{escape(key)}</th>{"".join(cells)}</tr>')
        head = "".join(f'<th scope="col">{escape(arm)}</th>' for arm in first)
        commands = "".join(
            f'<h3>{escape(name)}</h3><div class="command">python {escape(shlex.join(command))}</div>'
            for name, command in self.history.stages.items()
        )
        return (
            '<p class="soft">Options in which the arms differ, first seed; bold where an arm differs from the first. A dash is the '
            f'default.</p><div class="wide"><table><thead><tr><th scope="col">option</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div><details><summary>All {len(self.history.stages)} commands</summary>{commands}"
            "</details>"
        )

    def versions(self) -> str:
        """Software and machine of the report, which is the experiment's own stage."""
        rows = [["python", platform.python_version()], ["machine", f"{platform.system()} {platform.machine()}"]]
        for name in PACKAGES:
            try:
                rows.append([name, version(name)])
            except PackageNotFoundError:
                rows.append([name, "not installed"])
        rows.append(["commit", _commit() or "not under version control"])
        rows.append(["device", _device()])
        rows.append(["written", datetime.now(UTC).isoformat(timespec="minutes")])
        return _table(["what", "version"], rows)

    def html(self) -> str:
        """The whole page."""
        from utils.report import document
        from web.sheet import SHEET_STYLE

        sections = {
            "Scores": self.scores,
            "By class": self.classes,
            "Predictions": self.predictions,
            "Learning curves": self.curves,
            "Confusions": self.confusions,
            "Web images, kept and left out": self.web_images,
            "Rehearsal: captions and their nouns": self.captions,
            "Options and commands": self.options,
            "Versions": self.versions,
        }
        title = f"{self.last.experiment}: {len(self.arms)} arms, {len(self.last.seeds)} seed{'s' if len(self.last.seeds) > 1 else ''}"
        links = "".join(f'<a href="#s{i}">{escape(name)}</a>' for i, name in enumerate(sections))
        parts = [f'<h1>{escape(title)}</h1><p class="answer">{escape(self.answer())}</p><nav>{links}</nav>']
        parts += [
            f'<section id="s{i}"><h2>{escape(name)}</h2>{make()}</section>'
            for i, (name, make) in enumerate(sections.items())
        ]
        return document(title, parts, SHEET_STYLE + STYLE)


# ---- pieces of HTML ---------------------------------------------------------------------------------------------------


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text cells; the first column names its row."""
    head = "".join(
        f'<th scope="col"{" class=number" if i else ""}>{escape(text)}</th>' for i, text in enumerate(headings)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _heat(value: float) -> str:
    """A cell that is the bluer the higher its share."""
    light = round(96 - 42 * value)
    return f'<td style="background:hsl(213 70% {light}%)">{100 * value:.1f}</td>'


def _picture(source: str, caption: str, of: str, kind: str) -> str:
    alt = escape(f"{caption} of {of}")
    return f'<figure><img class="{kind}" src="{source}" alt="{alt}"><figcaption>{escape(caption)}</figcaption></figure>'


def _jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _card(path: Path, kept: bool, text: str) -> str:
    """A picture in a frame that says whether it was kept, and why."""
    from dataset.decode import DecodeError
    from web.sheet import thumb

    try:
        picture = f'<img src="{thumb(path)}" alt="{escape(text)}">'
    except DecodeError as error:
        picture = f"<p>{escape(str(error))}</p>"
    kind, word = ("kept", "kept") if kept else ("left", "left out")
    return f'<figure class="{kind}">{picture}<figcaption><b>{word}</b><br>{escape(text)}</figcaption></figure>'


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    file = io.BytesIO()
    # Without a fixed salt the ids in the file differ each time.
    with mpl.rc_context({"svg.hashsalt": "report", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _curve_figure(tag: str, arms: dict[str, list[dict[int, float]]], order: Sequence[str]) -> Figure:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for arm, curves in arms.items():
        colour = colormaps["tab10"](list(order).index(arm) % 10)
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), color=colour, alpha=0.25, linewidth=0.7)
        common = sorted(set.intersection(*(set(curve) for curve in curves)))
        axes.plot(
            common,
            [statistics.fmean(curve[i] for curve in curves) for i in common],
            color=colour,
            label=arm,
            linewidth=1.6,
        )
    axes.set_title(tag, fontsize=10)
    axes.set_xlabel("iteration" if tag.startswith("loss") else "epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, ncols=2, frameon=False)
    return figure


# ---- choices ----------------------------------------------------------------------------------------------------------


def argparse_default(dataset: str) -> int:
    """Side of the test crop that run.py takes where none is given."""
    import argparser

    presets = argparser.PRESETS
    return int(presets.get(dataset, {}).get("crop_size_val", presets[""]["crop_size_val"]))


def _cropped(image: Image.Image, mask: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The test crop of an image and its mask, before normalisation."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    def cut(picture: Image.Image, mode: InterpolationMode) -> Image.Image:
        found: Image.Image = F.center_crop(F.resize(picture, [size], interpolation=mode, antialias=True), [size, size])
        return found

    return cut(image, InterpolationMode.BILINEAR), np.array(cut(Image.fromarray(mask), InterpolationMode.NEAREST))


def _choose(labels: np.ndarray, classes: Sequence[int], mask: object) -> list[int]:
    """The first images of each class that it covers enough of, none twice."""
    assert callable(mask)
    chosen: list[int] = []
    for number in dict.fromkeys(classes):
        if number == 0:
            continue
        count = 0
        for index in np.flatnonzero(labels[:, number - 1]):
            if count == PER_CLASS:
                break
            if int(index) not in chosen and np.mean(mask(int(index)) == number) >= VISIBLE:
                chosen.append(int(index))
                count += 1
    return chosen


def _selection(kind: str, path: Path) -> str:
    """Some images of each class and reason of one manifest."""
    from utils.manifest import open_manifest

    if not path.is_file():
        return f"<h3>{escape(kind)}</h3><p>{escape(str(path))} is gone.</p>"
    manifest = open_manifest(path)
    groups: dict[tuple[str, bool], list[tuple[Path, str]]] = {}
    counts: dict[tuple[str, bool], int] = {}
    for row in manifest:
        key = row["class"], row.get("kept") == "1"
        counts[key] = counts.get(key, 0) + 1
        if len(groups.setdefault(key, [])) < WEB_SHOWN:
            caption = f"“{row['caption']}”; " if row.get("caption") else ""
            groups[key].append((manifest.file(row), caption + row.get("reason", "")))
    parts = [f"<h3>{escape(kind)}</h3>"]
    for (name, kept), pictures in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1])):
        cards = "".join(_card(file, kept, reason) for file, reason in pictures)
        word = "kept" if kept else "left out"
        parts.append(
            f'<p class="soft">{escape(name)}: {counts[name, kept]} {word}, the first {len(pictures)}</p><div class="grid">{cards}</div>'
        )
    return "".join(parts)


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _device() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.report",
        description="One page of a whole experiment, from its work folder.",
        allow_abbrev=False,
    )
    parser.add_argument("--work", type=Path, required=True, help="work folder of the experiment")
    parser.add_argument("--arms", nargs="+", default=[], help="arms to show, in this order [all that were tested]")
    parser.add_argument("--baseline", help="arm that differences are taken to [raw-web, else WILSON]")
    parser.add_argument("--out", type=Path, help="the page [WORK/report.html]")
    return parser


def main(given: argparse.Namespace) -> Path:
    """Write the page; its path.

    Raises:
        UserError: the work folder holds no experiment, or the page cannot be written.
    """
    history = read_history(given.work)
    arms = {run.arm for run in history.runs}
    baseline = given.baseline or next((arm for arm in ("raw-web", "WILSON") if arm in arms), None)
    out: Path = given.out or given.work / "report.html"
    write_whole(out, Report(history, given.arms, baseline).html())
    return out


if __name__ == "__main__":
    try:
        print(f"{main(get_argparser().parse_args())}: open it in a browser")
    except UserError as error:
        print(f"experiments.report: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
