"""Tracebacks that end in the user's own line."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from pytest_slmperf.errors import SlmperfError

PACKAGE = str(Path(__file__).parent.parent)
OWN = (PACKAGE, "<string>")  # "<string>": code that dataclasses generate


def without_own_frames(error: SlmperfError) -> SlmperfError:
    """The error with a traceback that ends at the test's call of this package: its message names cause and fix."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    while len(frames) > 1 and frames[-1].tb_frame.f_code.co_filename.startswith(OWN):
        frames.pop()
    shortened = None
    for frame in reversed(frames):
        shortened = TracebackType(shortened, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return error.with_traceback(shortened)
