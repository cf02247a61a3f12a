"""The benchmark of domain discriminators: what is learned from, what is judged, and the page."""

# Fixtures of another room are imported, and named by the tests.
# ruff: noqa: F811

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import domain
from benchmarks.domain import (
    CANDIDATES,
    CLEAN,
    HONEST,
    KEYS,
    SEEN,
    SEEN_WEB,
    UNSEEN,
    Data,
    Judgement,
    Settings,
    best_threshold,
    judge,
    main,
    read_data,
    sample,
    values,
    with_captions,
)
from benchmarks.readme import quoted
from benchmarks.studies import PAGES
from tests.web.conftest import step_ckpt, web_images  # noqa: F401
from utils import distributed
from utils.errors import UserError
from web.examples import is_held_out

SETTINGS = Settings("tf_efficientnet_lite0", 64, 1, 2, 40)
# Class, true class, domain, and whether the caption names the class.
ROWS = [
    ("cow", "cow", "photo", True),
    ("cow", "cow", "photo", False),
    ("cow", "cow", "drawing", True),
    ("sheep", "sheep", "photo", True),
    ("sheep", "cat", "photo", True),
    ("sheep", "none", "drawing", False),
]
# A discriminator that takes drawings for training data.
SCORES = [0.6, 0.4, 0.9, 0.3, 0.2, 0.8]


@pytest.fixture
def data() -> Data:
    rows = [{"class": name, "true_class": true, "domain": domain} for name, true, domain, _ in ROWS]
    labels = [frozenset({name} if named else ()) for name, _, _, named in ROWS]
    return Data("web-4-2", Path("base_0.pth"), {}, {}, {}, rows, [""] * len(rows), labels)


def run_of(scores: list[float]) -> dict[str, object]:
    groups = {SEEN: [0.9, 0.8], SEEN_WEB: [0.1, 0.85], "validation": [0.7], UNSEEN: [0.5], CANDIDATES: scores}
    return {"seconds": 12.0, "scores": groups}


def test_right_is_what_shows_its_class_and_is_no_drawing(data: Data) -> None:
    assert data.right().tolist() == [True, True, False, True, False, False]
    assert judge(np.array(SCORES) > 0.5, data.right()) == Judgement(1 / 3, 1 / 3, 1 / 2)
    none = judge(np.zeros(6, bool), data.right())
    assert math.isnan(none.precision) and none.recall == none.kept == 0


def test_the_best_threshold_has_the_highest_f1(data: Data) -> None:
    right, scores = data.right(), np.array(SCORES)
    found = best_threshold(scores, right)

    def f1(at: float) -> float:
        kept = scores >= at
        return 2 * (kept & right).sum() / (kept.sum() + right.sum())

    assert f1(found) == max(f1(at) for at in SCORES) and found == 0.3


def test_values_of_a_discriminator(data: Data) -> None:
    found = values(data, run_of(SCORES))
    assert tuple(found) == KEYS
    assert found["seen AUC"] == 3 / 4 and found["validation AUC"] == 1 / 2
    # 0.5 against the right photographs 0.6, 0.4 and 0.3; drawings score above all photographs.
    assert found["unseen AUC"] == 2 / 3 and found["photo AUC"] == 0
    assert (found["precision"], found["best recall"], found["seconds"]) == (1 / 3, 1.0, 12.0)


def test_beside_captions_only_named_ones_are_kept(data: Data) -> None:
    rule, most = (judged[0] for judged in with_captions(data, [run_of(SCORES)]).values())
    assert rule == Judgement(1 / 2, 1 / 3, 2 / 6)
    # Of the four that are named all but the lowest.
    assert most == Judgement(2 / 3, 2 / 3, 3 / 6)


def test_a_sample_is_always_the_same_and_in_order() -> None:
    assert sample(range(100), 10) == sample(range(100), 10) == sorted(sample(range(100), 10))
    assert sample("abc", 10) == ["a", "b", "c"]


def test_images_that_are_judged_were_not_learned_from(
    step_ckpt: Path, web_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain, "caption", lambda files, *_: ["a heart"] * len(files))
    found = read_data(step_ckpt, web_images, tmp_path, SETTINGS, distributed.start("cpu"))
    assert {row["class"] for row in found.rows} == {"cross", "crescent", "heart"}
    domains = {
        (row["class"], row["path"]): row["domain"] for row in csv.DictReader((tmp_path / "web-5-3/manifest.csv").open())
    }
    assert len(domains) > len(found.rows)
    for imitation in (CLEAN, HONEST):
        web = [e for e in found.training[imitation] if not e.of_dataset]
        drawn = [e for e in web if e.path.name.startswith("drawn")]
        assert bool(drawn) == (imitation == HONEST) and len(web) > 20
    learned = {e.path for e in found.training[HONEST] if not is_held_out(e)}
    for group, examples in found.groups.items():
        assert not learned & {e.path for e in examples}, group
    assert all(e.of_dataset for e in found.groups[UNSEEN]) and found.groups[UNSEEN]


def test_the_page(step_ckpt: Path, web_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        f"--step_ckpt {step_ckpt} --web {web_images} --work {tmp_path} --out {tmp_path}/domain.md --inputs bands encoder "
        "--size 64 --most 40 --vector_epochs 2"
    ).split()
    assert main(line) == 0
    text = (tmp_path / "domain.md").read_text(encoding="utf-8")
    assert quoted(tmp_path / "domain.md", PAGES["domain.md"]).startswith("captions: precision ")
    assert "| bands | web-5-3 | clean |" in text and "| captions and encoder, ratio > 1 | web-5-3 | honest |" in text
    with (tmp_path / "domain.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["learns from"], row["input"]) for row in rows] == [
        (imitation, name) for imitation in (CLEAN, HONEST) for name in ("bands", "encoder")
    ]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    capsys.readouterr()
    assert main(line) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == kept, (
        "what is done is not done again"
    )
    with pytest.raises(UserError, match="--web: 1 folders for 2 checkpoints"):
        main([*line[:1], "a.pth", *line[1:]])
