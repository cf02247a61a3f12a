"""Which similarity, threshold and choice of images finds the right downloads of an original image.

    python -m benchmarks.captions --data DIR [--out benchmarks/results/captions.md]

--data: folder with ``captions/web_data_cap_file_NN.zip`` (the published noun lists),
``captions/pascal_classes.txt`` (the published class words, in which dog and table are swapped) and
``voc-meta/labels.npz``. ``benchmarks/filtering.py`` measures; a similarity whose package is not
installed is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.filtering import CLASSES, NEEDED, PRECISION, Curve, Measurement, Score, ceiling, measure, winner
from benchmarks.pages import ROOT, finish, make_parser, write_page
from captions.filters import DEFAULT_SIMILARITY, RULES
from results.table import markdown_table

HEADINGS = [
    "", "threshold", "kept", "precision", "recall", "two images, mean of classes", "least class", "two right images, mean"
]  # fmt: skip


PAGE = """# Which downloads are kept

`python -m benchmarks.captions --data DIR`, on the published noun lists: {originals} originals of VOC, {images} downloads.

**Truth.** The classes of an original come from its VOC labels, not from the published class file, in which dog and table are swapped.
A download is right where its nouns name one of these classes by a vocabulary that was made by hand from all nouns of the lists
(`benchmarks/noun_truth.json`) and that no similarity reads. It is strict: *computer* does not name a monitor, nor *herd* sheep, nor
*statue man* a person. {right} downloads ({share:.0%}) are right. What the pictures show was not looked at; only nouns are published.

**Precision**: right images of those kept. **Recall**: right images kept of those that a filter of two per original could keep.
**Two images**: share of the originals of one single class that get two.

![Precision over recall, and two right images per class]({image})

## The published filter and the default

{first}

Originals of one single class, class by class:

{classes}

`*` The ceiling itself is below {needed}: too few of these originals have two downloads that name the class at all
({low}).
To give them two images each, wrong ones have to be taken; what that costs stands below. {empty:.0%} of tvmonitor's have no two downloads in
the first place. Over the classes the default reaches {reached:.3f} of the ceiling, the least
{least:.2f} ({least_class}).

## Every similarity at its best threshold

Best is what has a precision above {precision}, a recall within 0.005 of the most that is then to be had, and of those the best F1 on kinds:
the words that an ImageNet classifier writes for what it sees (golden_retriever), as the offline captioner does, against the classes that
WordNet makes them kinds of. Where none has that precision, the most precise. {winner} at {champion} wins. Thresholds were chosen on the
lists that they are judged on, and what is a kind is WordNet's word, which favours the measures on its tree over *embedding*.
The criterion of kinds was added after *path* and *wup* had tied on the lists.

{best}

## What the rule adds

{default} at {threshold}:

{variants}

## All thresholds

