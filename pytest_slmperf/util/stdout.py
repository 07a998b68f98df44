"""Standard output that leads nowhere: its reader has gone (``slmperf history … | head``), it is closed, its disk is full."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

BROKEN = 141  # what a shell says of a command that SIGPIPE ended
NOT_WRITTEN = 3  # failed while working
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def quietly(run: Callable[[], int]) -> int:
    """The exit code of ``run``; ``BROKEN`` without a word where nobody reads standard output any more, ``NOT_WRITTEN`` and
    a line on standard error where the disk that it is written to is full: Python's own code, 1, would mean a regression.

    Not by letting SIGPIPE end the process: then a socket that its peer has closed would end it as well.
    """
    if sys.stdout is None:  # closed by the caller (``>&-``), who wants the exit code only
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    try:
        try:
            return run()
        finally:
            # What is still buffered fails here, and not in Python's own flush at the end; argparse's --help as well,
            # which ends with SystemExit.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
        return BROKEN
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _discard()
        print(f"slmperf: the output cannot be written: {error.strerror}; free some space", file=sys.stderr)
        return NOT_WRITTEN


def _discard() -> None:
    """What is left in the buffer goes nowhere, when Python writes it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
