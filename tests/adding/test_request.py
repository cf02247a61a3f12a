"""What a command line asks for: minutes, devices, and folders that must not be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adding.plan import TRIAL
from adding.request import check_out, slot, timed
from tests.adding.test_plan import SIZES, adding
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError


def test_minutes_become_iterations_by_the_trial(tmp_path: Path) -> None:
    asked = adding(tmp_path, trial=True)
    state = {"format": 1, "identity": {"classes": [[0]]}, "model_state": {}, "seconds": 4.0}
    checkpoint.save(asked.checkpoint(TRIAL), state)
    sizes, seconds = timed(asked, minutes=1)
    assert seconds == 4.0 / SIZES.trial == 0.5 and sizes.steps == 120 and sizes.crop == SIZES.crop
    assert timed(asked, minutes=100)[0] == SIZES
    checkpoint.save(asked.checkpoint(TRIAL), state | {"seconds": 0.0})
    with pytest.raises(UserError, match="does not say how long"):
        timed(asked, minutes=1)
    with pytest.raises(UserError, match="no such checkpoint"):
        timed(replace(asked, out=tmp_path / "other"), minutes=1)


def test_commands_run_on_one_device() -> None:
    assert slot(Runtime(torch.device("cpu")), ["0", "1"]).devices == ()
    assert slot(Runtime(torch.device("cuda", 1)), ["4", "7"]).devices == ("7",)
    assert slot(Runtime(torch.device("cuda", 0)), ["4", "7"]).devices == ("4",)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    (tmp_path / "begun/work/stages").mkdir(parents=True)
    for out, said in (("file", "is a file"), ("mine", "did not make")):
        with pytest.raises(UserError, match=said):
            check_out(tmp_path / out, "model.pth")
    check_out(tmp_path / "begun", "model.pth")
    check_out(tmp_path / "new", "model.pth")
