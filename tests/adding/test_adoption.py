"""A model as the step before: its checkpoint, task and names, and images to test on, whoever made their masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from adding.adoption import BASE, TASK, WORDS, Adopted, get_argparser, main, take_truth, write_words
from adding.request import model_digest, whole_path
from captions.formats import read_class_words
from dataset.folder import make
from engine.labelling import wanted_ids
from engine.state import read_state
from segmentation_module import load_segmenter
from tests.adding.test_inputs import picture
from utils.errors import UserError
from utils.images import load_mask

NAMES = {0: "background", 1: "cat", 2: "dog", 3: "cow"}


def mask(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), (12, 16))).save(path)


@pytest.fixture(scope="module")
def lraspp(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small network of torchvision with random weights, and the file of its names."""
    folder = tmp_path_factory.mktemp("lraspp")
    torch.manual_seed(0)
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save(network.state_dict(), folder / "w.pth")
    (folder / "names.txt").write_text("__background__\ncat\ndog\nwall clock\n")
    return f"torchvision:lraspp_mobilenet_v3_large={folder / 'w.pth'}", folder / "names.txt"


def test_a_model_of_another_library_becomes_a_step_of_this_project(tmp_path: Path, lraspp: tuple[str, Path]) -> None:
    model, names = lraspp
    held, out = tmp_path / "held", tmp_path / "adopted"
    picture(held / "1.png")
    (held / "2.png").write_bytes(b"damaged")
    picture(tmp_path / "replay/000001/image/000001.png", 1)
    line = f"--model {model} --class_names {names} --classes cow --held_back {held} --tree {tmp_path / 'replay'} --out {out}"
    given = get_argparser().parse_args([*line.split(), "--device", "cpu"])
    assert main(given) == 1  # A damaged image is left out.
    state = read_state(out / BASE)
    assert state["identity"]["classes"] == [[0, 1, 2, 3]] and state["options"]["backbone"] == "adopted"
    assert json.loads((out / TASK).read_text()) == {"0": [0, 1, 2, 3], "1": [4]}
    source = make(out / "agreement", "val")
    assert source.class_names == {0: "background", 1: "cat", 2: "dog", 3: "wall clock", 4: "cow"}
    own = load_segmenter(out / BASE, device="cpu").predict(held / "1.png").mask
    image, label = source.pair(0)
    assert len(source) == 1 and np.array_equal(np.asarray(label), own) and image.size == (16, 12)
    # Words of names with blanks are read back as these classes.
    assert wanted_ids(out / WORDS, tuple(source.class_names.items()))["000001"] == {1, 2, 3}


def test_digests_and_paths_of_models(tmp_path: Path, lraspp: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = lraspp
    file = Path(model.partition("=")[2])
    monkeypatch.chdir(file.parent)
    assert whole_path("torchvision:lraspp_mobilenet_v3_large=w.pth") == model
    assert whole_path("hub:somebody/something") == "hub:somebody/something"
    before = model_digest(model)
    assert before == model_digest(str(file)) and model_digest("hub:somebody/something") == ""
    (tmp_path / "config.json").write_text("{}")
    other = model_digest(f"smp:{tmp_path}")
    assert other not in ("", before)
    (tmp_path / "config.json").write_text("[]")
    assert model_digest(f"smp:{tmp_path}") != other


# ---- masks of the user's ----------------------------------------------------------------------------------------------


def truth(val: Path, classes: str, *masks: list[int]) -> Path:
    for number, values in enumerate(masks):
        picture(val / f"images/{number}.png", number)
        mask(val / f"masks/{number}.png", values)
    if classes:
        (val / "classes.txt").write_text(classes)
    return val


def test_masks_are_read_by_the_names_of_their_classes(tmp_path: Path) -> None:
    done = Adopted()
    take_truth(truth(tmp_path / "val", "cows\nzebra\ndog\n", [0, 1, 2, 3, 255]), NAMES, tmp_path / "data", done)
    values = load_mask(tmp_path / "data/masks/val/000000.png")
    assert set(values.ravel()[:5].tolist()) == {0, 3, 255, 2} and values.ravel()[:5].tolist() == [0, 3, 255, 2, 255]
    assert done.tested == 1 and "pixels of zebra are left out" in done.notes[0] and "names no cat" in done.notes[1]


def test_masks_without_names_hold_the_model_s_own_ids(tmp_path: Path) -> None:
    done = Adopted()
    take_truth(truth(tmp_path / "val", "", [0, 3, 255]), NAMES, tmp_path / "data", done)
    assert load_mask(tmp_path / "data/masks/val/000000.png").ravel()[:3].tolist() == [0, 3, 255] and not done.notes
    with pytest.raises(UserError, match=r"1\.png: its value 7 is no class; name the classes"):
        take_truth(truth(tmp_path / "other", "", [0, 3], [7]), NAMES, tmp_path / "data2", done)


def test_masks_in_voc_s_layout_are_known_by_it(tmp_path: Path) -> None:
    val = tmp_path / "voc"
    picture(val / "JPEGImages/a.png")
    mask(val / "SegmentationClassAug/a.png", [0, 8, 10, 12, 20])
    (val / "splits").mkdir()
    (val / "splits/val.txt").write_text("/JPEGImages/a.png /SegmentationClassAug/a.png\n")
    take_truth(val, NAMES, tmp_path / "data", Adopted())
    assert load_mask(tmp_path / "data/masks/val/000000.png").ravel()[:5].tolist() == [0, 1, 3, 2, 255]


def test_masks_that_judge_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of them is a class of cat, dog, cow"):
        take_truth(truth(tmp_path / "val", "zebra\n", [1]), NAMES, tmp_path / "data", Adopted())
    with pytest.raises(UserError, match="images/ and masks/ of the same names are needed"):
        take_truth(tmp_path, NAMES, tmp_path / "data", Adopted())
    (tmp_path / "val/masks/0.png").unlink()
    with pytest.raises(UserError, match="no mask for 0"):
        take_truth(tmp_path / "val", NAMES, tmp_path / "data", Adopted())


def test_a_mask_of_another_size_is_left_out(tmp_path: Path) -> None:
    val = truth(tmp_path / "val", "", [1], [2])
    Image.fromarray(np.ones((3, 3), np.uint8)).save(val / "masks/0.png")
    done = Adopted()
    take_truth(val, NAMES, tmp_path / "data", done)
    assert done.tested == 1 and "0.png" in done.faults[0]


def test_names_of_several_words_are_one_word_each(tmp_path: Path) -> None:
    picture(tmp_path / "tree/a/image/a.png")
    write_words(tmp_path / "tree", ["traffic light", "cat"], tmp_path / "words.txt")
    assert read_class_words(tmp_path / "words.txt") == {"a": ["traffic_light", "cat"]}
