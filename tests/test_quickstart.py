"""docs/quickstart.ipynb runs from its first cell to its last, and shows what it says; its trainings are cut to a few iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks need pip install -e .[notebook]")
nbclient = pytest.importorskip("nbclient", reason="notebooks need pip install -e .[notebook]")
pytest.importorskip("ipykernel", reason="notebooks need pip install -e .[notebook]")

NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_what_it_showed() -> None:
    assert NOTEBOOK.stat().st_size < 20_000
    for cell in read().cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.timeout(1500)
def test_it_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTART_WORK", str(tmp_path))
    monkeypatch.setenv("QUICKSTART_SHORT", "1")
    notebook = read()
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs if output.output_type == "display_data"]
    assert sum("image/png" in data for data in shown) == 4, (
        "web images, the old model, the new one, an overlay of predict.py"
    )
    (statement,) = [data["text/markdown"] for data in shown if "text/markdown" in data]
    assert "| star | 4 | new |" in statement and "What these numbers do not say" in statement
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "background, circle, square, triangle, star" in said and "report.html" in said
    for name in (
        "stars/model.safetensors",
        "stars/config.json",
        "stars/README.md",
        "stars/report.html",
        "seen/summary.csv",
    ):
        assert (tmp_path / name).is_file()
