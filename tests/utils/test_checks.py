"""Limits that command line and engine ask the same function for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.checks import check_precision, images_per_rank, other_class, replay_images
from utils.errors import UserError


def test_shares_of_a_batch() -> None:
    assert images_per_rank(24, 8) == 3
    with pytest.raises(UserError, match="--batch_size 24 cannot be shared by 5 processes: give a multiple of 5"):
        images_per_rank(24, 5)
    assert replay_images(24, 0.5) == 12 and replay_images(24, 1 / 3) == 8
    for batch_size, share in ((3, 0.5), (24, 0.0), (24, 1.0), (24, 0.3)):
        with pytest.raises(UserError, match=f"--replay_share {share:g} of it are replay images"):
            replay_images(batch_size, share)


def test_half_precision_needs_a_gpu() -> None:
    for precision, device in (("fp16", "cuda"), ("tf32", "cuda"), ("bf16", "cpu"), ("fp32", "cpu"), ("auto", "cpu")):
        check_precision(precision, device)
    for precision in ("fp16", "tf32"):
        with pytest.raises(UserError, match=f"--precision {precision} needs a GPU"):
            check_precision(precision, "cpu")


def test_the_command_line_can_ask_without_torch() -> None:
    code = "import sys, utils.checks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_the_first_class_of_two_names() -> None:
    here = {0: "background", 1: "hammer", 2: "saw"}
    assert other_class({0: "background", 1: "apple", 2: "pear"}, here) == "class 1 is apple there and hammer here"
    assert other_class({1: "hammer", 2: "pear", 9: "plum"}, here) == "class 2 is pear there and saw here"
    assert other_class({0: "Hintergrund", 1: "hammer"}, here) == "", "of background nobody chooses the name"
    assert other_class({1: "\ufeffhammer ", 9: "plum"}, here) == "", "as earlier versions read a byte order mark"
    assert other_class({1: "kaf\u0065\u0301"}, {1: "kaf\u00e9"}) == ""
    assert other_class({1: "HER2+"}, {1: "HER2-"}) and other_class({1: "cow"}, {1: "Cow"})
    assert other_class({1: "\x1b[31mapple\n"}, here).isprintable()
