"""The results of README and docs/results.md are what the files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.pages import RESULTS
from benchmarks.readme import BEGIN, END, WRITTEN, main, quoted, rewritten
from benchmarks.studies import EXPLAINED, PAGES, SHOWN, Page
from experiments.arms import ARMS, BASE, BASE_ALL, JOINT
from results.table import main as make_table
from tests.results.made_rows import logs
from utils.errors import UserError

OLD = f"before\n{BEGIN}\nold\n{END}\nafter\n"
EMPTY = f"before\n{BEGIN}\n\n{END}\nafter\n"


def pages(folder: Path, text: str) -> list[Path]:
    """Both pages with a text."""
    paths = [folder / name for name in WRITTEN]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return paths


def test_pages_are_up_to_date() -> None:
    assert main(["--check"]) == 0, "run python -m benchmarks.readme"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages_have_what_is_quoted(name: str) -> None:
    if not (RESULTS / name).is_file():
        pytest.skip(f"benchmarks/results/{name} is not there, the page leaves it out")
    assert any(character.isdigit() for character in quoted(RESULTS / name, PAGES[name]))


def test_tables_come_from_the_files(tmp_path: Path) -> None:
    table = tmp_path / "animals-4-2.csv"
    for name in WRITTEN:
        assert rewritten(name, OLD, tmp_path) == EMPTY, "without files there is nothing to say"
    assert make_table(["--logs", str(logs(tmp_path / "logs")), "--baseline", "WILSON", "--out", str(table)]) == 0
    found = rewritten("docs/results.md", OLD, tmp_path)
    assert found.startswith(f"before\n{BEGIN}\n") and found.endswith(f"\n{END}\nafter\n")
    assert "| arm | old | new | all | harmonic | all, against WILSON | harmonic, against WILSON | seeds |" in found
    assert "| base | 55.0 ± 0.0 | - | 66.7 ± 0.0 | - | - | - | 3 |" in found
    assert "| WILSON | 50.0 ± 10.0 | 30.0 ± 10.0 | 55.0 ± 6.6 | 37.0 ± 10.0 | - | - | 3 |" in found
    differences = "+14.2 [+10.0, +17.5] | +22.2 [+16.6, +29.8]"
    assert f"| ours | 66.7 ± 5.8 | 53.3 ± 5.8 | 69.2 ± 3.8 | 59.2 ± 5.1 | {differences} | 3 |" in found
    joint = next(line for line in found.splitlines() if line.startswith("| joint |"))
    assert "[" not in joint and joint.endswith("| 1 of 3 |"), "one pair has no interval"
    sentences = " ".join(found.split())
    assert (
        "Not run for this table: fine-tuning, LwF, ILT, MiB, raw-web, discriminator, caption-labels, best." in sentences
    )
    assert "95% bootstrap interval, hardly more than their range with so few pairs." in sentences
    assert rewritten("docs/results.md", found, tmp_path) == found


def test_readme_has_one_table_that_explains_its_arms(tmp_path: Path) -> None:
    table = tmp_path / f"{SHOWN}.csv"
    assert make_table(["--logs", str(logs(tmp_path / "logs")), "--baseline", "WILSON", "--out", str(table)]) == 0
    found = rewritten("README.md", OLD, tmp_path)
    assert found.count("|---|") == 1 and "| arm | what it is | old | new | all | harmonic | seeds |" in found
    assert f"| base | {EXPLAINED['base']} | 55.0 ± 0.0 | - | 66.7 ± 0.0 | - | 3 |" in found
    assert f"| joint | {EXPLAINED['joint']} |" in found and "against" not in found
    assert rewritten("README.md", found, tmp_path) == found
    table.write_text(table.read_text().replace(",ours,", ",theirs,"))
    with pytest.raises(UserError, match=r"EXPLAINED of benchmarks/readme\.py does not say what arm theirs is"):
        rewritten("README.md", OLD, tmp_path)


def test_every_arm_is_explained() -> None:
    assert set(EXPLAINED) == {BASE, BASE_ALL, *ARMS, JOINT}


def test_a_table_without_a_baseline_has_no_differences(tmp_path: Path) -> None:
    made = ["--logs", str(logs(tmp_path / "logs")), "--out", str(tmp_path / "ablation-4-2.csv")]
    assert make_table(made) == 0
    found = rewritten("docs/results.md", OLD, tmp_path)
    assert "| arm | old | new | all | harmonic | seeds |" in found and "against" not in found


def test_papers_stand_beside_our_share_of_joint_training(tmp_path: Path) -> None:
    """The share is of the means of the table; without joint training there is none."""
    made = ["--logs", str(logs(tmp_path / "logs")), "--baseline", "WILSON", "--out", str(tmp_path / "voc20-15-5.csv")]
    assert make_table(made) == 0
    found = rewritten("docs/results.md", OLD, tmp_path)
    part = found[found.index("## Beside the papers") :]
    assert "| 15-5 | Web-WILSS [published] | web images | ResNet-101, crop 512 | 95.1 |" in part
    joint, ours = 100 * (0.95 + 0.4 + 0.9 + 0.7) / 4, 69.1667
    line = next(line for line in part.splitlines() if line.startswith("| 15-5 | ours |"))
    assert float(line.split("|")[-2]) == pytest.approx(100 * ours / joint, abs=0.1)
    path = tmp_path / "voc20-15-5.csv"
    path.write_text("".join(row for row in path.read_text().splitlines(keepends=True) if ",joint," not in row))
    part = rewritten("docs/results.md", OLD, tmp_path)
    assert "| 15-5 | Web-WILSS [published] |" in part and "| 15-5 | ours |" not in part


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
    written = pages(tmp_path, "no marks")
    assert main([]) == 2 and "README.md: needs the marks" in capsys.readouterr().err
    pages(tmp_path, OLD)
    assert main(["--check"]) == 1 and "README.md, docs/results.md: results are out of date" in capsys.readouterr().err
    assert {page.read_text() for page in written} == {OLD}, "a check writes nothing"
    for text in ("", "a,b\n1,2\n", "\udcff"):
        (tmp_path / "animals-4-2.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
        assert main([]) == 2 and "animals-4-2.csv" in capsys.readouterr().err
        assert {page.read_text() for page in written} == {OLD}
    (tmp_path / "animals-4-2.csv").unlink()
    assert main([]) == 0 and {page.read_text() for page in written} == {EMPTY} and main(["--check"]) == 0
    written[1].write_text(OLD)
    assert main(["--check"]) == 1 and capsys.readouterr().err.startswith("docs/results.md: results are out of date")
