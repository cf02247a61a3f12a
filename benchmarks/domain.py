"""Does a domain discriminator help to choose web images, when, and why not: each input judged on truth.

    python -m benchmarks.domain --step_ckpt ANIMALS_0.pth VOC_0.pth --web DIR/web-animals DIR/web20 --work work/domain

For each data set, which its checkpoint of step 0 names, candidates are mixed for base and new classes, half of them right, 30 % of
another class, 20 % drawings. Discriminators learn from photographs of step 0 against the candidates of base classes: *honest* is all
of them, as a search finds them, *clean* the same without the drawings. They are judged on images that no discriminator learned from.
What is done is not done again; every process computes on one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import finish, make_parser, spread, write_page
from modules.inputs import INPUTS
from results.table import markdown_table
from utils.errors import UserError
from utils.manifest import FILE, Row, open_manifest
from utils.whole import write_whole

if TYPE_CHECKING:
    from utils.distributed import Runtime
    from web.examples import Example

T = TypeVar("T")
CLEAN, HONEST = "clean", "honest"
UNFILTERED, CAPTIONS = "no filter", "captions"
# Groups of images, each of which every discriminator scores.
SEEN, SEEN_WEB, NEVER_TRAINED, UNSEEN, CANDIDATES = "seen", "seen web", "validation", "unseen", "candidates"
KEYS = (
    "seen AUC", "validation AUC", "unseen AUC", "photo AUC",
    "precision", "recall", "kept", "best precision", "best recall", "best kept", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Sizes of what is trained.

    Attributes:
        network: timm's name, of spectrum and pixels; ImageNet weights.
        size: side of the images, pixels.
        epochs: passes over the training images.
        vector_epochs: the same of inputs that are short vectors.
        most: training images of a domain, drawn with a fixed seed where there are more; half as many of
            each group are tested, and twice as many candidates.
    """

    network: str
    size: int
    epochs: int
    vector_epochs: int
    most: int

    def of(self, name: str) -> int:
        """Epochs of an input."""
        return self.vector_epochs if name in ("bands", "encoder") else self.epochs


@dataclass(frozen=True)
class Data:
    """One data set's images.

    Attributes:
        name: of its web images, and the task.
        step_ckpt: of step 0.
        state: its content.
        training: imitation -> what is learned from, of both domains.
        groups: images that are scored, by name.
        rows: of the candidates for new classes.
        captions: theirs.
        labels: classes that the caption of each names.
    """

    name: str
    step_ckpt: Path
    state: dict[str, Any]
    training: Mapping[str, Sequence[Example]]
    groups: Mapping[str, Sequence[Example]]
    rows: Sequence[Row]
    captions: Sequence[str]
    labels: Sequence[frozenset[str]]

    def right(self) -> NDArray[np.bool_]:
        """(N,) candidates that show their class and are no drawings."""
        return np.array([row["true_class"] == row["class"] for row in self.rows]) & ~self.drawn()

    def drawn(self) -> NDArray[np.bool_]:
        """(N,) candidates that are drawings."""
        return np.array([row["domain"] == "drawing" for row in self.rows])

    def named(self) -> NDArray[np.bool_]:
        """(N,) candidates whose caption names their class."""
        return np.array([row["class"] in own for row, own in zip(self.rows, self.labels, strict=True)])


@dataclass(frozen=True)
class Judgement:
    """A selection against the truth, each a share in [0, 1]."""

    precision: float
    recall: float
    kept: float


def judge(kept: NDArray[np.bool_], right: NDArray[np.bool_]) -> Judgement:
    """Kept ones (N,) against right ones (N,); the precision of nothing is NaN."""
    both = (kept & right).sum()
    return Judgement(
        float(both / kept.sum()) if kept.any() else float("nan"), float(both / right.sum()), float(kept.mean())
    )


