"""The page of the replay benchmark says what the work folders of two experiments say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import replay
from benchmarks.replay import PAIRS, main
from experiments.__main__ import get_argparser
from experiments.history import read_history
from experiments.imitation.search import DOWNLOADS
from tests.benchmarks.work_folder import add, end_stages, row, write_voc
from utils.errors import UserError

# IoUs of background, the four old classes, cow and sheep at 4-2, step 1; seed 1 is a tenth better.
ARMS = {
    "caption-labels": [0.9, 0.5, 0.5, 0.5, 0.5, 0.2, 0.4],
    "ours": [0.9, 0.7, 0.7, 0.7, 0.7, 0.1, 0.1],
    "best-no-replay": [0.9, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3],
    "best": [0.9, 0.6, 0.6, 0.6, 0.6, 0.5, 0.4],
    "raw-web": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
}


def write_search(work: Path, data: Path) -> None:
    """Two originals, their search in a pool of cats and dogs, and what the caption filter kept."""
    write_voc(data / "voc-animals", {"one": [8], "two": [12], "three": [17], "four": [8]}, ["four"])
    pool = work / "search/pool"
    pool.mkdir(parents=True)
    entries = [
        {"name": f"{shows}{i}.jpg", "caption": shows, "shows": [shows]} for shows in ("cat", "dog") for i in range(20)
    ]
    (pool / "pool.json").write_text(json.dumps(entries))
    (pool / "captions.txt").write_text("")
    kept = work / "rehearsal/kept"
    kept.mkdir(parents=True)
    for name in ("one", "two"):
        (kept / f"{name}.txt").write_text("00001.jpg\n00002.jpg\n")


@pytest.fixture
def works(tmp_path: Path) -> list[Path]:
    data, two, one = tmp_path / "data", tmp_path / "animals-4-2", tmp_path / "animals-4-1"
    end_stages(two, data, ["caption-labels", "ours", "best-no-replay", "best"], [0, 1])
    end_stages(one, data, ["best-no-replay", "best"], [0, 1], "4-1")
    for seed, more in ((0, 0.0), (1, 0.1)):

        def better(*values: float, more: float = more) -> list[float]:
            return [values[0], *(value + more for value in values[1:])]

        for work, task in ((two, "4-2"), (one, "4-1")):
            add(work, row(f"base-{seed}", 0, better(0.9, 0.6, 0.6, 0.5, 0.7)), task)
        for arm, ious in ARMS.items():
            add(two, row(f"{arm}-{seed}", 1, better(*ious)))
        for arm, cow, sheep in (("best-no-replay", 0.0, 0.1), ("best", 0.4, 0.3)):
            add(one, row(f"{arm}-{seed}", 1, better(0.9, 0.5, 0.5, 0.5, 0.5, cow)), "4-1")
            second = row(f"{arm}-{seed}", 2, better(0.9, 0.5, 0.5, 0.5, 0.5, cow, sheep), old_classes=5)
            add(one, second, "4-1")
    write_search(two, data)
    return [two, one]


def test_the_page(works: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "replay.md"
    assert main(["--works", *map(str, works), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8").splitlines()
    for line in (
        "| found | 40 | 0.750 |",
        "| kept by the caption filter | 4 | 0.750 |",
        "| task and step | recipe | rehearsal | old | new | cow | sheep | all | harmonic | iterations |",
        "| 4-2, step 0 | base model | - | 65.0 ± 7.1 | - | - | - | 70.0 ± 5.7 | - | - |",
        "| 4-2, step 1 | paper | no | 55.0 ± 7.1 | 35.0 ± 7.1 | 25.0 ± 7.1 | 45.0 ± 7.1 | 54.3 ± 6.1 | 42.8 "
        "± 7.4 | 200 |",
        "| 4-2, step 1 | paper | yes | 75.0 ± 7.1 | 15.0 ± 7.1 | 15.0 ± 7.1 | 15.0 ± 7.1 | 60.0 ± 6.1 | 24.8 "
        "± 10.3 | 200 |",
        "| 4-1, step 1 | best | yes | 55.0 ± 7.1 | 45.0 ± 7.1 | 45.0 ± 7.1 | - | 59.2 ± 5.9 | 49.5 ± 7.1 | 200 |",
        "| 4-1, step 2 | best | yes | 53.0 ± 7.1 | 35.0 ± 7.1 | 45.0 ± 7.1 | 35.0 ± 7.1 | 55.7 ± 6.1 | 42.1 "
        "± 7.4 | 200 |",
        "| 4-2 step 1, paper: new mIoU is not lower, beyond the spread | -20.0 (spread 7.1, 2 seeds) | no |",
        "| 4-2 step 1, best, against paper without: old mIoU rises by more than the spread | +10.0 (spread "
        "7.1, 2 seeds) | yes |",
        "| 4-1 step 1, best: old mIoU rises by more than the spread | +0.0 (spread 7.1, 2 seeds) | no |",
        "| 4-1 step 2, best: sheep is learned, by more than the spread | +20.0 (spread 7.1, 2 seeds) | yes |",
    ):
        assert line in text, line
    assert not any("raw-web" in line or "95.0" in line for line in text)
    assert len([line for line in text if line.startswith("| 4-")]) == 2 + 4 + 2 * 2 + 6 + 2 * 3
    assert "seeds 0, 1, mean" in text[2]


def test_the_search_is_drawn_again(works: list[Path]) -> None:
    search = replay.measure_search(read_history(works[0]))
    assert search.originals == 2 and search.images["found"].number == 2 * DOWNLOADS
    assert 0.5 < search.images["found"].right / (2 * DOWNLOADS) < 1.0
    assert search.images["kept by the caption filter"].number == 4


def test_the_commands_of_the_docstring_make_its_arms() -> None:
    lines = [line.split() for line in (replay.__doc__ or "").splitlines() if "-m experiments animals" in line]
    arms = {given.task: given.arms for given in (get_argparser().parse_args(words[3:]) for words in lines)}
    assert set(arms["4-2"]) == {arm for pair in PAIRS.values() for arm in pair}
    assert set(arms["4-1"]) == set(PAIRS["best"])


def test_without_a_search_it_says_so(works: list[Path]) -> None:
    (works[0] / "stages/search.json").unlink()
    with pytest.raises(UserError, match="animals-4-2: no search has ended there"):
        replay.measure_search(read_history(works[0]))
