"""The web benchmark: what it adds to the experiment, and the numbers of its page."""

from __future__ import annotations

import csv
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import argparser
from benchmarks import web
from benchmarks.readme import PAGES, quoted
from benchmarks.web import (
    MAKE,
    TRAINED,
    UNFILTERED,
    Choices,
    Judgement,
    describe,
    judge,
    main,
    manifests,
    read_experiment,
    shown_commands,
    transfer,
    weights,
)
from experiments.__main__ import get_argparser, make_runner
from experiments.plan import Experiment
from experiments.runner import Runner
from experiments.stage import check
from tests.benchmarks.work_folder import add, end_stages, row, write_voc
from tests.experiments.parsers import PARSERS
from utils.errors import UserError

CHOICES = Choices((3, 5), (3, 5), 0.01, 2, "captions")
# Class, true class, domain, and whether a selection kept it.
CANDIDATES = [
    ("cow", "cow", "photo", "1", "10"),
    ("cow", "cow", "photo", "0", "0.1"),
    ("cow", "cow", "drawing", "1", "1000"),
    ("sheep", "sheep", "photo", "1", "1"),
    ("sheep", "cat", "photo", "1", "0.01"),
    ("sheep", "none", "drawing", "0", "100"),
    ("sheep", "sheep", "photo", "0", ""),
]
SCORES = {f"{word} {key}": 0.9 for word in ("seen", "unseen") for key in ("accuracy", "AUC", "calibration error")}


def write_candidates(path: Path, columns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "true_class", "domain", "kept", "ratio")[: columns + 1])
        writer.writerows((f"{i}.jpg", *cells[:columns]) for i, cells in enumerate(CANDIDATES))


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """What two commands leave, without their networks."""
    work = tmp_path / "work"
    end_stages(work, tmp_path / "data", ["WILSON", "raw-web", "discriminator"], [3, 5])
    own = work / "web-benchmark"
    for seed in (3, 5):
        for arm, place, new in (("WILSON", work, 0.3), ("raw-web", work, 0.1), ("selected", own, 0.4)):
            more = (seed - 3) / 20
            add(place, row(f"{arm}-{seed}", 1, [0.9, 0.5, 0.5, 0.5, 0.5, new + more, new + more]))
    experiment = read_experiment(work, (3, 5))
    for name, path in manifests(experiment, CHOICES).items():
        write_candidates(path, 3 if name == UNFILTERED else 5)
    return experiment


def test_every_command_is_accepted(experiment: Experiment) -> None:
    stages = describe(experiment, CHOICES)
    check(stages)
    runs = []
    for path in [path for stage in stages for path in (*stage.needs, *stage.makes)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    for stage in stages:
        command = [*stage.command, *stage.speed]
        if command[0] == "run.py":
            options = argparser.parse(command[1:])
            assert stage.makes == (options.checkpoint_path(options.step),)
            runs.append(options)
        else:
            PARSERS[command[0]]().parse_args(command[1:])
    assert [(options.name, options.step) for options in runs] == [("selected-3", 1), ("selected-5", 1)]
    names = [stage.name for stage in stages]
    assert names[:2] == ["pixels-3", "pixels-5"] and sum(name.startswith("select-") for name in names) == 7


def test_what_it_needs_is_made_by_the_command_that_it_names(tmp_path: Path, experiment: Experiment) -> None:
    given = get_argparser().parse_args([*shlex.split(MAKE)[3:], "--work", str(experiment.work), "--seeds", "3", "5"])
    given.data = tmp_path / "data"
    made = {path for stage in make_runner(given, []).stages for path in stage.makes}
    own = {path for stage in describe(experiment, CHOICES) for path in stage.makes}
    needs = {path for stage in describe(experiment, CHOICES) for path in stage.needs}
    assert not own & made, "the experiment's files are its own"
    assert needs - made == {tmp_path / "data/voc-animals", tmp_path / "data/web-animals"}
    assert {weights(experiment, "amplitude", seed) for seed in (3, 5)} <= made


def test_training_differs_from_wilson_in_its_images_alone(experiment: Experiment) -> None:
    own = {stage.name: stage for stage in describe(experiment, CHOICES)}["selected-3"]
    wilson = next(run for run in web.read_history(experiment.work).of("WILSON", 1) if run.seed == 3)
    parser = argparser.get_argparser()
    first, second = (vars(parser.parse_args(list(command[1:]))) for command in (wilson.command, own.command))
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"name", "web", "web_path", "logdir", "checkpoints"}
    assert second["web_path"] == str(experiment.work / "web-benchmark/captions/selected.csv")
    assert own.after == ("select-captions",)


def test_right_is_what_shows_its_class_and_is_no_drawing(experiment: Experiment) -> None:
    paths = manifests(experiment, CHOICES)
    assert judge(paths["captions"]) == Judgement(precision=2 / 4, recall=2 / 4, kept=4 / 7)
    assert judge(paths[UNFILTERED]) == Judgement(precision=4 / 7, recall=1.0, kept=1.0)
    none = paths["captions"]
    none.write_text("path,class,true_class,domain,kept\na,cow,cow,photo,0\n")
    assert math.isnan(judge(none).precision) and judge(none).recall == 0


