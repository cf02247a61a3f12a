"""Exit codes and the one line on stderr that every script ends with."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.errors import UserError
from utils.script import GOES_ON, run


@pytest.mark.parametrize(("given", "code"), [(None, 0), (0, 0), (1, 1), (143, 143)])
def test_the_code_of_the_script_passes(given: int | None, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: given, "x.py") == code
    assert capsys.readouterr() == ("", "")


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("Caught UserError in worker\nTraceback ...\nutils.errors.UserError: --lr x: a number is needed")

    assert run(main, "run.py") == 2
    assert capsys.readouterr() == ("", "run.py: --lr x: a number is needed\n")


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0, "x.py")


def test_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert run(main, "collect_web.py", stopped=GOES_ON) == 130
    assert capsys.readouterr().err == "collect_web.py: stopped; the same command goes on where it was\n"
    with pytest.raises(KeyboardInterrupt):
        run(main, "run.py")


def test_messages_of_the_log_are_bare_and_torch_is_not_loaded() -> None:
    program = (
        "import logging, sys\nfrom utils.script import run\n"
        "def main():\n    logging.getLogger('webwilss').info('hello')\n    return int('torch' in sys.modules)\n"
        "sys.exit(run(main, 'x.py', level=logging.INFO))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "hello\n")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_line(number: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "logs/x.jsonl")

    assert run(main, "run.py") == 2
    assert capsys.readouterr() == ("", f"run.py: logs/x.jsonl: cannot be read or written ({words})\n")


def test_other_errors_of_the_system_pass() -> None:
    def main() -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        run(main, "run.py")


def test_names_that_are_no_text_are_printed_in_escapes() -> None:
    code = "from utils.script import run; run(lambda: print('a\\udcff.jpg'), 'x.py')"
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.stdout == b"a\\udcff.jpg\n" and done.stderr == b""
