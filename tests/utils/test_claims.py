"""One run at a time, and none after it has ended in whatever way."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils.claims import claimed
from utils.errors import UserError


def test_a_claim_keeps_others_out(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "out.txt"):
        message = rf"{re.escape(path.name)}: another run is at work on it \(drawing\); wait for it"
        with claimed(path, "drawing"), pytest.raises(UserError, match=message), claimed(path, "drawing"):
            pass
        with pytest.raises(KeyError), claimed(path, "drawing"):
            raise KeyError
        with claimed(path, "drawing"):
            pass
    with pytest.raises(UserError, match="none: cannot be opened"), claimed(tmp_path / "none" / "none", "x"):
        pass


def test_a_killed_process_holds_no_claim_through_its_children(tmp_path: Path) -> None:
    """A loader's workers outlive the process that was killed for some seconds."""
    code = (
        "import os, time\nfrom pathlib import Path\nfrom utils.claims import claimed\n"
        f"with claimed(Path({str(tmp_path)!r}), 'x'):\n"
        "    child = os.fork()\n    if child == 0:\n        time.sleep(60)\n        os._exit(0)\n"
        "    print(child, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            with pytest.raises(UserError, match="another run"), claimed(tmp_path, "x"):
                pass
            process.kill()
            process.wait()
            os.kill(child, 0)
            with claimed(tmp_path, "x"):
                pass
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_a_claim_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with claimed(tmp_path, "x"):
        assert "cannot be locked (No locks available); let no other run write to it" in caplog.text