def test_the_page(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(file: Path, *_: Path) -> dict[str, float]:
        lost = 0.1 if file.name.startswith("pixels") else 0.02
        return SCORES | {"unseen AUC": 0.9 - lost, "seen accuracy": 0.8 if "3" in file.name else 0.9}

    monkeypatch.setattr(web, "transfer", scores)
    monkeypatch.setattr(Runner, "run", lambda self: 0)
    with pytest.raises(UserError, match=r"base-3_0\.pth: is missing; python -m experiments animals .* --seeds 3 5"):
        call(experiment, tmp_path)
    for seed in (3, 5):
        for path in (experiment.checkpoint(f"base-{seed}", 0), weights(experiment, "amplitude", seed)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert call(experiment, tmp_path) == 0
    text = (tmp_path / "web.md").read_text(encoding="utf-8").splitlines()
    for line in (
        "| input | seen accuracy | seen AUC | seen calibration error | unseen accuracy | unseen AUC "
        "| unseen calibration error |",
        "| amplitude | 0.850 ± 0.071 | 0.900 ± 0.000 | 0.900 ± 0.000 | 0.900 ± 0.000 | 0.880 ± 0.000 | 0.900 ± 0.000 |",
        "From seen to unseen classes the area under the curve falls by 0.020 on amplitude spectra and by 0.100 on "
        "pixels (negative: it rises).",
        "| selection | precision | recall | kept |",
        "| no filter | 0.571 | 1.000 | 1.000 |",
        "| captions and pixel discriminator, ratio > 0.01 | 0.500 | 0.500 | 0.571 |",
        # log10 of 10, 0.1 and 1; of 0.01; of 1000 and 100.
        "| right photographs | -0.50 | 0.00 | 0.50 |",
        "| other photographs | -2.00 | -2.00 | -2.00 |",
        "| drawings | 2.25 | 2.50 | 2.75 |",
        "## Step 1 of 4-2 on web images alone (captions; 25 iterations an epoch in every line)",
        "| web images as they came | 50.0 ± 0.0 | 15.0 ± 7.1 | 45.7 ± 2.0 | 22.6 ± 8.4 |",
        "| web images selected | 50.0 ± 0.0 | 45.0 ± 7.1 | 54.3 ± 2.0 | 47.2 ± 3.9 |",
        "| photographs of the data set (WILSON) | 50.0 ± 0.0 | 35.0 ± 7.1 | 51.4 ± 2.0 | 41.0 ± 4.9 |",
    ):
        assert line in text, line
    assert quoted(tmp_path / "web.md", PAGES["web.md"]) == "captions: precision 0.500, recall 0.500, kept 0.571"
    commands = text[text.index("```") + 1 : -1]
    assert commands == shown_commands(experiment, CHOICES) and not any(str(tmp_path) in line for line in commands)
    assert len(commands) == 1 + 1 + 7 + 1


def call(experiment: Experiment, folder: Path, *more: str) -> int:
    line = "--seeds 3 5 --discriminator_seeds 3 5 --keep 2 --train_on captions"
    return main(["--work", str(experiment.work), "--out", str(folder / "web.md"), *line.split(), *more])


def test_a_dry_run_runs_nothing(experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(experiment, tmp_path, "--dry_run") == 0
    shown = capsys.readouterr()
    assert sum(line.startswith("+ python ") for line in shown.out.splitlines()) == 2 + 7 + 2
    assert "base-3_0.pth: is missing" in shown.err and not (tmp_path / "web.md").exists()


def test_bad_input_is_named(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such selection; choose from discriminator, ratio > 1; .*; captions;"):
        describe(experiment, replace(CHOICES, train_on="words"))
    with pytest.raises(UserError, match="--jobs 0: a number of at least 1"):
        call(experiment, tmp_path, "--jobs", "0")
    with pytest.raises(UserError, match=r"raw-web has no seed 4; python -m experiments animals .* --seeds 4 makes it"):
        add(experiment.work, row("WILSON-4", 1, [0.9, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1]))
        web.measure_training(experiment, [4])
    assert set(web.measure_training(experiment, [3])) == set(TRAINED.values())


def test_unseen_are_photographs_with_a_new_class_and_no_base_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modules.discriminator import Preprocessing
    from utils import checkpoint
    from utils.metrics import BinaryScores
    from web import discriminator, quality

    voc = tmp_path / "voc"
    write_voc(voc, {"cow": [10], "both": [10, 12], "dog": [12], "sheep": [17], "bird": [3]}, ["sheep", "bird"])
    for name in ("cow", "sheep", "cat"):
        (tmp_path / "web" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), "white").save(tmp_path / "web" / name / "a.jpg")
    seen: list[tuple[str, bool]] = []

    def binary_quality(probability: np.ndarray, examples: list) -> BinaryScores:
        assert len(probability) == len(examples) and not np.isnan(probability).any()
        seen.extend(
            (example.path.stem if example.of_dataset else example.class_name, example.of_dataset)
            for example in examples
        )
        return BinaryScores(0.1, 0.2, 0.3, 1, 1)

    monkeypatch.setattr(quality, "binary_quality", binary_quality)
    preprocessing = Preprocessing("test_resnet", size=32)
    network = discriminator.make(preprocessing)
    file = tmp_path / "discriminator.pth"
    checkpoint.save(file, {
        "kind": "discriminator", "preprocessing": vars(preprocessing), "model_state": network.state_dict(),
        "scores": vars(BinaryScores(0.6, 0.7, 0.8, 1, 1)), "by_class": {}, "classes": ["cat"], "encoder": None,
        "identity": {"dataset": "voc", "task": "4-2", "protocol": "overlap", "classes": [[0, 8, 12, 13, 15]]},
    })  # fmt: skip
    assert transfer(file, tmp_path / "web", voc) == {
        "seen accuracy": 0.6, "seen AUC": 0.7, "seen calibration error": 0.8,
        "unseen accuracy": 0.1, "unseen AUC": 0.2, "unseen calibration error": 0.3,
    }  # fmt: skip
    assert sorted(seen) == [("cow", False), ("cow", True), ("sheep", False), ("sheep", True)]
