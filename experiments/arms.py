"""The arms: methods that an experiment compares, with their options and their images."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.stage import line

BASE, JOINT = "base", "joint"
# The base step's model once more, on the pixels of all classes, as later steps are: its own test
# leaves out those not yet learned.
BASE_ALL = "base-all-pixels"


@dataclass(frozen=True)
class Arm:
    """A method: its own options at step 1 and later, and what it learns from beside the data set.

    Attributes:
        options: of run.py.
        weak: from image labels, else from pixel labels.
        web: manifest of web images: ``raw``, ``discriminator`` (selected by it), ``captions`` (by
            captions too) or ``words`` (by captions alone); None: the data set's.
        replay: whether old classes are rehearsed.
        best: a weak step by the best recipe or a part of it, not by the papers'; with replay its
            later steps rehearse the web images of earlier steps as well.
        base: what its own base step has beside the others'; None: it starts from theirs.
    """

    options: tuple[str, ...] = ()
    weak: bool = False
    web: str | None = None
    replay: bool = False
    best: bool = False
    base: tuple[str, ...] | None = None


# In the order of the table; joint training, which has no steps, comes last.
ARMS = {
    "fine-tuning": Arm(line("--bce")),
    "LwF": Arm(line("--loss_kd 100 --alpha 1")),
    "ILT": Arm(line("--loss_kd 100 --loss_de 100 --alpha 1")),
    "MiB": Arm(line("--unce --unkd --loss_kd 10 --init_balanced --alpha 1")),
    "WILSON": Arm(weak=True),
    "raw-web": Arm(weak=True, web="raw"),
    "discriminator": Arm(weak=True, web="discriminator"),
    "caption-labels": Arm(line("--web_labels caption"), weak=True, web="captions"),
    "ours": Arm(line("--web_labels caption"), weak=True, web="captions", replay=True),
    "best": Arm(line("--recipe best --web_labels caption"), weak=True, web="words", replay=True, best=True),
}
# Parts of --recipe best by the name of the arm without it: the part, and what stands in its place.
PARTS = {
    "trained-body": ("--freeze", "--loss_de 1 --freeze_norm"),
    "low-rate": ("--lr_head 40 --lr_pseudo 0.04", "--lr_head 2"),
    "no-yielding": ("--old_yields", ""),
    "no-folding": ("--fold_absent", ""),
    "no-jitter": ("--jitter 0.6", ""),
    "no-balance": ("--replay_balance", ""),
}


def _without(part: str) -> Arm:
    """The best recipe without one of its parts."""
    options = [instead if name == part else option for name, (option, instead) in PARTS.items()]
    return Arm(
        line("--init_balanced", *options, "--web_labels caption"), weak=True, web="words", replay=True, best=True
    )


# Each does without one thing that "best" does; run by name only.
ABLATIONS = {
    "best-no-replay": Arm(line("--recipe best --web_labels caption"), weak=True, web="words", best=True),
    "best-raw-web": Arm(line("--recipe best"), weak=True, web="raw", replay=True, best=True),
    "best-discriminator": Arm(
        line("--recipe best --web_labels caption"), weak=True, web="captions", replay=True, best=True
    ),
    **{f"best-{part}": _without(part) for part in PARTS},
}
# Each does one thing more than "best" does; run by name only.
ADDITIONS = {
    name: Arm(line("--recipe best --web_labels caption", option), weak=True, web="words", replay=True, best=True)
    for name, option in {
        "best-confusion": "--confusion 0.1",
        "best-likeness": "--likeness 0.3",
        "best-paste": "--paste 0.5",
    }.items()
}
# Other methods of the field, run by name only (docs/method.md, "Baselines").
BASELINES = {
    "PLOP": Arm(line("--method plop --init_balanced")),
    "SSUL": Arm(line("--method ssul --freeze"), base=line("--method ssul")),
    "RaSP": Arm(line("--method rasp"), weak=True),
}
KNOWN = ARMS | ABLATIONS | ADDITIONS | BASELINES


def possible_arms(web: bool, rehearsal: bool) -> tuple[str, ...]:
    """The arms for which there is data, in the order of the table.

    Args:
        web: whether there are web images of the new classes.
        rehearsal: whether there are downloads for the old ones.
    """
    names = [name for name, arm in ARMS.items() if (web or arm.web is None) and (rehearsal or not arm.replay)]
    return (*names, JOINT)
