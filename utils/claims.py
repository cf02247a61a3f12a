"""Folders and files that one run at a time fills."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.whole import InUse, locked

LOG = logging.getLogger("webwilss")
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
