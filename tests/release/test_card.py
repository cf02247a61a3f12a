"""Model cards: the hub's head is what the hub reads, and the rest says what is known, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.description import Description
from release.card import card, lessons
from release.scores import kept_scores, scores_of
from release.taught import Image, Taught
from results.rows import append_results, names_cell
from tests.modules.test_released import DESCRIPTION
from tests.release.test_taught import BY, BY_SA
from utils.errors import UserError
from utils.normalisation import NORMALISATIONS

SCORES = {
    "time": "2026-01-31T12:00:00+00:00", "dataset": "voc", "protocol": "overlap", "old": 0.5, "new": 0.25, "all": 0.4321, "harmonic": None,
    "classes": {"background": 0.9, "cat": 0.5, "dog": None, "naïve cow": 0.25},
}  # fmt: skip
TAUGHT = Taught(
    [
        Image("naïve cow", licence=BY, author="Ann"),
        Image("naïve cow", licence=BY_SA, author="Bob"),
        Image("naïve cow", title="1"),
    ]
)


def made(description: Description = DESCRIPTION, **given: Any) -> str:
    said = {"normalisation": NORMALISATIONS["half"], "licence": None, "taught": Taught(), "scores": None}
    return card(description, "A | model", **(said | given))


def head(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="no YAML here")
    _, block, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_the_head_is_the_hubs() -> None:
    read = head(made(licence="CC-BY-4.0", scores=SCORES))
    assert (
        read["license"] == "cc-by-4.0"
        and read["library_name"] == "web-wilss"
        and read["pipeline_tag"] == "image-segmentation"
    )
    assert read["datasets"] == ["pascal-voc-2012"] and read["metrics"] == ["mean_iou"]
    (result,) = read["model-index"][0]["results"]
    assert read["model-index"][0]["name"] == "A | model" and result["dataset"]["type"] == "pascal-voc-2012"
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("mean IoU of all classes", 0.4321),
        ("mean IoU of the classes of earlier steps", 0.5),
        ("mean IoU of the classes of the last step", 0.25),
    ]


def test_the_hubs_own_reader_takes_it() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e .[hub]")
    data = hub.ModelCard(made(scores=SCORES, licence="mit")).data
    assert data.license == "mit" and len(data.eval_results) == 3 and data.eval_results[0].metric_value == 0.4321


def test_without_scores_there_is_no_index() -> None:
    read = head(made())
    assert "model-index" not in read and "metrics" not in read and read["license"] == "unknown"
    assert "None are known." in made() and "It was not tested" in made()


def test_other_licences() -> None:
    read = head(made(licence="The Zoo's own: 'terms'\x1b[2J"))
    assert read["license"] == "other" and read["license_name"] == "the-zoo-s-own-terms-2j"


def test_adopted_models_and_folders() -> None:
    network = {
        "library": "smp",
        "architecture": {},
        "outputs": "softmax",
        "background": "own",
        "bgr": False,
        "multiple": 32,
        "mean": [],
        "std": [],
    }
    text = made(replace(DESCRIPTION, network=network, dataset="", options={}))
    assert "smp" in head(text)["tags"] and "datasets" not in head(text) and "multiples of 32" in text


def test_classes_steps_and_limits() -> None:
    text = made(
        replace(DESCRIPTION, options={"weakly": True, "web": True, "crop_size": 160}), scores=SCORES, taught=TAUGHT
    )
    assert "| 8 | cat | `#400000` | 0 | pixel labels | 2026-01-31 |" in text
    assert "| 10 | naïve cow | `#408000` | 1 | image labels of web images | not recorded |" in text
    assert "crops of 160 pixels" in text and "Of naïve cow it saw no outlines" in text
    assert "Fewer than 50 web images taught it naïve cow" in text and "No test image showed dog" in text
    assert "| mean IoU of all classes | 43.2 |" in text and "| dog | - |" in text


def test_every_weak_step_is_said() -> None:
    history = ({"step": 1, "method": "weak"}, {"step": [], "method": "weak"})
    assert "Of naïve cow it saw no outlines" in made(replace(DESCRIPTION, options={}, history=history))
    assert "no outlines" not in made(replace(DESCRIPTION, options={}))


def test_odd_histories() -> None:
    history = ({"step": []}, {"step": 0, "date": 3, "from": ["x"]}, {})
    assert lessons(replace(DESCRIPTION, history=history)) == [("3", "['x']"), ("not recorded", "image labels")]


def test_web_images_and_their_licences() -> None:
    text = made(taught=Taught(TAUGHT.images, ["a note"]))
    assert "3 images from the web taught it classes, by 2 named authors" in text
    assert "1 of them come without a licence" in text and "| not known | 1 |" in text
    assert (
        "| [CC BY 2.0](https://creativecommons.org/licenses/by/2.0) | 1 |" in text and "| naïve cow | 3 | 1 |" in text
    )
    assert "a note." in text


def test_names_do_not_steer_the_page() -> None:
    """Neither the tables, nor what a browser shows, nor the head."""
    names = ("background", "cat|dog", "<script>alert(1)</script>", "a\n---\nlicense: mit\n# [x](y)\x1b[2J")
    image = Image(names[3], licence="[evil](x) | https://x.org/a)(b <script>", author="\u202egnp.exe")
    text = made(
        replace(DESCRIPTION, class_names=names, dataset="x\n---\ny: 1"), taught=Taught([image]), licence="a\nb: c"
    )
    assert head(text).keys() == {"license", "license_name", "library_name", "pipeline_tag", "tags"}
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body and "\x1b" not in text and "[x](y)" not in body and "\u202e" not in text
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") in (3, 4, 7) for line in rows), rows


def row(**changes: Any) -> dict[str, Any]:
    written = {
        "time": "2026-01-31T12:00:00+00:00", "name": "best-7", "step": 1, "protocol": "overlap", "seed": 7, "dataset": "voc", "task": "2-1",
        "old_iou": 0.5, "new_iou": 0.25, "all_iou": 0.43216, "harmonic": 0.333333, "old_classes": names_cell(["cat", "dog"]),
        "iou background": 0.9, "iou cat": 0.5, "iou dog": float("nan"), "iou naïve cow": 0.25,
    }  # fmt: skip
    return written | changes


def of_run(logs: Path, **options: Any) -> Description:
    return replace(
        DESCRIPTION, options={"name": "best-7", "random_seed": 7, "logdir": str(logs), "dataset_dir": None} | options
    )


def test_scores_of_a_run(tmp_path: Path) -> None:
    """The last test of this run: not of another step, seed, protocol or name."""
    path = tmp_path / "results/voc-2-1.csv"
    for changes in (
        {"all_iou": 0.1, "time": "2026-01-30T12:00:00+00:00"}, {}, {"step": 0, "all_iou": 0.9}, {"protocol": "disjoint", "all_iou": 0.9},
        {"seed": 8, "name": "best-8", "all_iou": 0.9}, {"name": "other-7", "all_iou": 0.9},
    ):  # fmt: skip
        append_results(path, row(**changes))
    scores = scores_of(of_run(tmp_path), None)
    assert (
        scores is not None
        and scores["all"] == 0.4322
        and scores["classes"]["dog"] is None
        and scores["protocol"] == "overlap"
    )
    assert kept_scores(scores, "here") == scores
    assert scores_of(of_run(tmp_path / "nowhere"), tmp_path) == scores
    assert (
        scores_of(of_run(tmp_path, name="nobody"), None) is None
        and scores_of(of_run(tmp_path / "nowhere"), None) is None
    )


def test_scores_that_were_asked_for_and_are_not_there(tmp_path: Path) -> None:
    append_results(tmp_path / "results/voc-2-1.csv", row())
    for description, logs, said in (
        (of_run(tmp_path, name="nobody"), tmp_path, "holds no test of nobody"),
        (of_run(tmp_path), tmp_path / "nowhere", "holds no results"),
        (replace(DESCRIPTION, options={}), tmp_path, "leave --logs out"),
    ):
        with pytest.raises(UserError, match=said):
            scores_of(description, logs)


@pytest.mark.parametrize(
    "odd", [3, {}, SCORES | {"all": "0.5"}, SCORES | {"classes": {"cat": []}}, SCORES | {"time": 3}]
)
def test_odd_scores_of_an_earlier_release(odd: Any) -> None:
    with pytest.raises(UserError, match=r"config\.json: damaged: its scores"):
        kept_scores(odd, "config.json")