{thresholds}
"""


def least_class(score: Score) -> str:
    """The class whose originals get two images the least often."""
    least = int(np.argmin(score.two))
    return f"{score.two[least]:.2f} ({CLASSES[least]})"


def row(label: str, threshold: float, score: Score) -> list[str]:
    """Cells under ``HEADINGS``."""
    shares = [f"{score.precision:.3f}", f"{score.recall:.3f}", f"{score.two.mean():.2f}"]
    return [label, f"{threshold:.3f}", str(score.kept), *shares, least_class(score), f"{score.two_right.mean():.2f}"]


def class_table(measurement: Measurement) -> list[str]:
    """What single-class originals get, class by class."""
    task, published, default, top = (
        measurement.task,
        measurement.published,
        measurement.default,
        ceiling(measurement.task),
    )
    headings = [
        "class", "originals", "published: two kept", "published: two right", "default: two kept", "default: two right",
        "ceiling",
    ]  # fmt: skip
    rows = []
    for i, name in enumerate(CLASSES):
        shares = [share[i] for share in (published.two, published.two_right, default.two, default.two_right, top)]
        cells = [name, str(len(task.single(name))), *(f"{share:.2f}" for share in shares)]
        cells[-1] += "" if top[i] >= NEEDED else " *"
        rows.append(cells)
    return markdown_table(headings, rows)


def threshold_table(own: Curve, as_published: Curve) -> list[str]:
    """A similarity at every threshold, with our rule and with the published one."""
    headings = [
        "threshold", "precision", "recall", "kept", "least class, two images", "kinds: precision", "kinds: recall",
        "published rule: precision", "recall", "kept",
    ]  # fmt: skip
    rows = []
    for point, other in zip(own, as_published, strict=True):
        a, b = point.lists, other.lists
        rows.append([
            f"{point.threshold:.3f}", f"{a.precision:.3f}", f"{a.recall:.3f}", str(a.kept), least_class(a),
            *(f"{share:.2f}" for share in point.kinds), f"{b.precision:.3f}", f"{b.recall:.3f}", str(b.kept),
        ])  # fmt: skip
    return markdown_table(headings, rows)


def picture(path: Path, measurement: Measurement) -> None:
    """Precision over recall, and two right images per class."""
    # Imported here, so that --help answers at once.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    published, default = measurement.published, measurement.default
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.2), width_ratios=(1, 1.25), layout="constrained")
    for i, (name, (own, as_published)) in enumerate(measurement.curves.items()):
        for curve, style, label in ((own, "o-", name), (as_published, "--", None)):
            points = np.array([(point.lists.recall, point.lists.precision) for point in curve])
            left.plot(points[:, 0], points[:, 1], style, color=f"C{i}", label=label, markersize=3, linewidth=1.2)
    left.plot(published.recall, published.precision, "kX", markersize=10, label="published filter and files")
    left.plot(default.recall, default.precision, "k*", markersize=13, label="default")
    left.axhline(0.95, color="0.6", linewidth=0.8, linestyle=":")
    left.set(xlabel="recall", ylabel="precision", title="Thresholds of each similarity (dashed: the published rule)")
    left.legend(loc="lower right", fontsize=8)
    left.grid(alpha=0.3)
    place = np.arange(len(CLASSES))
    right.bar(place, ceiling(measurement.task), 0.85, color="0.88", label="ceiling: two right downloads exist")
    right.bar(place - 0.2, published.two_right, 0.38, color="C3", label="published")
    right.bar(place + 0.2, default.two_right, 0.38, color="C0", label="default")
    right.axhline(NEEDED, color="0.5", linewidth=0.8, linestyle=":")
    right.set_xticks(place, CLASSES, rotation=60, ha="right")
    right.set(ylim=(0, 1.12), title="Single-class originals that get two right images")
    right.legend(loc="upper center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=95)
    plt.close(figure)


def page(measurement: Measurement, image: str) -> str:
    """The results page.

    Args:
        measurement: what it shows.
        image: name of the file that ``picture`` wrote beside it.
    """
    task, curves, default = measurement.task, measurement.curves, measurement.default
    images, right, top = sum(map(len, task.lists.values())), sum(map(len, task.right.values())), ceiling(task)
    best = {name: winner(own) for name, (own, _) in curves.items()}
    champion = winner([point for own, _ in curves.values() for point in own])
    threshold = RULES[DEFAULT_SIMILARITY].threshold
    reached = default.two_right / top
    first = [
        row("published: depth, published class file", 0.6, measurement.published),
        row("the same, true classes", 0.6, measurement.corrected),
        row(f"**default: {DEFAULT_SIMILARITY}**", threshold, default),
    ]
    chosen = [
        [*row(name, point.threshold, point.lists), *(f"{share:.2f}" for share in point.kinds)]
        for name, point in best.items()
    ]
    thresholds = [[f"{name}:", "", *threshold_table(*both)] for name, both in curves.items()]
    left_out = ["", *measurement.left_out] if measurement.left_out else []
    return PAGE.format(
        originals=len(task.lists),
        images=images,
        right=right,
        share=right / images,
        image=image,
        default=DEFAULT_SIMILARITY,
        threshold=threshold,
        winner=next(name for name, (own, _) in curves.items() if champion in own),
        champion=champion.threshold,
        precision=PRECISION,
        needed=NEEDED,
        low=", ".join(name for name, share in zip(CLASSES, top, strict=True) if share < NEEDED),
        empty=1 - np.mean([len(task.lists[original]) >= 2 for original in task.single("tvmonitor")]),
        reached=reached.mean(),
        least=reached.min(),
        least_class=CLASSES[int(reached.argmin())],
        first="\n".join(markdown_table(HEADINGS, first)),
        classes="\n".join(class_table(measurement)),
        best="\n".join([*markdown_table([*HEADINGS, "kinds: precision", "kinds: recall"], chosen), *left_out]),
        variants="\n".join(
            markdown_table(HEADINGS, [row(label, *variant) for label, variant in measurement.variants.items()])
        ),
        thresholds="\n\n".join("\n".join(lines) for lines in thresholds),
    )


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("captions", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the lists and of VOC's labels")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the page with its picture."""
    given = get_argparser().parse_args(arguments)
    measurement = measure(given.data, ROOT / "benchmarks" / "noun_truth.json")
    image = given.out.with_suffix(".png")
    picture(image, measurement)
    print(write_page(given.out, page(measurement, image.name)))
    return 0


if __name__ == "__main__":
    finish("captions", main)
