"""How every script ends: one line for what the user can put right, and the exit code."""

from __future__ import annotations

import errno
import io
import logging
import sys
from collections.abc import Callable

from utils.errors import PlainFormatter, UserError, one_line, printable

BAD_INPUT, STOPPED = 2, 130
# What a disk answers that is full, read-only, broken or somebody else's; the user can put it right.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
# What a user who stopped a script has to know, of most scripts.
GOES_ON = "the same command goes on where it was"


def run(main: Callable[[], int | None], name: str, *, stopped: str = "", level: int | None = None) -> int:
    """The exit code of a script: that of ``main``, 2 for bad input, 130 where Ctrl-C stopped it.

    Args:
        main: what the script does; its exit code is 0 where all is done (None is 0), 1 where something was left out.
        name: what stands before each line on stderr; a full or read-only disk is one, too.
        stopped: what a user who stopped the script has to know; without it KeyboardInterrupt passes.
        level: messages of the log from this level on go to stderr, bare; None leaves the log as it is.
    """
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter("%(message)s"))
        logging.basicConfig(level=level, handlers=[handler])
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be text; that it cannot be printed must not end a script.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return main() or 0
    except UserError as error:
        sys.stderr.write(f"{name}: {one_line(error)}\n")
        return BAD_INPUT
    except OSError as error:
        if error.errno not in DISK:
            raise
        file = "a file" if error.filename is None else printable(str(error.filename), 300)
        sys.stderr.write(f"{name}: {file}: cannot be read or written ({error.strerror})\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        if not stopped:
            raise
        sys.stderr.write(f"{name}: stopped; {stopped}\n")
        return STOPPED