def best_threshold(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The score that gives the highest F1 where what is not below it is kept; of the same F1 the highest score."""
    levels = np.unique(scores)[::-1]
    kept = scores[None, :] >= levels[:, None]
    found = 2 * (kept & right).sum(1) / (kept.sum(1) + right.sum())
    return float(levels[int(found.argmax())])


def sample(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, in their order; always the same."""
    order = np.random.default_rng(0).permutation(len(items))[:count]
    return [items[i] for i in sorted(order.tolist())]


# ---- images ----


def read_data(step_ckpt: Path, web: Path, work: Path, settings: Settings, runtime: Runtime) -> Data:
    """Mix and caption the candidates of a data set, and list what is learned from and judged on.

    Args:
        step_ckpt: of step 0.
        web: one folder of web images a class.
        work: what is made is kept there.
        settings: sizes.
        runtime: of the captioner.

    Raises:
        UserError: the checkpoint's task has no step 1, or there are no web images of its classes.
    """
    # Imported here, so that --help answers at once.
    from captions.labels import caption_labels
    from captions.vocabulary import make_vocabulary
    from dataset import class_names, default_folder, make_source
    from experiments.imitation.noise import mix
    from tasks import BACKGROUND, label_column, load_task
    from web.discriminator import read_step_checkpoint
    from web.examples import Example, dataset_examples, is_held_out

    state = read_step_checkpoint(step_ckpt)
    options = state["options"]
    folder = default_folder(options["dataset"], options["data_root"], options["dataset_dir"])
    names = class_names(options["dataset"], folder)
    task = load_task(options["dataset"], options["task"], set(names))
    if len(task) < 2:
        raise UserError(
            f"{step_ckpt}: its task {options['task']} has no new classes; give one of a task of several steps"
        )
    base_ids, new_ids = [i for i in task.new(0) if i != BACKGROUND], list(task.new(1))
    base = [names[i] for i in base_ids if (web / names[i]).is_dir()]
    new = [names[i] for i in new_ids]
    name = f"{web.name}-{options['task']}"
    own = work / name
    if not (own / FILE).is_file():
        mix(web, own, new, base, noisy_base=True)
    rows = list(open_manifest(own / FILE))
    candidates = sample([row for row in rows if row["class"] in new], 2 * settings.most)
    learned = [(Example(own / row["path"], row["class"], False), row) for row in rows if row["class"] in base]
    clean = [example for example, row in learned if row["domain"] == "photo"]

    def parted(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
        held = [is_held_out(example) for example in examples]
        train = [example for example, out in zip(examples, held, strict=True) if not out]
        test = [example for example, out in zip(examples, held, strict=True) if out]
        return sample(train, settings.most), sample(test, settings.most // 2)

    photographs, seen = parted(dataset_examples(state, None, None))
    training = {}
    for imitation, examples in ((CLEAN, clean), (HONEST, [example for example, _ in learned])):
        train, test = parted(examples)
        training[imitation] = [*photographs, *seen, *train, *test]

    def photographs_of(split: str, shown: Sequence[int], others: Sequence[int]) -> list[Example]:
        data = make_source(options["dataset"], folder, split)
        labels = data.image_labels()
        has, lacks = (labels[:, [label_column(i) for i in ids]].any(axis=1) for ids in (shown, others))
        return [Example(data.image_path(int(i)), "", True) for i in np.flatnonzero(has & ~lacks)]

    groups = {
        SEEN: seen,
        SEEN_WEB: parted(clean)[1],
        NEVER_TRAINED: sample(photographs_of("val", base_ids, []), settings.most // 2),
        # What step 0 was trained on holds a base class: these images hold none.
        UNSEEN: sample(photographs_of("train", new_ids, base_ids), settings.most // 2),
        CANDIDATES: [Example(own / row["path"], row["class"], False) for row in candidates],
    }
    captions = caption([own / row["path"] for row in candidates], own / "captions.json", runtime)
    vocabulary = make_vocabulary([names[i] for i in (*base_ids, *new_ids)], None)
    labels = [frozenset(caption_labels(text, vocabulary)) for text in captions]
    return Data(name, step_ckpt, state, training, groups, candidates, captions, labels)


def caption(files: Sequence[Path], kept: Path, runtime: Runtime) -> list[str]:
    """Captions of files, by the default captioner; an empty one where there is none."""
    # Imported here, so that --help answers at once.
    from captions.captioners import DEFAULT_CAPTIONER, make_captioner
    from captions.captioners.base import CaptionerSettings

    if not kept.is_file():
        captioner = make_captioner(DEFAULT_CAPTIONER, CaptionerSettings(), runtime)
        written: list[str] = []
        for at in range(0, len(files), 64):
            found = captioner.caption_files(files[at : at + 64])
            written += ["" if isinstance(one, UserError) else one for one in found]
        write_whole(kept, json.dumps(written))
    read: list[str] = json.loads(kept.read_text(encoding="utf-8"))
    return read


# ---- what is measured ----


def measure(data: Data, imitation: str, name: str, seed: int, settings: Settings, work: Path, runtime: Runtime) -> Path:
    """Train one discriminator and score every group; the file that holds p_ds of each image, and the seconds of training."""
    # Imported here, so that --help answers at once.
    from modules.discriminator import Preprocessing
    from web.discriminator import make
    from web.fitting import Recipe, train
    from web.quality import probabilities

    out = work / "runs" / f"{data.name}-{imitation}-{name}-{seed}.json"
    if out.is_file():
        return out
    features = "encoder" if name == "encoder" else "image"
    preprocessing = Preprocessing(settings.network, name, features, size=settings.size)
    recipe = Recipe(settings.of(name), pretrained="imagenet", seed=seed)
    weights = out.with_suffix(".pth")
    weights.parent.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    saved = train(
        make(preprocessing, data.state, seed), data.training[imitation], recipe, runtime, 0, weights, data.state
    )
    assert saved is not None
    seconds = time.process_time() - started
    scored = {
        group: probabilities(saved.discriminator, examples, runtime, 0).tolist()
        for group, examples in data.groups.items()
    }
    write_whole(out, json.dumps({"seconds": seconds, "images": len(data.training[imitation]), "scores": scored}))
    return out


def values(data: Data, run: Mapping[str, Any]) -> dict[str, float]:
    """Every number of ``KEYS`` of one discriminator."""
    # Imported here, so that --help answers at once.
    from utils.metrics import binary_scores

    scores = {group: np.array(numbers, dtype=np.float64) for group, numbers in run["scores"].items()}

    def auc(up: NDArray[np.float64], down: NDArray[np.float64]) -> float:
        return binary_scores(np.r_[up, down], np.r_[np.ones(len(up)), np.zeros(len(down))].astype(bool)).auc

    right, drawn, own = data.right(), data.drawn(), scores[CANDIDATES]
    rule, best = judge(own > 0.5, right), judge(own >= best_threshold(own, right), right)
    return {
        "seen AUC": auc(scores[SEEN], scores[SEEN_WEB]),
        "validation AUC": auc(scores[NEVER_TRAINED], scores[SEEN_WEB]),
        "unseen AUC": auc(scores[UNSEEN], own[right]),
        "photo AUC": auc(own[~drawn], own[drawn]),
        "precision": rule.precision, "recall": rule.recall, "kept": rule.kept,
        "best precision": best.precision, "best recall": best.recall, "best kept": best.kept,
        "seconds": run["seconds"],
    }  # fmt: skip


def with_captions(data: Data, runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Judgement]]:
    """Selections by captions and one input's discriminators: at ratio 1, and without the tenth that is least like the data set."""
    named, right = data.named(), data.right()
    found: dict[str, list[Judgement]] = {"ratio > 1": [], "best 9 in 10": []}
    for run in runs:
        own = np.array(run["scores"][CANDIDATES], dtype=np.float64)
        found["ratio > 1"].append(judge(named & (own > 0.5), right))
        least = np.quantile(own[named], 0.1) if named.any() else 0.0
        found["best 9 in 10"].append(judge(named & (own >= least), right))
    return found


# Data set, imitation, input -> its runs.
Runs = Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]


def page(sets: Sequence[Data], runs: Runs, settings: Settings, seeds: Sequence[int]) -> str:
    """The results page."""
    # Imported here, so that --help answers at once.
    from experiments.imitation.noise import DRAWN, WRONG

    by_name = {data.name: data for data in sets}
    alone = []
    for (name, imitation, input_name), own in runs.items():
        numbers = [values(by_name[name], run) for run in own]
        cells = [spread([one[key] for one in numbers], 1, 0 if key == "seconds" else 3) for key in KEYS]
        alone.append([input_name, name, imitation, *cells])
    chosen = []
    for data in sets:
        for label, kept in ((UNFILTERED, np.ones(len(data.rows), bool)), (CAPTIONS, data.named())):
            chosen.append([label, data.name, "", *_cells([judge(kept, data.right())])])
        for (name, imitation, input_name), own in runs.items():
            if name == data.name:
                for rule, judged in with_captions(data, own).items():
                    chosen.append([f"{CAPTIONS} and {input_name}, {rule}", name, imitation, *_cells(judged)])
    sizes = "; ".join(
        f"{data.name}: "
        + ", ".join(f"{imitation} {len(images)}" for imitation, images in data.training.items())
        + f" training and held-out images, {len(data.rows)} candidates, "
        + ", ".join(f"{group} {len(data.groups[group])}" for group in (SEEN, SEEN_WEB, NEVER_TRAINED, UNSEEN))
        for data in sets
    )
    lines = [
        "# The domain discriminator: what it looks at, what it learns from, and what it chooses",
        "",
        f"Written by `python -m benchmarks.domain`; seeds {', '.join(map(str, seeds))}, mean ± standard deviation where there are several. "
        f"{settings.network} with ImageNet weights at {settings.size} pixels, {settings.epochs} epochs (spectrum, pixels) and "
        f"{settings.vector_epochs} (bands, encoder), at most {settings.most} training images of a domain, drawn with a fixed "
        f"seed; one core. Images: {sizes}.",
        "",
        f"Candidates of every class, base and new: {1 - WRONG - DRAWN:.0%} right, {WRONG:.0%} of another class, {DRAWN:.0%} drawings. "
        "*Honest*: the discriminator learns from all candidates of base classes; *clean*: from the photographs among them. Area under the "
        "curve (AUC) of p_ds: *seen*, held-out training photographs against held-out web photographs of base classes; *validation*, "
        "photographs that the segmenter was never trained on against the same; *unseen*, training photographs that hold new classes alone "
        "against right web photographs of new classes; *photo*, photographs among the candidates against drawings. A selection is right "
        "where an image shows its class and is no drawing; *best* is at the threshold of the highest F1, found on these very candidates.",
        "",
        "## The discriminator alone",
        "",
        *markdown_table(["input", "data", "learns from", *KEYS], alone, right=len(KEYS)),
        "",
        "## Beside captions",
        "",
        "Captions are an ImageNet classifier's tags (`captions/captioners/tags.py`).",
        "",
        *markdown_table(["selection", "data", "learns from", "precision", "recall", "kept"], chosen, right=3),
    ]  # fmt: skip
    return "\n".join(lines)


def _cells(judged: Sequence[Judgement]) -> list[str]:
    return [spread([getattr(one, key) for one in judged], 1, 3) for key in ("precision", "recall", "kept")]


def table(sets: Sequence[Data], runs: Runs, seeds: Sequence[int]) -> str:
    """Every run as a line of CSV."""
    by_name = {data.name: data for data in sets}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("data", "learns from", "input", "seed", *KEYS))
    for (name, imitation, input_name), own in runs.items():
        for seed, run in zip(seeds, own, strict=False):
            numbers = values(by_name[name], run)
            writer.writerow((name, imitation, input_name, seed, *(f"{numbers[key]:.4f}" for key in KEYS)))
    return text.getvalue()


def get_argparser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser("domain", __doc__)
    add = parser.add_argument
    add("--step_ckpt", type=Path, nargs="+", required=True, help="checkpoints of step 0, one a data set")
    add(
        "--web",
        type=Path,
        nargs="+",
        required=True,
        help="folder of one folder of web images a class, for each of them",
    )
    add("--work", type=Path, default=Path("work/domain"), help="where candidates and runs are kept [work/domain]")
    add("--seeds", type=int, nargs="+", default=[0], help="of the discriminators [0]")
    add("--inputs", nargs="+", choices=tuple(INPUTS), default=list(INPUTS), help="what they look at [all]")
    add("--learn_from", nargs="+", choices=(CLEAN, HONEST), default=[CLEAN, HONEST], help="what they learn from [both]")
    add("--network", default="tf_efficientnet_lite0", help="of spectrum and pixels [tf_efficientnet_lite0]")
    add("--size", type=int, default=160, help="side of the images, pixels [160]")
    add("--epochs", type=int, default=4, help="of spectrum and pixels [4]")
    add("--vector_epochs", type=int, default=30, help="of bands and encoder [30]")
    add("--most", type=int, default=300, help="training images of a domain [300]")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then print and write the page; the exit code."""
    given = get_argparser().parse_args(arguments)
    if len(given.step_ckpt) != len(given.web):
        raise UserError(f"--web: {len(given.web)} folders for {len(given.step_ckpt)} checkpoints; give one for each")
    settings = Settings(given.network, given.size, given.epochs, given.vector_epochs, given.most)
    # Imported here, so that --help answers at once.
    import torch

    from utils import distributed

    runtime = distributed.start("cpu")
    torch.set_num_threads(1)
    sets = [
        read_data(step, web, given.work, settings, runtime)
        for step, web in zip(given.step_ckpt, given.web, strict=True)
    ]
    runs: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {
        (data.name, imitation, name): [] for data in sets for imitation in given.learn_from for name in given.inputs
    }
    # A whole table of the first seed comes before a second one.
    for seed in given.seeds:
        for data in sets:
            for imitation in given.learn_from:
                for name in given.inputs:
                    path = measure(data, imitation, name, seed, settings, given.work, runtime)
                    runs[data.name, imitation, name].append(json.loads(path.read_text(encoding="utf-8")))
    write_whole(given.out.with_suffix(".csv"), table(sets, runs, given.seeds))
    print(write_page(given.out, page(sets, runs, settings, given.seeds)))
    return 0


if __name__ == "__main__":
    finish("domain", main)
