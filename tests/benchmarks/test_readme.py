"""README's results are what the files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, RESULTS, rewritten
from tests.conftest import ROOT

HEADING = (
    "experiment,protocol,step,arm,seeds,missing,old_mean,old_std,new_mean,new_std,all_mean,all_std,harmonic_mean,harmonic_std,baseline,"
    "all_difference_mean,all_difference_low,all_difference_high,harmonic_difference_mean"
)


def test_readme_is_up_to_date() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == rewritten(text, RESULTS), "run python -m benchmarks.readme"


def test_results_come_from_the_files(tmp_path: Path) -> None:
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert rewritten(readme, tmp_path) == f"before\n{BEGIN}\n\n{END}\nafter\n", "without files there is nothing to say"
    (tmp_path / "animals-4-2.csv").write_text(
        f"{HEADING}\nv,o,0,base,0 1,,0.5,0.01,,,0.6,0.02,,,,,,,\nv,o,1,raw,0 1,,0.4,0.01,0.1,,0.3,0.02,0.2,0.1,,,,,\n"
        "v,o,1,best,0 1,,0.45,0.01,0.2,,0.5,0.02,0.3,0.1,raw,0.2,0.15,0.25,0.1\n"
    )
    (tmp_path / "replay.md").write_text(
        "# x\n\n| images | number | that show a class of their original |\n|---|---|---|\n| kept by the caption filter | 600 | 0.998 |\n\n"
    )
    found = rewritten(readme, tmp_path)
    assert "| best | 45.0 ± 1.0 | 20.0 | 50.0 ± 2.0 | 30.0 ± 10.0 | +20.0 [+15.0, +25.0] | +10.0 | 2 |" in found
    assert "| base | 50.0 ± 1.0 | - | 60.0 ± 2.0 | - | - | - | 2 |" in found
    assert (
        "(kept by the caption filter: that show a class of their original 0.998)" in found
        and found.startswith("before\n")
        and found.endswith("after\n")
    )
    assert rewritten(found, tmp_path) == found
    with pytest.raises(ValueError, match="the marks"):
        rewritten("no marks", tmp_path)
