"""The comparison with what was recorded, and small runs to compare."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pins.scripts import Ended, call

RECORDS = Path(__file__).resolve().parent / "records"
WIDTH = 150


def _text(value: Any, indent: int = 0) -> str:
    """JSON with one line for what fits into one, so that a record can be read and its differences too."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) + indent <= WIDTH or not value or not isinstance(value, dict | list):
        return whole
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(item, indent + 1)}" for key, item in value.items()
        ]
    else:
        parts = [inner + _text(item, indent + 1) for item in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return f"{left}\n" + ",\n".join(parts) + f"\n{' ' * indent}{right}"


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """A line for each value that differs; 1 and 1.0 and True are three values."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: is gone" for key in expected if key not in found]
        lines += [f"{where}/{key}: is new" for key in found if key not in expected]
        return lines + [
            line
            for key in expected
            if key in found
            for line in differences(expected[key], found[key], f"{where}/{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{where}/{i}")]
    same = type(expected) is type(found) and expected == found
    return [] if same else [f"{where}: {json.dumps(found)}, was {json.dumps(expected)}"]


def recording(name: str) -> bool:
    """Whether the user asks for a record to be written."""
    return name in os.environ.get("RECORD_PINS", "").split()


@pytest.fixture
def pinned() -> Callable[[str, Any], None]:
    """Compare what was found, plain values or a text, with the record of a name (``NAME.json`` or ``NAME.txt``)."""

    def compare(name: str, found: Any) -> None:
        path = RECORDS / f"{name}.{'txt' if isinstance(found, str) else 'json'}"
        if recording(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found if isinstance(found, str) else _text(found) + "\n", encoding="utf-8")
            return
        recorded = path.read_text(encoding="utf-8")
        if isinstance(found, str):
            assert found.splitlines() == recorded.splitlines()
        else:
            wrong = differences(json.loads(recorded), json.loads(json.dumps(found)))
            assert not wrong, "\n".join([f"{path.name}:", *wrong[:20]])

    return compare


# ---- a data set, and what is trained on it ------------------------------------------------------------------------------------

CLASSES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent", "heart")
EXPERIMENT = "shapes-5-3-ov"
BASE = "--step 0 --bce --no_pretrained --epochs 2"
WEAK = "--step 1 --weakly --affinity --loss_de 1 --lr_policy warmup --pseudo_ep 1 --epochs 2 --web_num 9"
PIXEL = "--step 1 --unce --unkd --loss_kd 10 --epochs 1"


@dataclass(frozen=True)
class Place:
    """A folder with drawn pictures, drawn web images, and runs.

    Attributes:
        here: the folder.
    """

    here: Path

    def checkpoint(self, name: str, step: int) -> Path:
        """Where run.py keeps it."""
        return self.here / "checkpoints/step" / EXPERIMENT / f"{name}_{step}.pth"

    def log(self, name: str) -> Path:
        """Folder of a run's log."""
        return self.here / "logs" / EXPERIMENT / name

    def run(self, name: str, options: str) -> Ended:
        """Train or test; step 1 starts from the base step of the folder."""
        common = (
            f"--name {name} --dataset shapes --task 5-3 --overlap --dataset_dir {self.here}/data --checkpoints {self.here}/checkpoints "
            f"--logdir {self.here}/logs --backbone timm:resnet10t --crop_size 64 --crop_size_val 64 --batch_size 4 "
            "--iters_per_epoch 2 --num_workers 0 --device cpu --sample_num 0"
        )
        web = f"--web --web_path {self.here}/web" if "--web_num" in options else ""
        previous = f"--step_ckpt {self.checkpoint('base', 0)}" if "--step 1" in options else ""
        return call("run.py", *f"{common} {options} {web} {previous}".split())


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Callable[[], Place]:
    """Makes new folders with the same pictures."""
    web = tmp_path_factory.mktemp("pictures") / "web"
    words = f"--web --classes {' '.join(CLASSES)} --per_class 12 --label_noise 0 --other_domain 1 --size 64"
    assert call("-m", "dataset.shapes", "--out", str(web), *words.split()).code == 0

    def make() -> Place:
        here = tmp_path_factory.mktemp("place")
        (here / "data").symlink_to(small_shapes)
        (here / "web").symlink_to(web)
        return Place(here)

    return make


@pytest.fixture(scope="session")
def trained(place: Callable[[], Place]) -> Place:
    """A base step, a weak step with web images, and a discriminator, by the version that is tested."""
    made = place()
    for name, options in (("base", BASE), ("weak", WEAK)):
        ended = made.run(name, options)
        assert ended.code == 0, ended.err
    ended = discriminator(made, made.checkpoint("base", 0))
    # Its network is small and has seen little: at chance it ends with 1.
    assert ended.code in (0, 1) and made.checkpoint("base", 0).with_name("base_0_discriminator.pth").is_file(), (
        ended.err
    )
    return made


def discriminator(made: Place, base: Path, *more: str) -> Ended:
    """Train one for a base step."""
    words = f"--step_ckpt {base} --web_path {made.here}/web --network tf_efficientnet_lite0 --size 64 --epochs 1 --num_workers 0"
    return call("train_discriminator.py", *words.split(), "--device", "cpu", *more)


def select(made: Place, weights: Path, out: Path, *more: str) -> Ended:
    """Select web images by a discriminator and by their captions."""
    words = f"--web_path {made.here}/web --discriminator {weights} --out {out} --trust --num_workers 0 --device cpu"
    captions = f"--web_labels caption --classes {' '.join(CLASSES)}"
    return call("select_web.py", *words.split(), *captions.split(), *more)
