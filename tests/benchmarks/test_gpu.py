"""benchmarks/gpu.sh asks for what is there, and says in one line what is missing; its parts run in benchmarks/results where a card is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.peers import JOBS
from tests.conftest import ROOT

SCRIPTS = "benchmarks/gpu.sh", "benchmarks/pack.sh"


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_it(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""


def test_it_names_what_is_there() -> None:
    text = (ROOT / SCRIPTS[0]).read_text(encoding="utf-8")
    jobs = re.search(r"--jobs ([a-z ]+)\)", text)
    assert jobs is not None and sorted(jobs[1].split()) == sorted(JOBS), "every job is measured on a card"
    assert (ROOT / "tests/devices/test_devices.py").is_file() and "pytest tests/devices" in text
    seconds = [int(limit) for limit in re.findall(r"\|\| part \w+ (\d+) ", text)]
    assert len(seconds) == 3 and sum(seconds) <= 480, "eight minutes"
    folder = re.search(r"PARCEL=(\S+)", (ROOT / SCRIPTS[1]).read_text(encoding="utf-8"))
    assert folder is not None and f"{folder[1]}/wheels" in text and f"{folder[1]}/data" in text
    assert f"{folder[1]}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_card_is_told(tmp_path: Path) -> None:
    environment = os.environ | {"OUT_DIR": str(tmp_path), "PYTHON": sys.executable, "DEVICE": "cuda"}
    done = subprocess.run(
        ["bash", ROOT / SCRIPTS[0]], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("gpu.sh: torch sees no GPU here")
    assert list(tmp_path.iterdir()) == []
