"""Pseudo-labels of a replay tree: what the model sees, in class ids, whole, resumable, and never mixed."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import generate_label
from dataset.replay_tree import claimed_tree, images_of, originals, read_marker
from dataset.shapes import CLASS_NAMES
from dataset.transform import val_transform
from engine.labelling import Labeller, LabelSettings
from modules.localizer import make_localizer
from modules.norm import make_norm
from segmentation_module import make_model
from tests.conftest import ROOT
from tests.replay_trees import images
from utils import checkpoint, distributed
from utils.errors import UserError
from utils.normalisation import NORMALISATIONS
from utils.visualise import palette


@pytest.fixture
def ckpt(odd_ckpt: Path) -> Path:
    return odd_ckpt


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return images(tmp_path / "tree", ["circle", "square"], 3)


def run(line: str) -> int:
    given = generate_label.get_argparser().parse_args([*line.split(), "--device", "cpu", "--num_workers", "0"])
    return generate_label.main(given)


def labels(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.glob("*/label/*"))}


def test_labels_are_what_the_model_sees(ckpt: Path, tree: Path) -> None:
    assert run(f"--ckpt {ckpt} --path {tree} --batch_size 2") == 0
    model = make_model(backbone="timm:resnet10t", output_stride=16, norm_act="iabn", classes=[5, 2], pooling=4).eval()
    model.load_state_dict(checkpoint.load(ckpt)["model_state"])
    ids = np.array([0, 5, 2, 1, 3, 8, 4])
    seen: set[int] = set()
    for pair in (p for folder in originals(tree) for p in images_of(folder)):
        image, label = Image.open(pair.image).convert("RGB"), Image.open(pair.label)
        assert label.mode == "P" and label.size == image.size
        assert np.array_equal(np.array(label.getpalette()).reshape(-1, 3), palette()[: len(label.getpalette()) // 3])
        pixels = NORMALISATIONS["imagenet"].apply(val_transform(None)(image, np.zeros(image.size[::-1], np.uint8))[0])
        with torch.no_grad():
            expected = ids[model(pixels[None]).logits[0].argmax(0).numpy()]
        # A tie may fall differently in a batch.
        assert (np.array(label) == expected).mean() > 0.999
        seen |= set(np.unique(np.array(label)).tolist())
    assert len(seen) > 2
    marker = read_marker(tree)
    assert marker is not None and (marker.task, marker.step) == ("odd", 1)
    assert marker.classes == tuple((int(i), CLASS_NAMES[i]) for i in ids)


def looked_at(ckpt: Path, pixels: torch.Tensor, **settings: object) -> np.ndarray:
    return Labeller(ckpt, LabelSettings(**settings), distributed.start("cpu")).label(pixels)


def test_looks_are_averaged(ckpt: Path) -> None:
    pixels = torch.randint(0, 255, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    plain = looked_at(ckpt, pixels)
    flipped = looked_at(ckpt, pixels, flip=True)
    assert not np.array_equal(plain, flipped)
    mirrored = looked_at(ckpt, pixels.flip(-1), flip=True)[..., ::-1]
    assert (mirrored == flipped).mean() > 0.999, "both looks count the same"
    assert np.array_equal(looked_at(ckpt, pixels, scales=(1.0, 1.0)), plain)
    assert not np.array_equal(looked_at(ckpt, pixels, scales=(0.5, 1.0)), plain)


@pytest.mark.parametrize("binary", [True, False])
def test_unsure_pixels_say_nothing(ckpt: Path, tmp_path: Path, binary: bool) -> None:
    """Sigmoids of a model trained with binary cross entropy, else softmax."""
    state = checkpoint.load(ckpt)
    checkpoint.save(tmp_path / "model.pth", state | {"options": state["options"] | {"bce": binary}})
    pixels = torch.randint(0, 255, (1, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labeller = Labeller(tmp_path / "model.pth", LabelSettings(), distributed.start("cpu"))
    logits = labeller.segmenter.logits(pixels)
    probability = (logits.sigmoid() if binary else logits.softmax(dim=1)).amax(dim=1).numpy()
    threshold = float(np.median(probability))
    unsure = looked_at(tmp_path / "model.pth", pixels, threshold=threshold)
    sure = unsure != 255
    clear = abs(probability - threshold) > 1e-6
    assert 0 < threshold < 1 and np.array_equal(sure[clear], (probability > threshold)[clear])
    assert 0.4 < sure.mean() < 0.6 and np.array_equal(unsure[sure], labeller.label(pixels)[sure])


def test_segmenter_and_localizer_agree(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    """Where their classes differ nobody is sure; labels of a tree say so, and a checkpoint without a localizer is refused."""
    with pytest.raises(UserError, match=r"--agree: .*odd_1.pth holds no localizer"):
        run(f"--ckpt {ckpt} --path {tree} --agree")
    state, weak = checkpoint.load(ckpt), tmp_path / "weak.pth"
    runtime = distributed.start("cpu")
    plain = Labeller(ckpt, LabelSettings(), runtime)
    localizer = make_localizer(plain.model.body.out_channels, 7, make_norm("iabn"))
    checkpoint.save(weak, state | {"localizer": localizer.state_dict()})
    pixels = torch.randint(0, 255, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    agreed = Labeller(weak, LabelSettings(agree=True), runtime)
    look = plain.segmenter.normalisation.apply(pixels)
    with torch.no_grad():
        body = plain.model(look, interpolate=False).features["body"]
        masks = torch.nn.functional.interpolate(localizer.eval()(body), (64, 96), mode="bilinear")
    expected = plain.label(pixels)
    found, other = agreed.label(pixels), agreed.segmenter.ids[masks.argmax(dim=1)].numpy()
    assert 0.01 < (expected == other).mean() < 0.99
    assert (found == np.where(expected == other, expected, 255)).mean() > 0.999
    assert agreed.marker.settings["agree"] and "agree" not in plain.marker.settings
    assert agreed.marker.checkpoint != plain.marker.checkpoint, "the localizer is a part of who labelled"
    checkpoint.save(weak, state | {"localizer": make_localizer(16, 7, make_norm("iabn")).state_dict()})
    with pytest.raises(UserError, match="its localizer is of another network or number of classes"):
        run(f"--ckpt {weak} --path {tree} --agree")


def test_odd_images(ckpt: Path, tree: Path) -> None:
    """Of any size and turned by EXIF; unreadable ones are left out and told."""
    folder = tree / "circle_0/image"
    sizes = {"a": (1, 1), "b": (3, 200), "c": (301, 2), "d": (1500, 40)}
    for name, size in sizes.items():
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    turned = Image.new("RGB", (40, 60), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (40, 60), "blue").save(folder / "upright.jpg")
    (folder / "page.jpg").write_text("<html>")
    assert run(f"--ckpt {ckpt} --path {tree} --max_side 64") == 1
    found = {path.stem: Image.open(path).size for path in (tree / "circle_0/label").iterdir()}
    assert {name: found[name] for name in sizes} == sizes
    assert (found["turned"], found["upright"]) == ((60, 40), (40, 60)) and "page" not in found


@pytest.mark.parametrize("flat", [False, True])
def test_a_stopped_labelling_goes_on(ckpt: Path, tmp_path: Path, flat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = images(tmp_path / "tree", ["circle", "square"], 3, flat=flat)
    original, calls = Labeller.label, []

    def interrupted(self: Labeller, pixels: torch.Tensor) -> np.ndarray:
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, pixels)

    monkeypatch.setattr(Labeller, "label", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(f"--ckpt {ckpt} --path {tree} --batch_size 1")
    assert len(labels(tree)) == 2
    before = {path: path.stat().st_mtime_ns for path in tree.glob("*/label/*")}
    assert run(f"--ckpt {ckpt} --path {tree} --batch_size 1") == 0
    assert len(calls) == 3 + 4, "what was done is not done again"
    assert len(labels(tree)) == 6 and all(path.stat().st_mtime_ns == time for path, time in before.items())
    whole = images(tmp_path / "whole", ["circle", "square"], 3)
    assert run(f"--ckpt {ckpt} --path {whole} --batch_size 1") == 0
    assert labels(whole) == labels(tree)


def test_nothing_is_mixed(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    assert run(f"--ckpt {ckpt} --path {tree}") == 0
    first = labels(tree)
    state = checkpoint.load(ckpt)
    other = tmp_path / "other.pth"
    checkpoint.save(other, state | {"epoch": 7})
    assert run(f"--ckpt {other} --path {tree}") == 0, "the same weights are the same model"
    state["model_state"]["cls.1.bias"] = state["model_state"]["cls.1.bias"] + 3
    checkpoint.save(other, state)
    with pytest.raises(UserError, match=r"was labelled by step 1 of shapes odd \(checkpoint .{8}\), not by step 1 of"):
        run(f"--ckpt {other} --path {tree}")
    with pytest.raises(UserError, match=r"with flip False \(now True\); give another tree, or --relabel"):
        run(f"--ckpt {ckpt} --path {tree} --flip")
    assert labels(tree) == first
    (tree / "circle_0/train_fullPath.txt").touch()
    assert run(f"--ckpt {other} --path {tree} --relabel") == 0
    assert labels(tree).keys() == first.keys() and labels(tree) != first
    assert not (tree / "circle_0/train_fullPath.txt").exists(), "lists of labels that are gone go, too"
    (tree / "labels.json").unlink()
    with pytest.raises(UserError, match=r"holds labels that nobody signed"):
        run(f"--ckpt {ckpt} --path {tree}")


def test_images_without_the_words_of_their_original(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    """Whatever shows one of the classes stays; an original of unknown classes, or without a line, is not asked."""
    assert run(f"--ckpt {ckpt} --path {tree}") == 0
    shown = {p.label.stem: set(np.unique(np.array(Image.open(p.label)))) for p in images_of(tree / "circle_0")}
    every = set.union(*shown.values())
    name = next((i for i in (5, 2, 1, 3, 8, 4) if i in every and not all(i in s for s in shown.values())), None)
    absent = next(i for i in (5, 2, 1, 3, 8, 4) if i not in every or i == name)
    words = tmp_path / "words.txt"
    words.write_text(f"circle_0.png {CLASS_NAMES[absent]} heart \nother.png circle \n")
    assert CLASS_NAMES[absent] != "heart"
    with pytest.raises(UserError, match="words None"):
        run(f"--ckpt {ckpt} --path {tree} --drop_without_words {words}")
    assert run(f"--ckpt {ckpt} --path {tree} --drop_without_words {words} --relabel") == 0
    kept = {stem for stem, ids in shown.items() if ids & {absent, 8}}
    found = {path.stem for path in (tree / "circle_0/label").glob("*.png")}
    dropped = {path.stem for path in (tree / "circle_0/label").glob("*.dropped")}
    assert found == kept and dropped == shown.keys() - kept and dropped
    assert "shows none of" in (tree / f"circle_0/label/{min(dropped)}.dropped").read_text()
    assert len(list((tree / "square_0/label").glob("*.png"))) == 3
    assert run(f"--ckpt {ckpt} --path {tree} --drop_without_words {words}") == 0
    with pytest.raises(UserError, match="no such file"):
        run(f"--ckpt {ckpt} --path {tree} --drop_without_words {tmp_path / 'nowhere'}")


def test_published_checkpoints(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    state = checkpoint.load(ckpt)
    published = tmp_path / "published.pth"
    torch.save(
        {"model_state": {f"module.{k}": v for k, v in state["model_state"].items()}, "best_score": 0.5}, published
    )
    with pytest.raises(UserError, match="give --dataset, --task and --step"):
        run(f"--ckpt {published} --path {tree}")
    with pytest.raises(UserError, match="--task is missing"):
        run(f"--ckpt {published} --path {tree} --dataset shapes")
    task = f"--dataset shapes --task {ckpt.parent / 'odd.json'}"
    with pytest.raises(UserError, match="its weights do not fit timm:resnet10t with 5 classes"):
        run(f"--ckpt {published} --path {tree} {task} --step 0 --backbone timm:resnet10t")
    line = f"{task} --step 1 --backbone timm:resnet10t --crop_size 64"
    assert run(f"--ckpt {published} --path {tree} {line}") == 0
    assert run(f"--ckpt {ckpt} --path {tree}") == 0, "these are the same weights, classes and settings"
    with pytest.raises(UserError, match="says itself what it is"):
        run(f"--ckpt {ckpt} --path {tree} {line}")


def test_two_ranks_label_what_one_does(ckpt: Path, tmp_path: Path) -> None:
    trees = [images(tmp_path / name, ["circle", "square"], 3) for name in ("one", "two")]
    assert run(f"--ckpt {ckpt} --path {trees[0]} --batch_size 1") == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    line = f"generate_label.py --ckpt {ckpt} --path {trees[1]} --device cpu --num_workers 0 --batch_size 1"
    done = subprocess.run(
        [sys.executable, *launcher, *line.split()], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("6 images: 6 labelled") == 1
    assert labels(trees[0]) == labels(trees[1])


def test_a_tree_is_labelled_by_one_at_a_time(ckpt: Path, tree: Path) -> None:
    with claimed_tree(tree):
        with pytest.raises(UserError, match=f"{tree}: another run is at work on it"):
            run(f"--ckpt {ckpt} --path {tree} --relabel")
        assert not (tree / "labels.json").exists() and not list(tree.glob("*/label"))
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        line = f"generate_label.py --ckpt {ckpt} --path {tree} --device cpu --num_workers 0"
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, *launcher, *line.split()],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            # A thread of gloo may abort its process when the peer leaves first (pytorch/gloo issue 514).
            if "Signal 6 (SIGABRT)" not in done.stderr:
                break
        assert done.returncode != 0, done.stderr[-3000:]
        assert "exitcode  : 2" in done.stderr and "exitcode  : 1 " not in done.stderr, done.stderr[-3000:]
        assert "another run is at work" in done.stderr and "generate_label.py: rank 0 cannot go on" in done.stderr
    assert run(f"--ckpt {ckpt} --path {tree}") == 0


def test_a_network_without_numbers_labels_nothing(ckpt: Path, tree: Path) -> None:
    """The greatest of NaN is the first class, background."""
    labeller = Labeller(ckpt, LabelSettings(), distributed.start("cpu"))
    with torch.no_grad():
        labeller.model.cls[0].bias[2] = float("nan")
    with pytest.raises(UserError, match=r"gives no finite numbers with --precision fp32"):
        labeller.label(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))


def test_a_checkpoint_of_nan_labels_nothing(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    state = torch.load(ckpt, weights_only=True)
    state["model_state"]["cls.0.bias"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"nan\.pth: "):
        run(f"--ckpt {tmp_path / 'nan.pth'} --path {tree}")
    assert not labels(tree)


def test_what_is_no_image_though_its_name_says_so(ckpt: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tree / "circle_0/image"
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "00001.jpg").rename(folder / "blank.jpg ")
    assert run(f"--ckpt {ckpt} --path {tree}") == 1
    assert len(labels(tree)) == 5
    said = capsys.readouterr().err
    assert "3 images left out" in said and "blank.jpg ': its name begins or ends with a blank" in said


def test_words_of_originals_in_another_form_of_unicode(
    ckpt: Path, tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    apart = unicodedata.normalize("NFD", "kühe")
    (tree / "circle_0").rename(tree / apart)
    words = tmp_path / "words.txt"
    words.write_text("kühe.png heart zebra \n", encoding="utf-8")
    caplog.set_level("INFO", logger="webwilss")
    assert run(f"--ckpt {ckpt} --path {tree} --drop_without_words {words}") == 0
    assert "1 words are no class of the model and say nothing: zebra" in caplog.text
    assert "1 originals have no line of class words, and are not asked for them: square_0" in caplog.text
    done = [*(tree / apart / "label").iterdir()]
    shows_heart = [8 in np.unique(np.array(Image.open(path))) for path in done if path.suffix == ".png"]
    assert len(done) == 3 and all(shows_heart), "the others are dropped"


def test_bad_values_and_empty_trees(ckpt: Path, tree: Path, tmp_path: Path) -> None:
    for bad, message in (
        ("--scales 0", "--scales"),
        ("--threshold 1", "--threshold 1.0"),
        ("--batch_size 0", "--batch_size"),
    ):
        with pytest.raises(UserError, match=message):
            run(f"--ckpt {ckpt} --path {tree} {bad}")
    (tmp_path / "empty/1").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no image"):
        run(f"--ckpt {ckpt} --path {tmp_path / 'empty'}")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no folder"):
        run(f"--ckpt {ckpt} --path {tmp_path / 'none'}")


def test_bare_command_line(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "generate_label.py", "--ckpt", "nowhere.pth", "--path", str(tree)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr == "generate_label.py: nowhere.pth: no such checkpoint\n"
    code = "import sys, generate_label; generate_label.get_argparser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
