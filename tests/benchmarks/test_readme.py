"""README's results are what the files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.readme import BEGIN, END, PAGES, RESULTS, Page, main, quoted, rewritten
from results.table import main as make_table
from tests.results.made_rows import logs
from utils.errors import UserError

README = f"before\n{BEGIN}\nold\n{END}\nafter\n"
EMPTY = f"before\n{BEGIN}\n\n{END}\nafter\n"


def test_readme_is_up_to_date() -> None:
    assert main(["--check"]) == 0, "run python -m benchmarks.readme"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages_have_what_is_quoted(name: str) -> None:
    if not (RESULTS / name).is_file():
        pytest.skip(f"benchmarks/results/{name} is not there, README leaves it out")
    assert any(character.isdigit() for character in quoted(RESULTS / name, PAGES[name]))


def test_tables_come_from_the_files(tmp_path: Path) -> None:
    table = tmp_path / "animals-4-2.csv"
    assert rewritten(README, tmp_path) == EMPTY, "without files there is nothing to say"
    assert make_table(["--logs", str(logs(tmp_path / "logs")), "--baseline", "WILSON", "--out", str(table)]) == 0
    found = rewritten(README, tmp_path)
    assert found.startswith(f"before\n{BEGIN}\n") and found.endswith(f"\n{END}\nafter\n")
    assert "| arm | old | new | all | harmonic | all, against WILSON | harmonic, against WILSON | seeds |" in found
    assert "| base | 55.0 ± 0.0 | - | 66.7 ± 0.0 | - | - | - | 3 |" in found
    assert "| WILSON | 50.0 ± 10.0 | 30.0 ± 10.0 | 55.0 ± 6.6 | 37.0 ± 10.0 | - | - | 3 |" in found
    differences = "+14.2 [+10.0, +17.5] | +22.2 [+16.6, +29.8]"
    assert f"| ours | 66.7 ± 5.8 | 53.3 ± 5.8 | 69.2 ± 3.8 | 59.2 ± 5.1 | {differences} | 3 |" in found
    joint = next(line for line in found.splitlines() if line.startswith("| joint |"))
    assert "[" not in joint and joint.endswith("| 1 of 3 |"), "one pair has no interval"
    assert "Not run for this table: fine-tuning, LwF, ILT, MiB, raw-web, discriminator, caption-labels, best." in found
    assert "95% bootstrap interval, hardly more than their range with so few pairs." in found
    assert rewritten(found, tmp_path) == found


def test_a_table_without_a_baseline_has_no_differences(tmp_path: Path) -> None:
    made = ["--logs", str(logs(tmp_path / "logs")), "--out", str(tmp_path / "ablation-4-2.csv")]
    assert make_table(made) == 0
    found = rewritten(README, tmp_path)
    assert "| arm | old | new | all | harmonic | seeds |" in found and "against" not in found


def test_a_page_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "replay.md"
    path.write_text(
        "| images | number |\n|---|---|\n| kept | 7 |\n\nkept by a sentence\n\n"
        "| images | right |\n|---|---|\n| found | 0.7 |\n| **kept** by the filter | 0.9 |\n"
    )
    assert quoted(path, Page("what", "kept", ("right",))) == "kept by the filter: right 0.9"
    assert quoted(path, Page("what", "kept", ("number",))) == "kept: number 7"
    with pytest.raises(UserError, match=r"replay\.md: no table row 'lost' with right"):
        quoted(path, Page("what", "lost", ("right",)))


def test_bad_input_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("no marks")
    assert main([]) == 2 and "needs the marks" in capsys.readouterr().err
    page.write_text(README)
    assert main(["--check"]) == 1 and "out of date" in capsys.readouterr().err
    assert page.read_text() == README, "a check writes nothing"
    for text in ("", "a,b\n1,2\n", "\udcff"):
        (tmp_path / "animals-4-2.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
        assert main([]) == 2 and "animals-4-2.csv" in capsys.readouterr().err
        assert page.read_text() == README
    (tmp_path / "animals-4-2.csv").unlink()
    assert main([]) == 0 and page.read_text() == EMPTY and main(["--check"]) == 0
