"""README's "Where do I add ...": a file and a registry line are all that a new one of each kind takes; then its script runs it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import collect_web
import generate_caption
import generate_label
import run
import tasks
from captions import filters, nouns, similarity
from captions.captioners import CAPTIONERS
from dataset import SOURCES as DATA_SETS
from modules.adopted import LIBRARIES
from modules.description import Description
from segmentation_module import load_segmenter, make_segmenter
from utils import measure_noun
from utils.errors import UserError
from utils.manifest import open_manifest
from utils.names import BODIES, METHODS, NORMS
from web.sources import SOURCES as WEB_SOURCES

DATA_SET = """
from dataset.source import Source

CLASS_NAMES = {0: "background", 1: "left", 2: "right"}


def make(folder, split, step=0):
    images = sorted((folder / split).glob("*.jpg"))
    return Source(f"halves {split}", CLASS_NAMES, [(p, p.with_suffix(".png")) for p in images], [p.stem for p in images])
"""
BACKBONE = """
from torch import nn

from modules.bodies import Body


class TwoLayers(Body):
    out_channels, mid_channels, image_stats = 6, 4, "half"

    def __init__(self, output_stride, norm):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), norm(4))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, stride=output_stride // 8, padding=1), norm(6))

    def forward(self, images):
        mid = self.first(images)
        return self.second(mid), mid


def make(name, output_stride, norm):
    return TwoLayers(output_stride, norm)
"""
NORM = """
from torch import nn


class Smooth(nn.BatchNorm2d):
    activation, activation_param = "gelu", 0.0

    def forward(self, x):
        x = super().forward(x)
        return x if self.activation == "identity" else nn.functional.gelu(x)


def make(name):
    return Smooth
"""
SQUARED = """
from dataclasses import dataclass

from torch.nn import functional


@dataclass(frozen=True)
class Squared:
    total: int
    needs_teacher: bool = False
    needs_localizer: bool = False

    @classmethod
    def from_options(cls, options, old, total, names):
        return cls(total)

    def losses(self, batch, student, teacher, moment):
        masks = batch.masks.clamp(max=self.total - 1)
        target = functional.one_hot(masks, self.total).movedim(-1, 1).float()
        size = target.shape[-2:]
        return {"squared": functional.mse_loss(functional.interpolate(student.logits, size=size), target)}
"""
CAPTIONER = """
class Brightness:
    def __init__(self, settings):
        self.words = settings.prompt or "a picture"
        self.origin = {"captioner": "brightness", "words": self.words}

    def caption_files(self, paths):
        return [f"{self.words} of {path.stat().st_size} bytes" for path in paths]


def make(settings, runtime):
    return Brightness(settings)
"""
WEB_SOURCE = """
from pathlib import Path

from utils.errors import UserError
from web.candidate import Candidate


def check(argument, client):
    if not argument:
        raise UserError("--source beside: needs a folder")


def search(argument, query, client):
    for path in sorted(Path(argument).glob(f"{query.name}*.jpg")):
        yield Candidate(path.as_uri(), "beside", path, f"a {query.text}")
"""
SIMILARITY = """
import numpy as np

from captions.similarity import Similarity


class FirstLetter(Similarity):
    def _distinct(self, words_a, words_b):
        return np.array([[float(a[0] == b[0]) for b in words_b] for a in words_a])
"""

LIBRARY = """
import torch
from torch import nn

from modules.adopted.parts import Found, Parts, adopted
from utils.normalisation import NORMALISATIONS


class Body(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Conv2d(3, width, 8, stride=8)

    def forward(self, images):
        return [self.layer(images)]


class Head(nn.Module):
    def forward(self, maps):
        return maps[-1].relu()


def make(architecture, classes):
    width = architecture["width"]
    return Parts(Body(width), Head(), nn.Conv2d(width, classes, 1), width)


def adopt(source, settings):
    saved = torch.load(source, weights_only=True)
    architecture = {"width": len(saved["body"]["layer.weight"])}
    parts = make(architecture, len(saved["names"]))
    parts.body.load_state_dict(saved["body"])
    parts.classifier.load_state_dict(saved["last"])
    found = Found("one_layer", architecture, parts, saved["names"], NORMALISATIONS["half"], multiple=8)
    return adopted(found, settings, f"one_layer:{source}")
"""

Add = Callable[[str, str], str]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Put a file into a package, as far as imports can see; gone after the test."""
    added = []

    def write(module: str, text: str) -> str:
        package, _, name = module.rpartition(".")
        folder = tmp_path / "added" / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(f"from __future__ import annotations\n{text}", encoding="utf-8")
        places = importlib.import_module(package).__path__
        if str(folder) not in places:
            places.append(str(folder))
        importlib.invalidate_caches()
        added.append((package, name, str(folder)))
        return module

    yield write
    for package, name, path in added:
        parent = sys.modules[package]
        if path in parent.__path__:
            parent.__path__.remove(path)
        sys.modules.pop(f"{package}.{name}", None)
        if hasattr(parent, name):
            delattr(parent, name)


def picture(path: Path, seed: int, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST).save(path, quality=95)
    return path


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Images whose left half is class 1 and whose right half is class 2."""
    mask = np.repeat(np.array([[1, 2]], dtype=np.uint8), 32, axis=1).repeat(64, axis=0)
    for split, numbers in (("train", range(8)), ("val", range(8, 10))):
        for index in numbers:
            Image.fromarray(mask).save(picture(tmp_path / f"halves/{split}/{index}.jpg", index).with_suffix(".png"))
    return tmp_path / "halves"


def refused_value(line: str) -> bool:
    with pytest.raises(SystemExit) as caught:
        argparser.parse(line.split())
    return caught.value.code == 2


def test_data_set_backbone_norm_and_method(
    add: Add, halves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBWILSS_CACHE", str(tmp_path / "cache"))
    words = {"dataset": "halves", "backbone": "two_layers", "norm_act": "smooth", "method": "squared"}
    for option in ("dataset", "backbone", "norm_act"):
        assert refused_value(f"--{option} {words[option]}")
    with pytest.raises(
        UserError, match=r"--method squared: unknown; choose one of supervised, plop, ssul, weak, rasp$"
    ):
        argparser.parse(["--method", "squared"])

    monkeypatch.setitem(DATA_SETS, "halves", add("dataset.halves", DATA_SET))
    monkeypatch.setitem(tasks.TASKS, "halves", {"both": [[0, 1, 2]]})
    monkeypatch.setitem(BODIES, "two_layers", add("modules.two_layers", BACKBONE))
    monkeypatch.setitem(NORMS, "smooth", add("modules.smooth", NORM))
    monkeypatch.setitem(METHODS, "squared", f"{add('methods.squared', SQUARED)}:Squared")
    page = argparser.get_argparser().format_help()
    assert all(word in page for word in words.values())

    line = (
        f"--dataset halves --dataset_dir {halves} --task both --backbone two_layers --norm_act smooth --method squared "
        f"--no_pretrained --name new --crop_size 64 --crop_size_val 64 --batch_size 4 --epochs 1 --num_workers 0 --device cpu "
        f"--checkpoints {tmp_path}/checkpoints --logdir {tmp_path}/logs"
    )
    assert run.main(argparser.parse(line.split())) == 0
    assert run.main(argparser.parse([*line.split(), "--test"])) == 0

    path = tmp_path / "checkpoints/step/halves-both/new_0.pth"
    weights = torch.load(path, weights_only=True)["model_state"]
    assert weights["body.second.0.weight"].shape == (6, 4, 3, 3)
    assert weights["head.map_bn.num_batches_tracked"] == 2, "the new norm has seen the two batches"
    logged = [json.loads(row) for row in (tmp_path / "logs/halves-both/new/scalars.jsonl").read_text().splitlines()]
    assert any("squared" in str(row) for row in logged)

    picture(tmp_path / "tree/one/image/1.jpg", 0)
    label = f"--ckpt {path} --path {tmp_path}/tree --device cpu --num_workers 0"
    assert generate_label.main(generate_label.get_argparser().parse_args(label.split())) == 0
    assert (tmp_path / "tree/one/label/1.png").is_file()


def test_captioner(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(tmp_path / "images/1.jpg", 0)
    out = tmp_path / "captions.txt"
    line = f"{image.parent} {out} --captioner brightness --prompt photo --device cpu"
    with pytest.raises(SystemExit):
        generate_caption.get_argparser().parse_args(line.split())
    monkeypatch.setitem(CAPTIONERS, "brightness", add("captions.captioners.brightness", CAPTIONER))
    assert generate_caption.main(generate_caption.get_argparser().parse_args(line.split())) == 0
    assert f"photo of {image.stat().st_size} bytes" in out.read_text()


def test_source_of_web_images(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        picture(tmp_path / f"here/cow{number}.jpg", number, size=96)
    line = f"--classes cow --out {tmp_path}/web --source beside:{tmp_path}/here"
    given = collect_web.get_argparser().parse_args(line.split())
    with pytest.raises(UserError, match="unknown; choose one of list, openverse"):
        collect_web.main(given)
    monkeypatch.setitem(WEB_SOURCES, "beside", add("web.sources.beside", WEB_SOURCE))
    assert collect_web.main(given) == 0
    assert [(row["class"], row["caption"]) for row in open_manifest(tmp_path / "web")] == [("cow", "a cow")] * 3


def test_similarity(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nouns").mkdir()
    (tmp_path / "nouns/one.txt").write_text("1.jpg duck \n2.jpg cat \n3.jpg door \n")
    (tmp_path / "classes.txt").write_text("one.png dog \n")
    line = (
        f"filter_replay_with_NN --nouns {tmp_path}/nouns --classes {tmp_path}/classes.txt --out {tmp_path}/kept "
        "--similarity letter"
    ).split()
    assert measure_noun.main(line) == 2
    monkeypatch.setitem(
        similarity.SIMILARITIES, "letter", importlib.import_module(add("captions.letter", SIMILARITY)).FirstLetter
    )
    monkeypatch.setitem(filters.RULES, "letter", replace(filters.RULES["wup"], threshold=0.5))
    assert measure_noun.main(line) == 0
    assert (tmp_path / "kept/one.txt").read_text().split() == ["1.jpg", "3.jpg"]


def test_tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "captions.txt").write_text("1.jpg quickly a dog\n")

    def every_word() -> nouns.Tags:
        return lambda words: [nouns.SINGULAR for _ in words]

    line = f"generate_NN --captions {tmp_path}/captions.txt --out {tmp_path}/nouns.txt --tagger all".split()
    assert measure_noun.main(line) == 2
    monkeypatch.setitem(nouns.TAGGERS, "all", every_word)
    assert measure_noun.main(line) == 0
    assert (tmp_path / "nouns.txt").read_text().split() == ["1.jpg", "quickly", "a", "dog"]


def test_library_of_segmenters(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    body, last = torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Conv2d(4, 3, 1)
    parts = {"layer.weight": body.weight.detach(), "layer.bias": body.bias.detach()}
    saved = {"names": ["cow", "background", "dog"], "body": parts, "last": dict(last.state_dict())}
    torch.save(saved, tmp_path / "theirs.pt")
    model = f"one_layer:{tmp_path / 'theirs.pt'}"
    with pytest.raises(UserError, match="one_layer"):
        load_segmenter(model, device="cpu")
    monkeypatch.setitem(LIBRARIES, "one_layer", add("modules.adopted.one_layer", LIBRARY))
    segmenter = load_segmenter(model, device="cpu")
    assert segmenter.description.names == {0: "background", 1: "cow", 2: "dog"}
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    pixels = (torch.from_numpy(image).movedim(-1, 0)[None] / 255 - 0.5) / 0.5
    theirs = torch.nn.functional.interpolate(last(body(pixels).relu()), (16, 24), mode="bilinear").argmax(1)[0]
    assert np.array_equal(segmenter.predict(image).mask, np.array([1, 0, 2])[theirs.numpy()])
    description = Description.from_plain(json.loads(json.dumps(segmenter.description.plain())), "a checkpoint")
    make_segmenter(description).load_state_dict(segmenter.model.state_dict())
