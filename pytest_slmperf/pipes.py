"""Ending quietly when the reader of our output has gone: ``slmperf history … | head``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

BROKEN = 141  # what a shell says of a command that SIGPIPE ended


def quietly(run: Callable[[], int]) -> int:
    """The exit code of ``run``; ``BROKEN`` without a word where nobody reads standard output any more.

    Not by letting SIGPIPE end the process: then a socket that its peer has closed would end it as well.
    """
    try:
        try:
            return run()
        finally:
            # What is still buffered fails here, and not in Python's own flush at the end; argparse's --help as well,
            # which ends with SystemExit.
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN
