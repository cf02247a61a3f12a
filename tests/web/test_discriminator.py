"""Training, saving and loading the discriminator, and the two scripts around it."""

from __future__ import annotations

import csv
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import argparser
import select_web
import train_discriminator
from modules.discriminator import Discriminator, Preprocessing
from tests.conftest import ROOT
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from utils.manifest import open_manifest
from utils.metrics import BinaryScores, binary_scores
from web import discriminator as discriminators
from web import fitting as fittings
from web import quality
from web.examples import Example, dataset_examples, is_held_out, square, web_examples
from web.scoring import read_scores

RUNTIME = Runtime(torch.device("cpu"))
NETWORK = "tf_efficientnet_lite0"
SMALL = Preprocessing(NETWORK, size=64)
RECIPE = fittings.Recipe(epochs=2, batch_size=16, pretrained="none", seed=1)


def examples(step_ckpt: Path, web: Path) -> list[Example]:
    state = discriminators.read_step_checkpoint(step_ckpt)
    own, _ = web_examples(open_manifest(web), state["class_names"][1:])
    return [*dataset_examples(state, None, None), *own]


def test_examples_are_of_step_0(step_ckpt: Path, web_images: Path) -> None:
    state = discriminators.read_step_checkpoint(step_ckpt)
    own = dataset_examples(state, None, None)
    web, others = web_examples(open_manifest(web_images), state["class_names"][1:])
    assert own and all(e.of_dataset and e.path.is_file() for e in own)
    assert (
        {e.class_name for e in web} == set(state["class_names"][1:]) == {"circle", "square", "triangle", "star", "ring"}
    )
    assert others == ["crescent", "cross", "heart"] and len(web) == 5 * 12
    held = sum(is_held_out(e) for e in [*own, *web])
    assert 0 < held < 0.5 * len([*own, *web])


def test_square_keeps_the_scale() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 40, 3), dtype=np.uint8))
    middle = square(image, 40)
    np.testing.assert_array_equal(middle.numpy(), np.asarray(image)[30:70].transpose(2, 0, 1))
    cuts = [square(image, 40, np.random.default_rng(seed)) for seed in range(8)]
    plain = [np.asarray(image)[top : top + 40].transpose(2, 0, 1) for top in range(61)]
    for cut in cuts:
        found = cut.numpy()
        assert any(np.array_equal(found, p) or np.array_equal(found, p[:, :, ::-1]) for p in plain)
    assert len({c.numpy().tobytes() for c in cuts}) > 4


def test_stopped_training_ends_with_the_same_weights(step_ckpt: Path, web_images: Path, tmp_path: Path) -> None:
    found = examples(step_ckpt, web_images)

    def fitting() -> fittings.Fitting:
        return fittings.Fitting(discriminators.make(SMALL, seed=RECIPE.seed), found, RECIPE, RUNTIME, 0)

    whole = fitting()
    fittings.fit(whole, tmp_path / "whole.pth", "key")
    first = fitting()
    first.start(NETWORK)
    first.run_epoch()
    checkpoint.save(tmp_path / "d.pth.part", first.state() | {"key": "key"})
    second = fitting()
    fittings.fit(second, tmp_path / "d.pth", "key")
    assert second.epoch == 2
    for key, value in whole.discriminator.state_dict().items():
        assert torch.equal(value, second.discriminator.state_dict()[key]), key


