"""Arms, seeds, means and intervals from results tables, against values worked out by hand and an independent bootstrap."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from results.earlier import guessed_old_classes as old_classes
from results.rows import read_runs
from results.tables import bootstrap, difference, make_tables
from tests.results.made_rows import JOINT, OURS, WILSON, add, joint_row, logs, saying, step_row
from utils.errors import UserError


def test_one_table_a_step_and_one_arm_a_name_without_its_seed(tmp_path: Path) -> None:
    tables = make_tables(read_runs([logs(tmp_path)]))
    assert [table.title for table in tables] == [
        "voc-3-1, overlap, step 0",
        "voc-3-1, overlap, step 1",
        "voc-animals-offline, overlap, step 0",
    ]
    step = tables[1]
    assert list(step.arms) == ["WILSON", "ours", "joint"] and step.seeds == [0, 1, 2]
    assert step.missing("WILSON") == [] and step.missing("joint") == [1, 2]


def test_a_number_at_the_end_that_is_no_seed_belongs_to_the_name(tmp_path: Path) -> None:
    add(tmp_path, "voc-3-1", step_row("replay-100", 42, WILSON[0]) | {"name": "replay-100"})
    add(tmp_path, "voc-3-1", step_row("replay", 100, WILSON[1]))
    table = make_tables(read_runs([tmp_path]))[0]
    assert {arm: list(runs) for arm, runs in table.arms.items()} == {"replay-100": [42], "replay": [100]}


def test_mean_and_deviation_by_hand(tmp_path: Path) -> None:
    table = make_tables(read_runs([logs(tmp_path)]))[1]
    # Old 0.5, 0.4, 0.6; new 0.2, 0.3, 0.4; all 0.525, 0.5, 0.625; harmonic 2/7, 2.4/7, 0.48.
    assert table.spread("WILSON", "old") == pytest.approx((0.5, 0.1), abs=1e-6)
    assert table.spread("WILSON", "new") == pytest.approx((0.3, 0.1), abs=1e-6)
    assert table.spread("WILSON", "all") == pytest.approx(
        (0.55, math.sqrt((0.025**2 + 0.05**2 + 0.075**2) / 2)), abs=1e-6
    )
    assert table.spread("WILSON", "harmonic")[0] == pytest.approx((2 / 7 + 2.4 / 7 + 0.48) / 3, abs=1e-6)
    assert table.spread("WILSON", "iterations") == (200, 0)
    assert table.spread("WILSON", "seconds") == (20, 10)
    assert table.highest("WILSON", "memory_mib") == 102
    mean, deviation = table.spread("joint", "old")
    assert mean == pytest.approx(0.8) and math.isnan(deviation), "one run has no deviation"


def test_joint_training_is_scored_on_the_steps_old_and_new_classes(tmp_path: Path) -> None:
    """Its own row calls all classes old, and lists them in another order."""
    table = make_tables(read_runs([logs(tmp_path)]))[1]
    scores = table.arms["joint"][0].scores
    # cat 0.9 and dog 0.7 are old, cow 0.4 is new.
    assert scores == pytest.approx(
        {"old": 0.8, "new": 0.4, "all": (0.95 + 0.9 + 0.7 + 0.4) / 4, "harmonic": 0.64 / 1.2}
    )


@pytest.mark.parametrize("change", [{"iou cow": "", "iou goat": 0.4}, {"step": 1}])
def test_other_classes_are_no_joint_training(tmp_path: Path, change: dict[str, object]) -> None:
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[0]))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT) | change)
    assert list(make_tables(read_runs([tmp_path]))[0].arms) == ["WILSON"]


def test_joint_training_on_another_data_set_is_left_out(tmp_path: Path) -> None:
    """coco-voc is a data set, and not a task of coco."""
    add(tmp_path, "coco-voc-voc", step_row("WILSON", 0, WILSON[0]))
    add(tmp_path, "coco-offline", joint_row("other", 0, JOINT))
    add(tmp_path, "coco-voc-offline", joint_row("WILSON", 0, JOINT))
    tables = {table.experiment: list(table.arms) for table in make_tables(read_runs([tmp_path]))}
    assert tables["coco-voc-voc"] == ["WILSON", "WILSON (coco-voc-offline)"]


def test_a_class_without_a_test_image_counts_nowhere(tmp_path: Path) -> None:
    """``old_iou`` of the log leaves it out, too; the cut is found all the same."""
    rows = [step_row("WILSON", seed, WILSON[seed] | {"dog": math.nan}) for seed in (0, 1)]
    for row in rows:
        add(tmp_path, "voc-3-1", row | {"harmonic": ""})
    table = make_tables(read_runs([tmp_path]))[0]
    assert table.arms["WILSON"][0].scores["old"] == pytest.approx(0.6)
    assert table.arms["WILSON"][0].scores["harmonic"] == pytest.approx(2 * 0.6 * 0.2 / 0.8), (
        "computed where the row lacks it"
    )


def test_the_step_before_tells_the_old_classes_first(tmp_path: Path) -> None:
    """Of a model that learned nothing no cut can be told, but its base step can."""
    add(tmp_path, "voc-3-1", joint_row("base", 0, {"background": 0.9, "cat": 0.0, "dog": 0.0}))
    add(tmp_path, "voc-3-1", step_row("flat", 0, {"background": 0.9, "cat": 0.0, "dog": 0.0, "cow": 0.0}))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT))
    table = make_tables(read_runs([tmp_path]))[1]
    assert table.notes == [] and table.arms["joint"][0].scores["old"] == pytest.approx(0.8)


@pytest.mark.parametrize("base", [False, True])
def test_both_ways_give_the_same_old_classes(tmp_path: Path, base: bool) -> None:
    if base:
        add(tmp_path, "voc-3-1", joint_row("base", 0, {"background": 0.9, "cat": 0.6, "dog": 0.5}))
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[0]))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT))
    table = next(table for table in make_tables(read_runs([tmp_path])) if table.step == 1)
    assert table.arms["joint"][0].scores["old"] == pytest.approx(0.8)


def test_a_cut_that_cannot_be_told_is_said(tmp_path: Path) -> None:
    """Where every class has the same IoU, every cut of them fits."""
    flat = {"background": 0.5, "cat": 0.5, "dog": 0.5, "cow": 0.5}
    add(tmp_path, "voc-3-1", step_row("flat", 0, flat))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT))
    runs = read_runs([tmp_path])
    assert old_classes([run for run in runs if run.step == 1]) is None
    table = make_tables(runs)[0]
    assert list(table.arms) == ["flat"] and table.notes == [
        "joint: which classes are old cannot be told from the other rows."
    ]


FLAT = {"background": 0.5, "cat": 0.5, "dog": 0.5, "cow": 0.5}


def test_rows_that_say_their_old_classes_are_asked_first(tmp_path: Path) -> None:
    """Of equal IoUs no cut can be told, and the step before may be missing; the rows know."""
    add(tmp_path, "voc-3-1", saying(step_row("flat", 0, FLAT), "3-1", ["cat", "dog"]))
    add(tmp_path, "voc-animals-offline", saying(joint_row("joint", 0, JOINT), "animals-offline", []))
    table = next(table for table in make_tables(read_runs([tmp_path])) if table.step == 1)
    assert table.notes == [] and table.arms["joint"][0].scores["old"] == pytest.approx(0.8)
    assert table.arms["flat"][0].old_classes == ("cat", "dog") and table.arms["joint"][0].old_classes == ()


def test_rows_with_and_without_the_columns_in_one_file(tmp_path: Path) -> None:
    """Older rows keep their columns, which come first, and share a table with later ones."""
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[0]))
    add(tmp_path, "voc-3-1", saying(step_row("WILSON", 1, WILSON[1]), "3-1", ["cat", "dog"]))
    add(tmp_path, "voc-3-1", step_row("WILSON", 2, WILSON[2] | {"dog": math.nan}) | {"harmonic": ""})
    header, first, second, _ = (tmp_path / "results/voc-3-1.csv").read_text().splitlines()
    assert header.endswith("iou background,iou cat,iou dog,iou cow,dataset,task,old_classes")
    assert first.endswith("0.2,,,") and second.endswith('0.3,voc,3-1,"[""cat"", ""dog""]"')
    (table,) = make_tables(read_runs([tmp_path]))
    runs = table.arms["WILSON"]
    assert [(run.dataset, run.old_classes) for run in runs.values()] == (
        [(None, None), ("voc", ("cat", "dog")), (None, None)]
    )
    # What the last row lacks is made of the old classes that the second one says: cat 0.7 is old, cow 0.4 is new.
    assert table.notes == [] and runs[2].scores["harmonic"] == pytest.approx(2 * 0.7 * 0.4 / 1.1)


def test_a_guess_is_said(tmp_path: Path) -> None:
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[0]))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT))
    table = next(table for table in make_tables(read_runs([tmp_path])) if table.step == 1)
    assert table.notes == [
        "joint: the rows are of version 0.1.0 and do not say which classes are old; guessed from the means: cat, dog."
    ]


def test_rows_that_do_not_agree(tmp_path: Path) -> None:
    add(tmp_path, "voc-3-1", saying(step_row("one", 0, OURS[0]), "3-1", ["cat"]))
    add(tmp_path, "voc-3-1", saying(step_row("other", 0, OURS[0]), "3-1", ["cat", "dog"]))
    add(tmp_path, "voc-animals-offline", joint_row("joint", 0, JOINT))
    table = next(table for table in make_tables(read_runs([tmp_path])) if table.step == 1)
    assert table.notes == ["one, other: do not agree which classes are old; those of the last one count."]
    assert table.arms["joint"][0].scores["old"] == pytest.approx(0.8)


def test_rows_say_their_data_set_and_task_whatever_their_file_is_called(tmp_path: Path) -> None:
    add(tmp_path, "kept-from-spring", saying(step_row("WILSON", 0, WILSON[0]), "3-1", ["cat", "dog"]))
    add(tmp_path, "voc-3-1", step_row("WILSON", 1, WILSON[1]))
    add(tmp_path, "mine", saying(joint_row("joint", 0, JOINT), "animals-offline", []) | {"dataset": "coco"})
    add(tmp_path, "voc-offline", joint_row("joint", 1, JOINT))
    tables = {table.experiment: table for table in make_tables(read_runs([tmp_path]))}
    assert sorted(tables) == ["coco-animals-offline", "voc-3-1", "voc-offline"]
    arms = {arm: sorted(runs) for arm, runs in tables["voc-3-1"].arms.items()}
    assert arms == {"WILSON": [0, 1], "joint": [1]}, "joint training of seed 0 is on another data set"


def test_names_survive_their_cell(tmp_path: Path) -> None:
    names = ["dining table", 'tie, "bow"', "Kühe", "[x]", ""]
    classes = {"background": 0.9} | dict.fromkeys(names, 0.5) | {"cow": 0.2}
    add(tmp_path, "voc-3-1", saying(step_row("WILSON", 0, classes), "3-1", names))
    (run,) = read_runs([tmp_path])
    assert run.old_classes == tuple(names)


def test_later_rows_replace_earlier_ones_but_a_test_costs_nothing(tmp_path: Path) -> None:
    first = step_row("WILSON", 0, WILSON[0])
    add(tmp_path, "voc-3-1", first)
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[2]) | {"time": "2026-01-02", "iterations": 0, "seconds": 0.0})
    run = make_tables(read_runs([tmp_path]))[0].arms["WILSON"][0]
    assert run.scores["old"] == pytest.approx(0.6) and run.costs["seconds"] == first["seconds"]


def test_the_last_row_counts_whatever_folder_it_is_in_and_the_table_says_so(tmp_path: Path) -> None:
    late, early = tmp_path / "a", tmp_path / "b"
    add(late, "voc-3-1", step_row("WILSON", 0, WILSON[2]) | {"time": "2026-01-02"})
    add(early, "voc-3-1", step_row("WILSON", 0, WILSON[0]))
    add(early, "voc-3-1", step_row("WILSON", 1, WILSON[1]))
    table = make_tables(read_runs([late, early]))[0]
    assert table.arms["WILSON"][0].scores["old"] == pytest.approx(0.6) and table.seeds == [0, 1]
    assert table.notes == [f"WILSON, seed 0: in several log folders, {late} has the last row, which counts."]


def test_older_rows_without_costs_say_so(tmp_path: Path) -> None:
    row = {
        key: value for key, value in step_row("WILSON", 0, WILSON[0]).items() if key not in ("seconds", "memory_mib")
    }
    add(tmp_path, "voc-3-1", row)
    table = make_tables(read_runs([tmp_path]))[0]
    assert math.isnan(table.spread("WILSON", "seconds")[0]) and math.isnan(table.highest("WILSON", "memory_mib"))


def test_paired_difference_by_hand(tmp_path: Path) -> None:
    table = make_tables(read_runs([logs(tmp_path)]))[1]
    found = difference(table, "ours", "WILSON", "old")
    # 0.7 - 0.5, 0.6 - 0.4, 0.7 - 0.6: of 27 draws one holds the lowest alone, 3.7 % of them, so the interval is the range.
    assert found.seeds == (0, 1, 2)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5 / 3, 0.1, 0.2), abs=1e-6)
    one = difference(table, "joint", "WILSON", "old")
    assert one.seeds == (0,) and one.mean == pytest.approx(0.3) and math.isnan(one.low) and math.isnan(one.high)


def test_interval_against_scipy() -> None:
    values = np.random.default_rng(5).normal(0.04, 0.02, size=9)
    low, high = bootstrap(values.tolist())
    result = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=50_000, rng=np.random.default_rng(11)
    ).confidence_interval
    error = values.std(ddof=1) / 3
    assert low == pytest.approx(result.low, abs=0.06 * error) and high == pytest.approx(result.high, abs=0.06 * error)
    assert high - low > 2 * error, "an interval of the mean, and not of one draw"
    assert bootstrap(values.tolist()) == (low, high)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, math.nan]])
def test_no_interval_of_less_than_two_values(values: list[float]) -> None:
    assert all(math.isnan(bound) for bound in bootstrap(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou cow": "high"}, r"voc-3-1\.csv, row 2: iou cow is 'high', which is no number"),
        ({"step": ""}, r"voc-3-1\.csv, row 2: step is '', a whole number is needed"),
        ({"seed": "1.5"}, r"voc-3-1\.csv, row 2: seed is '1.5', a whole number is needed"),
        ({"old_classes": "cat, dog"}, r"row 2: old_classes is 'cat, dog', a JSON list of names is needed"),
        ({"old_classes": "[1]"}, r"row 2: old_classes is '\[1\]', a JSON list of names is needed"),
        ({"old_classes": '["goat"]'}, r"row 2: old_classes names goat, of which the row has no IoU"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    add(tmp_path, "voc-3-1", step_row("WILSON", 0, WILSON[0]) | change)
    with pytest.raises(UserError, match=message):
        read_runs([tmp_path])


def test_bad_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no results/\*\.csv"):
        read_runs([tmp_path])
    path = tmp_path / "results/notes.csv"
    path.parent.mkdir()
    path.write_text("name,step\na,1\n")
    with pytest.raises(UserError, match=r"notes\.csv: has no column time"):
        read_runs([tmp_path])
    path.write_text("")
    with pytest.raises(UserError, match="no run has been tested yet"):
        make_tables(read_runs([tmp_path]))


def test_arms_are_chosen_in_their_order(tmp_path: Path) -> None:
    runs = read_runs([logs(tmp_path)])
    step = next(table for table in make_tables(runs, ["joint", "ours"]) if table.step == 1)
    assert list(step.arms) == ["joint", "ours"]
    with pytest.raises(
        UserError, match="--arms theirs: no run of it in the logs, which have WILSON, base, joint, ours"
    ):
        make_tables(runs, ["theirs"])


def test_rows_written_by_hand_are_what_ours_says() -> None:
    """The helper's own sums: old, new and all of ours, seed 0."""
    row = step_row("ours", 0, OURS[0])
    assert (row["old_iou"], row["new_iou"], row["all_iou"]) == pytest.approx((0.7, 0.5, 0.7))
