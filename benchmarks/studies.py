"""What the tables and pages of ``benchmarks/results`` are of: what docs/results.md and README say around them."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.arms import ABLATIONS, ARMS, BASE, BASE_ALL, JOINT

ANIMALS = (
    "Real photographs at the size of a CPU: 1,140 for training and 231 for the test, of PASCAL VOC, at most 256 pixels a side; 150 web "
    "images a class; EfficientNet-Lite0, crop 160. mIoU in percent, mean ± standard deviation over seeds."
)
VOC20 = (
    "Real photographs of all twenty classes of PASCAL VOC: 3,645 for training (a third of all; vehicles 39 to 48 a class) and 726 for the "
    "test (half of all), at most 256 pixels a side; 113 to 200 web images a class; EfficientNet-Lite0, crop 160. mIoU in percent, mean ± "
    "standard deviation over seeds."
)
BASE_MODEL = (
    "`base` is the model of step 0, whose test leaves out the pixels of classes not yet learned; `base-all-pixels` is the same model on "
    "all pixels, as later steps are tested: what it took for an old class counts there."
)
# The table of README, and what its arms are.
SHOWN = "animals-4-2"
EXPLAINED = {
    BASE: "step 0: pixel labels of the old classes; tested without the pixels of new ones",
    BASE_ALL: "the same model on all pixels, as the arms below are tested",
    "fine-tuning": "pixel labels of the new classes, nothing against forgetting",
    "LwF": "fine-tuning; the old model's outputs are targets too",
    "ILT": "LwF; the old model's features are targets too",
    "MiB": "pixel labels; losses that expect old classes in the background",
    "WILSON": "image labels of the data set's photographs; a localizer finds the masks",
    "raw-web": "WILSON on web images as found, labelled by the search word",
    "discriminator": "raw-web without images unlike the data set's",
    "caption-labels": "discriminator, and labels from captions",
    "ours": "caption-labels, and rehearsal of old classes: the papers' recipe",
    "best": "selection by captions alone, rehearsal, `--recipe best`",
    JOINT: "pixel labels of all classes at once, without steps",
}


@dataclass(frozen=True)
class Published:
    """What a paper reports of a task, overlap, on the test images of VOC.

    Attributes:
        method: its name.
        images: what it learns new classes from.
        network: what it is made of.
        share: mIoU of all classes after the last step, percent of joint training's in the same paper.
    """

    method: str
    images: str
    network: str
    share: float


@dataclass(frozen=True)
class Source:
    """What a table is of.

    Attributes:
        title: its heading.
        what: the task, and which of its scores.
        command: what makes it.
        data: the images, the network, the size.
        arms: what that command makes a row of each; the page says which of them the file lacks.
        published: what the papers report of this task.
    """

    title: str
    what: str
    command: str
    data: str
    arms: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Page:
    """What a page answers, and the cells of it to quote: those of the first table row that begins with ``row``, in ``columns``."""

    what: str
    row: str
    columns: tuple[str, ...]


RESNET = "ResNet-101, crop 512"
# What differs between the papers' numbers and ours, beside the method.
DIFFERENCES = (
    "Shares of joint training, overlap, all classes. They stand side by side, and no more: the papers train ResNet-101 at crop 512 on "
    "10,582 photographs and test on 1,449, with web images that a search engine gave. Here a small network sees a third of the photographs "
    "at a quarter of their area for a few epochs, joint training too, and the web images are few and their noise is mixed in. A weaker "
    "joint model is easier to come near to; fewer web images make it harder. Whether the order of methods is the same at the papers' size "
    "was not measured."
)
VOC256 = "bash run.sh voc256"
NOISE = "Half of what a search finds, for old and new classes alike, is what was searched for; 30% shows another class, 20% is drawn."
COMMAND = "bash run.sh animals --data DIR --jobs 2"
TABLES = {
    "animals-4-2": Source(
        "All methods",
        "Cat, dog, horse and person from pixel labels, then cow and sheep in one step. Half of the web images are what was searched for; "
        "`ours` is the papers' recipe, `best` is `--recipe best`.",
        COMMAND,
        ANIMALS,
        (*ARMS, JOINT),
    ),
    "animals-4-1": Source(
        "Two steps of one class each",
        "Cat, dog, horse and person from pixel labels, then cow, then sheep; after the last step, where sheep alone is new.",
        f"{COMMAND} --task 4-1 --arms best best-no-replay raw-web joint",
        ANIMALS,
    ),
    "ablation-4-2": Source(
        "What each part of the recipe gives",
        "Cow and sheep in one step; `best` is `--recipe best`, the other arms do without one part of it each "
        "([method.md](method.md#improvements---recipe-best)).",
        f"{COMMAND} --arms best {' '.join(ABLATIONS)}",
        ANIMALS,
        tuple(ABLATIONS),
    ),
    "voc20-15-5": Source(
        "Twenty classes: 15-5",
        f"The papers' own task, overlap: fifteen classes from pixel labels, then pottedplant, sheep, sofa, train and tvmonitor. {NOISE}",
        f"{VOC256} 15-5 --overlap --data DIR --jobs 2",
        VOC20,
        (*ARMS, JOINT),
        (
            Published("WILSON", "raw web images", RESNET, 89.9),
            Published("Web-WILSS", "web images", RESNET, 95.1),
        ),
    ),
    "voc20-10-10": Source(
        "Twenty classes: 10-10",
        f"Ten classes from pixel labels, then ten more, person among them; overlap. {NOISE}",
        f"{VOC256} 10-10 --overlap --data DIR --jobs 2",
        VOC20,
        (*ARMS, JOINT),
        (
            Published("Web-WILSS", "web images", RESNET, 86.6),
            Published("FMWISS", "VOC's own images", RESNET, 91.6),
            Published("SASA", "VOC's own images", "a vision transformer", 95.0),
        ),
    ),
    "voc20-15-5s": Source(
        "Twenty classes: five steps of one class",
        f"Fifteen classes from pixel labels, then one at a time; after the last step, where tvmonitor alone is new; overlap. {NOISE}",
        f"{VOC256} 15-5s --overlap --data DIR --jobs 2 --arms best raw-web joint",
        VOC20,
    ),
    "voc20-ablation-15-5": Source(
        "Twenty classes: what might be added to the recipe",
        "15-5, overlap; `best` is `--recipe best`, the other arms have one thing more, or one less "
        "([method.md](method.md#improvements---recipe-best)).",
        f"{VOC256} 15-5 --overlap --data DIR --jobs 2 --arms best ...",
        VOC20,
    ),
}
PAGES = {
    "captions.md": Page("which similarity of nouns filters downloads best", "default", ("precision", "recall")),
    "nouns.md": Page("which tagger finds the nouns of captions best", "hanta", ("F1",)),
    "tags.md": Page(
        "which classes the captioner of ImageNet's tags names, class by class",
        "least",
        ("now: kept", "now: precision"),
    ),
    "web.md": Page(
        "does the discriminator transfer, what does selection keep", "captions", ("precision", "recall", "kept")
    ),
    "domain.md": Page(
        "what a domain discriminator tells apart and chooses, by what it looks at and learns from",
        "captions",
        ("precision", "recall", "kept"),
    ),
    "replay.md": Page(
        "what rehearsal keeps, and what single-class steps learn",
        "kept by the caption filter",
        ("that show a class of their original",),
    ),
    "animals.md": Page(
        "pixel-labelled baselines and WILSON on the data set's own photographs", "WILSON", ("all mIoU",)
    ),
    "export.md": Page("how fast exported files are", "ONNX, 1 thread", ("ms / image", "times as fast as torch")),
    "adopt.md": Page(
        "what segmenters of other libraries keep and learn, against this project's own",
        "smp, after",
        ("old mIoU", "new mIoU"),
    ),
    "predict.md": Page(
        "what predict.py costs beside the network alone", "predict.py", ("rate, % of the network alone",)
    ),
    "testing.md": Page(
        "how fast whole images are tested",
        "groups of one size, a stream a core (run.py)",
        ("times as fast",),
    ),
    "scale.md": Page(
        "how time and memory of each script grow with the number of images",
        "`predict.py`",
        ("ms / image", "KiB / image"),
    ),
    "duplicates.md": Page("how long near-duplicates are looked for", "1,000,000", ("ms, tables", "times as fast")),
    "scoring.md": Page("how fast web images are scored", "scoring", ("images / s",)),
    "loop.md": Page(
        "what an iteration costs beside its arithmetic", "fused and guarded", ("times as fast as the first",)
    ),
    "norm.md": Page("what the activated norm keeps for the backward pass", "resnet101", ("kept ratio", "peak ratio")),
    "step.md": Page("what an iteration takes, part by part", "weak / base", ("s / iteration",)),
    "data.md": Page("how fast images are loaded", "whole path", ("images / s",)),
}