def test_another_training_is_not_gone_on_with(
    step_ckpt: Path, web_images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitting = fittings.Fitting(discriminators.make(SMALL), examples(step_ckpt, web_images), RECIPE, RUNTIME, 0)
    checkpoint.save(tmp_path / "d.pth.part", fitting.state() | {"key": "other", "epoch": 2})
    with caplog.at_level(logging.WARNING, logger="webwilss"):
        fittings.fit(fitting, tmp_path / "d.pth", "key")
    assert "of another training" in caplog.text and fitting.epoch == 2


def test_an_unreadable_training_image_is_an_error(step_ckpt: Path, web_images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    found = examples(step_ckpt, web_images)
    with pytest.raises(UserError, match=r"broken\.png"):
        fittings.Fitting(discriminators.make(SMALL), [*found, *_training(broken, True)], RECIPE, RUNTIME, 0).start(
            NETWORK
        )
    fitting = fittings.Fitting(discriminators.make(SMALL), [*found, *_training(broken, False)], RECIPE, RUNTIME, 0)
    fitting.start(NETWORK)
    assert list(fitting.unreadable) == [broken]


def _training(path: Path, of_dataset: bool) -> list[Example]:
    """An example of ``path`` that is not held out."""
    found = (Example(path, name, of_dataset) for name in ("circle", "square", "star", "ring", "triangle"))
    return [e for e in found if not is_held_out(e)][:1]


def test_too_few_images(step_ckpt: Path) -> None:
    state = discriminators.read_step_checkpoint(step_ckpt)
    with pytest.raises(UserError, match="0 images of the web"):
        fittings.Fitting(discriminators.make(SMALL), dataset_examples(state, None, None), RECIPE, RUNTIME, 0)


def test_encoder_features(step_ckpt: Path, web_images: Path, tmp_path: Path) -> None:
    state = discriminators.read_step_checkpoint(step_ckpt)
    preprocessing = Preprocessing(NETWORK, features="encoder", size=64)
    path = discriminators.discriminator_path(tmp_path / "base_0.pth")
    recipe = fittings.Recipe(epochs=1, batch_size=16)
    found = examples(step_ckpt, web_images)
    saved = fittings.train(discriminators.make(preprocessing, state), found, recipe, RUNTIME, 0, path, state)
    again = discriminators.load(path, RUNTIME, step_ckpt)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(again.discriminator(images), saved.discriminator(images))
    with pytest.raises(UserError, match="no such checkpoint"):
        discriminators.load(path, RUNTIME)
    first = next(key for key in state["model_state"] if key.startswith("body.") and state["model_state"][key].ndim == 4)
    other = state | {"model_state": state["model_state"] | {first: state["model_state"][first] + 1}}
    with pytest.raises(UserError, match="another step-0 checkpoint"):
        discriminators.load(path, RUNTIME, other)


@pytest.mark.parametrize("name", ["bands", "encoder"])
def test_vectors_are_taken_once_and_a_stopped_training_ends_alike(
    name: str, step_ckpt: Path, web_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = discriminators.read_step_checkpoint(step_ckpt)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    found = [*examples(step_ckpt, web_images), *_training(broken, False)]
    preprocessing = Preprocessing(NETWORK, name, "encoder" if name == "encoder" else "image", size=64)
    prepared: list[int] = []
    whole = Discriminator.prepare

    def counted(self: Discriminator, images: torch.Tensor) -> torch.Tensor:
        prepared.append(len(images))
        return whole(self, images)

    monkeypatch.setattr(Discriminator, "prepare", counted)

    def fitting() -> fittings.Fitting:
        return fittings.Fitting(discriminators.make(preprocessing, state, seed=1), found, RECIPE, RUNTIME, 0)

    first = fitting()
    fittings.fit(first, tmp_path / "whole.pth", "key")
    assert sum(prepared) == 2 * (len(first.train) - 1), "for the mean and deviation, and for all epochs"
    assert list(first.unreadable) == [broken]
    half = fitting()
    half.start(NETWORK)
    half.run_epoch()
    checkpoint.save(tmp_path / "d.pth.part", half.state() | {"key": "key"})
    second = fitting()
    fittings.fit(second, tmp_path / "d.pth", "key")
    for key, value in first.discriminator.state_dict().items():
        assert torch.equal(value, second.discriminator.state_dict()[key]), key


@pytest.mark.parametrize("name", ["bands", "encoder"])
def test_a_selection_by_another_input(
    name: str, step_ckpt: Path, candidates: Path, tmp_path: Path, web_images: Path
) -> None:
    weights = tmp_path / "d.pth"
    line = train_line(step_ckpt, web_images, weights, f"--input {name} --lr 0.01")
    assert script(train_discriminator.main, train_discriminator.get_argparser, line) == 0
    select = select_line(candidates, candidates / "s.csv", f"--discriminator {weights} --step_ckpt {step_ckpt}")
    assert script(select_web.main, select_web.get_argparser, select) == 0
    rows = read(candidates / "s.csv")
    scenes = np.array(["scene" in row["path"] for row in rows])
    assert binary_scores(np.array([float(row["p_ds"]) for row in rows]), scenes).auc > 0.8


def test_the_word_of_before_is_taken() -> None:
    parser = train_discriminator.get_argparser()
    for word, name in (("amplitude", "spectrum"), ("pixels", "pixels")):
        assert parser.parse_args(["--step_ckpt", "a", "--web_path", "b", "--source", word]).input == name


def script(main: object, parser: object, line: str) -> int:
    return main(parser().parse_args(line.split()))


def train_line(step_ckpt: Path, web: Path, out: Path, more: str = "") -> str:
    return (
        f"--step_ckpt {step_ckpt} --web_path {web} --out {out} --network {NETWORK} --pretrained imagenet --size 64 "
        f"--epochs 4 --batch_size 16 --num_workers 0 --device cpu {more}"
    )


@pytest.fixture(scope="module")
def trained(step_ckpt: Path, web_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("discriminator") / "d.pth"
    line = train_line(step_ckpt, web_images, out)
    assert script(train_discriminator.main, train_discriminator.get_argparser, line) == 0
    return out


def test_drawings_are_told_from_scenes(trained: Path) -> None:
    saved = discriminators.load(trained, RUNTIME)
    assert saved.scores.auc > 0.95 and saved.scores.accuracy > 0.85
    assert saved.classes == ("circle", "ring", "square", "star", "triangle")
    assert not trained.with_name(trained.name + ".part").exists()
    assert "web circle" in quality.report(saved) or "web ring" in quality.report(saved)


@pytest.fixture
def candidates(small_shapes: Path, web_images: Path, tmp_path: Path) -> Path:
    """Half scenes of the training data's kind, half flat drawings, of classes that the discriminator never saw."""
    folder = tmp_path / "candidates"
    for name in ("heart", "cross"):
        (folder / name).mkdir(parents=True)
        for number, path in enumerate(sorted((web_images / name).iterdir())[:8]):
            (folder / name / f"drawn{number}.jpg").write_bytes(path.read_bytes())
    for number, path in enumerate(sorted((small_shapes / "images/val").iterdir())[:8]):
        (folder / ("heart" if number % 2 else "cross") / f"scene{number}.png").write_bytes(path.read_bytes())
    return folder


def select_line(candidates: Path, out: Path, more: str) -> str:
    return f"--web_path {candidates} --out {out} --num_workers 0 --device cpu {more}"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_selection_of_unseen_classes(trained: Path, candidates: Path, tmp_path: Path) -> None:
    out = candidates / "selected.csv"
    line = select_line(candidates, out, f"--discriminator {trained}")
    assert script(select_web.main, select_web.get_argparser, line) == 0
    rows = read(out)
    assert len(rows) == 24 and all((candidates / row["path"]).is_file() for row in rows)
    scenes = np.array(["scene" in row["path"] for row in rows])
    assert binary_scores(np.array([float(row["p_ds"]) for row in rows]), scenes).auc > 0.9
    for row in rows:
        assert (float(row["p_ds"]) > float(row["p_web"])) == (float(row["ratio"]) > 1) == (row["kept"] == "1")
    assert sorted(p.name for p in (candidates / "sheets").iterdir()) == ["cross.html", "heart.html"]


def test_a_stopped_scoring_goes_on(trained: Path, candidates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from web import scoring

    out = candidates / "selected.csv"
    line = select_line(candidates, out, f"--discriminator {trained} --batch_size 5")
    whole = scoring.score_batch
    calls: list[int] = []

    def breaks(*args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(scoring, "score_batch", breaks)
    with pytest.raises(KeyboardInterrupt):
        script(select_web.main, select_web.get_argparser, line)
    (cache,) = candidates.glob("selected.scores-*.csv")
    assert (~np.isnan(read_scores(cache, 24).log_ratio)).sum() == 10 and not out.exists()
    with cache.open("a") as file:
        file.write("11,0.")
    script(select_web.main, select_web.get_argparser, line)
    assert len(calls) == 3 + 3, "14 images in batches of 5 were left"
    first = read(out)
    cache.unlink()
    script(select_web.main, select_web.get_argparser, line)
    assert read(out) == first


def test_scores_do_not_depend_on_the_workers(trained: Path, candidates: Path) -> None:
    found = []
    for workers in (0, 2):
        out = candidates / f"s{workers}.csv"
        line = f"--web_path {candidates} --out {out} --device cpu --num_workers {workers} --discriminator {trained}"
        script(select_web.main, select_web.get_argparser, line)
        found.append({row["path"]: float(row["p_ds"]) for row in read(out)})
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_bad_images_and_empty_classes_are_told(
    trained: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (candidates / "heart" / "broken.jpg").write_bytes(b"<html>sorry</html>")
    more = f"--discriminator {trained} --classes heart cross circle --ratio 1e300"
    assert script(select_web.main, select_web.get_argparser, select_line(candidates, candidates / "s.csv", more)) == 1
    said = capsys.readouterr().err
    assert "1 of 25 images cannot be used" in said and "is a web page" in said
    assert "no candidate for circle" in said and "nothing is kept of heart" in said
    (row,) = (row for row in read(candidates / "s.csv") if "broken" in row["path"])
    assert row["kept"] == "0" and "is a web page" in row["reason"]


def test_captions_alone(web_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(web_images / "manifest.csv")
    rows[0]["caption"] = "nothing of the kind"
    rows[1]["path"] = "circle/moved.jpg"
    moved = tmp_path / "moved.csv"
    with moved.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"path": str(web_images / row["path"])} for row in rows)
    names = "circle square triangle star ring cross crescent heart"
    line = f"--web_path {moved} --out {tmp_path}/s.csv --web_labels caption --device cpu --classes {names}"
    assert script(select_web.main, select_web.get_argparser, line) == 1
    found = read(tmp_path / "s.csv")
    assert found[0]["kept"] == "0" and "does not name circle" in found[0]["reason"]
    assert found[1]["kept"] == "0" and "no such file" in found[1]["reason"]
    assert sum(row["kept"] == "1" for row in found) >= 0.95 * len(found)
    assert "circle/moved.jpg: no such file" in capsys.readouterr().err


def test_a_discriminator_at_chance_is_refused(trained: Path, candidates: Path, tmp_path: Path) -> None:
    state = checkpoint.load(trained)
    state["scores"]["auc"] = 0.55
    poor = tmp_path / "poor.pth"
    checkpoint.save(poor, state)
    line = select_line(candidates, candidates / "s.csv", f"--discriminator {poor}")
    with pytest.raises(UserError, match="hardly better than chance"):
        script(select_web.main, select_web.get_argparser, line)
    assert script(select_web.main, select_web.get_argparser, line + " --trust") == 0


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("select_web.py", "--web_path nowhere --out s.csv --discriminator d.pth", "nowhere: no such manifest"),
        ("select_web.py", "--web_path {web} --out s.csv", "nothing to select by"),
        ("select_web.py", "--web_path {web} --out s.txt --discriminator d.pth", "ends in .csv"),
        ("select_web.py", "--web_path {web} --out s.csv --discriminator no.pth", "no.pth: no such checkpoint"),
        ("select_web.py", "--web_path {web} --out s.csv --discriminator {step}", "not a discriminator"),
        ("select_web.py", "--web_path {web} --out s.csv --web_labels caption", "needs --classes"),
        ("train_discriminator.py", "--step_ckpt no.pth --web_path {web}", "no.pth: no such checkpoint"),
        ("train_discriminator.py", "--step_ckpt {step} --web_path nowhere", "nowhere: no such manifest"),
        ("train_discriminator.py", "--step_ckpt {step} --web_path {web} --size 3", "--size 3"),
        ("train_discriminator.py", "--step_ckpt {step} --web_path {web} --input bands --band low", "--band low: is of"),
        ("train_discriminator.py", "--step_ckpt {step} --web_path {web} --network nonet", "--network nonet"),
        ("train_discriminator.py", "--step_ckpt {step} --web_path {web} --epochs 0", "--epochs 0"),
    ],
)
def test_bad_input_is_one_line(
    name: str, line: str, said: str, step_ckpt: Path, web_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {"select_web.py": select_web, "train_discriminator.py": train_discriminator}[name]
    arguments = line.format(web=web_images, step=step_ckpt).split()
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        module.main(module.get_argparser().parse_args(arguments))


# ---- its file -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(step_ckpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discriminator's file with random weights, beside its step-0 checkpoint."""
    folder = tmp_path_factory.mktemp("file")
    (folder / "base_0.pth").write_bytes(step_ckpt.read_bytes())
    path = folder / "base_0_discriminator.pth"
    discriminators.save(
        path,
        discriminators.make(SMALL),
        discriminators.read_step_checkpoint(step_ckpt),
        recipe={"epochs": 1},
        scores=BinaryScores(0.9, 0.9, 0.1, 5, 5),
        by_class={"web circle": 1.0},
        classes=["circle", "ring"],
    )
    assert discriminators.load(path, RUNTIME).scores.auc == 0.9
    return path


def test_a_discriminator_of_other_classes_than_its_checkpoint_is_refused(untrained: Path, tmp_path: Path) -> None:
    state = checkpoint.load(untrained.with_name("base_0.pth"))
    other = tmp_path / "base_0.pth"
    path = tmp_path / untrained.name
    path.write_bytes(untrained.read_bytes())
    checkpoint.save(other, state | {"class_names": ["background", "apple", *state["class_names"][2:]]})
    words = f"{path}: made for another step-0 checkpoint: class 1 is circle there and apple here"
    with pytest.raises(UserError, match=words):
        discriminators.load(path, RUNTIME)
    other.rename(tmp_path / "elsewhere.pth")
    assert discriminators.load(path, RUNTIME).classes == ("circle", "ring"), "nothing lies beside it"
    with pytest.raises(UserError, match=words):
        discriminators.load(path, RUNTIME, tmp_path / "elsewhere.pth")
    # Those of version 0.1.0 name the classes that they have seen alone.
    saved = checkpoint.load(path)
    del saved["class_names"]
    checkpoint.save(path, saved)
    with pytest.raises(UserError, match="another step-0 checkpoint: it knows circle, which is no class of that"):
        discriminators.load(path, RUNTIME, tmp_path / "elsewhere.pth")
    assert discriminators.load(path, RUNTIME, untrained.with_name("base_0.pth")).classes == ("circle", "ring")


def test_images_of_other_classes_than_the_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("hammer\nsaw\n")
    options = argparser.parse(f"--dataset folder --dataset_dir {tmp_path} --task offline".split()).plain()
    state = {"options": options, "identity": {"classes": [[0, 1, 2]]}, "class_names": ["background", "apple", "saw"]}
    with pytest.raises(UserError, match=f"{tmp_path}: class 1 is apple there and hammer here"):
        dataset_examples(state, None, None)


def test_every_field_of_another_type_is_refused(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and never another error; also where a field is missing."""
    saved = checkpoint.read(untrained)
    odd = (None, True, -1, 1.5, "x", [], [1], {}, {"a": 1}, {1: "a"}, torch.ones(2), {"w": torch.ones(2)})
    fits = {"encoder": (None, "x"), "classes": ([],), "by_class": ({}, {"a": 1}), "kind": (), "preprocessing": ({},)}
    free = ("recipe",)
    for name in saved:
        for value in (*odd, ...):
            changed = {key: one for key, one in saved.items() if key != name} | ({} if value is ... else {name: value})
            monkeypatch.setattr(
                checkpoint, "read", lambda path, *_, changed=changed: torch.load(path) if path != untrained else changed
            )
            monkeypatch.setattr(discriminators, "step_checkpoint_beside", lambda path: path)
            try:
                discriminators.load(untrained, RUNTIME)
            except UserError as error:
                assert str(untrained) in str(error) or name == "preprocessing", f"{name} = {value!r}: {error}"
                assert str(error).isprintable()
            else:
                allowed = [one for one in fits.get(name, ()) if type(one) is type(value) and one == value]
                missing = value is ... and name in ("format", "recipe", "class_names")
                assert name in free or allowed or missing, f"{name} = {value!r} is taken"


def test_a_damaged_half_trained_file_is_one_line(step_ckpt: Path, web_images: Path, tmp_path: Path) -> None:
    fitting = fittings.Fitting(discriminators.make(SMALL), examples(step_ckpt, web_images), RECIPE, RUNTIME, 0)
    part = tmp_path / "d.pth.part"
    state = fitting.state() | {"key": "key"}
    for change in (
        {"optimizer": {}},
        {"scheduler": {}},
        {"epoch": "x"},
        {"model_state": {"w": torch.ones(1)}},
        {"optimizer": None},
    ):
        torch.save(state | change, part)
        with pytest.raises(UserError, match=f"{part}: damaged"):
            fittings.fit(fitting, tmp_path / "d.pth", "key")


def test_scripts_answer_without_a_traceback(tmp_path: Path) -> None:
    for name in ("select_web.py --out s.csv --discriminator d.pth", "train_discriminator.py --step_ckpt s.pth"):
        line = [sys.executable, *name.split(), "--web_path", str(tmp_path / "nowhere")]
        found = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
        assert found.returncode == 2 and found.stderr.count("\n") == 1 and "Traceback" not in found.stderr
