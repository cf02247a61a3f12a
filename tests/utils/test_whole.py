"""Files that are there whole or not at all, whatever stands in their way; half lines and locks."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils.errors import UserError
from utils.whole import (
    InUse,
    claimed,
    clear_leftovers,
    clear_leftovers_in,
    cut_half_line,
    locked,
    replacing,
    whole_file,
    write_whole,
)


def _temporary(path: Path) -> Path:
    with pytest.raises(KeyError), replacing(path) as temporary:
        raise KeyError
    return temporary


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "t.txt"
    write_whole(path, "é\r\nold\n")
    assert path.read_bytes() == b"\xc3\xa9\r\nold\n"
    write_whole(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists() and temporary.parent == tmp_path
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_what_breaks_off_leaves_the_old_file_alone(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "t.txt"
    write_whole(path, "old")
    with pytest.raises(failure), whole_file(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_for_those_without_words_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    write_whole(path, "old")
    for error, said in ((OSError(28, "No space left on device"), "No space left on device"), (OSError("odd"), "odd")):
        with pytest.raises(UserError) as caught, whole_file(path) as temporary:
            temporary.write_text("half")
            raise error
        assert str(caught.value) == f"{path}: cannot be written ({said})"
        with pytest.raises(OSError) as passed, replacing(path) as temporary:
            temporary.write_text("half")
            raise error
        assert passed.value is error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "t.txt", tmp_path / "file" / "deep" / "t.txt"):
        with pytest.raises(UserError, match=r"t\.txt: cannot be written"):
            write_whole(path, "new")
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "file" / "t.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_in_the_place_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "t.txt", Path("t.txt"), Path()):
        with pytest.raises(UserError, match="cannot be written"):
            write_whole(path, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_replacing_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "t.txt") as temporary:
        temporary.write_text("new")
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    path, outside = tmp_path / "t.txt", tmp_path / "outside"
    outside.write_text("x")
    _temporary(path).symlink_to(outside)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert outside.read_text() == "x" and not path.is_symlink() and path.read_text() == "new"


def test_a_file_that_is_the_new_one_already_leaves_no_second_name(tmp_path: Path) -> None:
    """Renaming one name of a file to another of the same file does nothing."""
    path = tmp_path / "t.txt"
    path.write_text("x")
    with replacing(path) as temporary:
        os.link(path, temporary)
    assert path.read_text() == "x" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, b""), (b"", b""), (b"whole\n", b"whole\n"), (b"a\nb\nha", b"a\nb\n"), (b"ha", b""), (b"\n\xc3", b"\n")],
)
def test_half_a_line_is_cut(tmp_path: Path, before: bytes | None, after: bytes) -> None:
    path = tmp_path / "t.txt"
    if before is not None:
        path.write_bytes(before)
    cut_half_line(path)
    assert path.read_bytes() == after


def _locker(path: Path, code: str) -> subprocess.Popen[str]:
    """Another process that locks a path, says so, and does as ``code`` says."""
    program = (
        "import sys, time, os, subprocess\nfrom pathlib import Path\nfrom utils.whole import locked\n"
        f"with locked(Path({str(path)!r}), wait=True) as handle:\n    print('locked', flush=True)\n    {code}\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    return process


@pytest.mark.parametrize("folder", [False, True])
def test_a_lock_keeps_others_out_until_its_process_ends(tmp_path: Path, folder: bool) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path if folder else tmp_path / ".lock"
    process = _locker(path, "time.sleep(60)")
    with pytest.raises(InUse, match="another process"), locked(path, wait=False):
        pytest.fail("two have the lock")
    process.kill()
    process.wait()
    for _ in range(2):
        with locked(path, wait=False):
            pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    process = _locker(tmp_path / ".lock", "time.sleep(0.5)")
    started = time.monotonic()
    with locked(tmp_path / ".lock", wait=True):
        assert time.monotonic() - started > 0.3
    assert process.wait() == 0


def test_a_process_that_inherits_the_handle_keeps_the_lock(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(0.7)'], pass_fds=[handle])"
    assert _locker(tmp_path / ".lock", child).wait() == 0
    with pytest.raises(InUse), locked(tmp_path / ".lock", wait=False):
        pytest.fail("the child has the lock")
    with locked(tmp_path / ".lock", wait=True):
        pass


def test_a_lock_may_end_with_its_process_though_a_fork_lives_on(tmp_path: Path) -> None:
    """Loading processes outlive a killed run by seconds, and the same command is given again at once."""
    pytest.importorskip("fcntl")
    path = tmp_path / ".lock"
    program = (
        "import os, time\nfrom pathlib import Path\nfrom utils.whole import locked\n"
        f"with locked(Path({str(path)!r}), wait=False, forked=False):\n"
        "    child = os.fork()\n"
        # The fork says it itself: it has then run what lets go of the lock.
        "    if child == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(60)\n        os._exit(0)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(InUse), locked(path, wait=False):
            pytest.fail("the process has the lock")
        process.kill()
        process.wait()
        os.kill(child, 0)
        with locked(path, wait=False, forked=False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [tmp_path / f".run_0.pth.{number}.tmp" for number in (dead.pid, 2**22 + 7)]
    stays = [
        tmp_path / name
        for name in (
            f".run_0.pth.{os.getpid()}.tmp",  # of a process that lives
            ".run_0.pth.1.tmp",
            f".run_1.pth.{dead.pid}.tmp",  # of another name
            f".other_run_0.pth.{dead.pid}.tmp",
            f"run_0.pth.{dead.pid}.tmp",
            ".run_0.pth.x.tmp",
            ".run_0.pth.tmp",
            ".runX0Xpth.7.tmp",
            "run_0.pth",
        )
    ]
    for path in [*gone, *stays]:
        path.touch()
    clear_leftovers(tmp_path / "run_0.pth")
    assert sorted(tmp_path.iterdir()) == sorted(stays)
    clear_leftovers_in(tmp_path)
    others = {tmp_path / f".{name}.{dead.pid}.tmp" for name in ("run_1.pth", "other_run_0.pth")}
    assert others <= {*stays} - {*tmp_path.iterdir()} <= {*others, tmp_path / ".runX0Xpth.7.tmp"}
    clear_leftovers(tmp_path / "nowhere/run_0.pth")


def test_a_lock_leaves_a_file_alone_and_ends_with_its_block(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("x")
    with pytest.raises(KeyError), locked(tmp_path / "t.txt", wait=True):
        raise KeyError
    with locked(tmp_path / "t.txt", wait=False):
        pass
    assert (tmp_path / "t.txt").read_text() == "x"


def test_without_file_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path, wait=False) as one, locked(tmp_path, wait=False) as other:
        assert one is None and other is None


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
        "import os, time\nfrom pathlib import Path\nfrom utils.whole import claimed\n"
        f"with claimed(Path({str(tmp_path)!r}), 'x'):\n"
        "    if os.fork() == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(60)\n        os._exit(0)\n"
        "    time.sleep(60)\n"
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
