"""Files that several processes write, and that a kill may hit: written whole or not at all, locked, without half a line at the end."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from utils.errors import UserError

LOG = logging.getLogger("webwilss")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, under which nothing lies, renamed to ``path`` at the end.

    Where the block or the renaming fails, ``path`` is left as it was, and nothing stays under the temporary name.

    Raises:
        OSError: the file cannot be written; for callers that have their own words for it. Others take ``whole_file``.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        # What lies there under this name may be a link to somewhere else.
        temporary.unlink(missing_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        # Where a parent is a file this fails as the writing did, and would hide its error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """``replacing``, with the folders of ``path`` made first, and failures told in one line.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8, its line ends as they are; UserError where it cannot be written."""
    with whole_file(path) as temporary, temporary.open("x", encoding="utf-8", newline="") as file:
        file.write(text)


def clear_leftovers(path: Path) -> None:
    """Delete what killed processes left of ``path`` under temporary names; those of processes that live stay.

    Only for files that one process of this machine writes at a time: elsewhere the number of a process says nothing.
    """
    _clear(path.parent, re.escape(path.name))


def clear_leftovers_in(folder: Path) -> None:
    """The same for all files of a folder."""
    _clear(folder, ".+")


def _clear(folder: Path, name: str) -> None:
    pattern = re.compile(rf"\.{name}\.(\d{{1,10}})\.tmp")
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:  # Nothing is there yet.
        return
    for name in names:
        match = pattern.fullmatch(name)
        if match and not _lives(int(match[1])):
            with suppress(OSError):
                (folder / name).unlink()


def _lives(process: int) -> bool:
    if os.name != "posix":  # Elsewhere asking ends the process.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # It is somebody else's.
        return True
    return True


def cut_half_line(path: Path) -> None:
    """Cut off what a killed process left behind the last line's end; makes the file where there is none.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


class InUse(Exception):
    """Another process has a lock."""


@contextmanager
def locked(path: Path, *, wait: bool, forked: bool = True) -> Iterator[int | None]:
    """Keep other processes that lock ``path`` out of the block, where the system has file locks.

    The lock ends with the block, or with the process; a process that inherits the handle keeps it.

    Args:
        path: a folder, or a file, which is made where there is none and whose content is left alone.
        wait: whether to wait while another process has the lock.
        forked: whether processes that this one forks keep the lock too; loading processes outlive a killed run by seconds.

    Yields:
        The handle of the lock; None where the system has no file locks, and nobody is kept out.

    Raises:
        InUse: another process has the lock, and ``wait`` is false.
        OSError: ``path`` cannot be opened, or its file system has no locks.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    if not forked:
        _OWN.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{path}: another process has the lock") from None
        yield handle
    finally:
        if forked or handle in _OWN:
            _OWN.discard(handle)
            os.close(handle)


# Handles of locks that end with this process, whatever it has forked.
_OWN: set[int] = set()


def _close_own() -> None:
    while _OWN:
        os.close(_OWN.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_own)


# What a file system without locks answers.
LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


@contextmanager
def claimed(path: Path, work: str) -> Iterator[None]:
    """Keep other processes out of a folder or file that takes long to fill, so that two do not mix what they write.

    The claim ends with the block, or with this process however it ends; forked children do not hold it.

    Args:
        path: a folder, or a file, which is made where there is none; it must not be renamed or replaced meanwhile.
        work: what the block does, in words.

    Raises:
        UserError: another process has it, or ``path`` cannot be opened.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False, forked=False))
        except InUse:
            raise UserError(f"{path}: another run is at work on it ({work}); wait for it or stop it") from None
        except OSError as error:
            if error.errno not in LOCKLESS:
                raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
            LOG.warning("%s: cannot be locked (%s); let no other run write to it meanwhile", path, error.strerror)
        yield
