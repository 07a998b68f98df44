"""Live progress: one line rewritten in place on a terminal, sparse plain lines elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from pytest_slmperf import redaction
from pytest_slmperf.reports.terminal.encoding import fit
from pytest_slmperf.reports.wording import elide, printable
from pytest_slmperf.text_out import log_line
from pytest_slmperf.util.formatting import duration

PHASES = ("engine starting", "warm-up", "rounds", "launches")


class Progress:
    """Shows what a long measurement is doing and how long it will still take.

    On a terminal (``isatty``) one line is rewritten in place, at most ten times a second.  Elsewhere a plain line is
    written at most every ``every_s`` seconds, so that a CI log stays short.
    ``verbosity`` < 0 writes nothing.

    The text on the terminal's current line (``column`` characters) is kept: progress is written to the line below it,
    and ``clear`` puts the cursor back.  ``uncaptured`` is entered round every write, to reach past output capture.
    """

    def __init__(
        self,
        stream: TextIO,
        isatty: bool,
        verbosity: int = 0,
        *,
        width: int = 80,
        every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        column: Callable[[], int] = lambda: 0,
        uncaptured: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._stream = stream
        self._live = isatty
        self._silent = verbosity < 0
        self._width = width
        self._every_s = 0.1 if isatty else every_s
        self._clock = clock
        self._column = column
        self._uncaptured = uncaptured
        self._left_at = 0  # column of the line above, where the cursor belongs
        self._key: tuple[str, str] | None = None
        self._begun = 0.0
        self._done_at_begin = 0.0
        self._written = float("-inf")
        self._dirty = False

    def update(
        self,
        test: str,
        phase: str,
        done: float | None = None,
        total: float | None = None,
        estimate: str | None = None,
        left_s: float | None = None,
    ) -> None:
        """Show the state: ``done`` of ``total`` steps of a phase, with the running ``estimate`` (``1,204 tok/s ±2 %``).

        Time left is ``left_s`` where the caller knows it, else extrapolated from the steps done in this phase.
        """
        if self._silent:
            return
        now = self._clock()
        if self._key != (test, phase):
            self._key, self._begun, self._done_at_begin = (test, phase), now, done or 0.0
            if not self._live and now - self._written < self._every_s and self._written > float("-inf"):
                return
        elif now - self._written < self._every_s:
            return
        if left_s is None:
            left_s = self._extrapolate(now, done, total)
        self._write(self._text(test, phase, done, total, estimate, left_s, now - self._begun))
        self._written = now

    def clear(self) -> None:
        """Take the live line away, so that something else can be written; the next update draws it again."""
        if self._dirty:
            back = f"\x1b[A\x1b[{self._left_at}C" if self._left_at else ""
            with self._uncaptured():
                self._stream.write(f"\r\x1b[2K{back}")
                self._stream.flush()
            self._dirty = False
            self._left_at = 0
            self._written = float("-inf")

    close = clear

    def _extrapolate(self, now: float, done: float | None, total: float | None) -> float | None:
        if done is None or not total or done <= self._done_at_begin:
            return None
        pace = (now - self._begun) / (done - self._done_at_begin)
        return max(0.0, total - done) * pace

    def _text(
        self,
        test: str,
        phase: str,
        done: float | None,
        total: float | None,
        estimate: str | None,
        left_s: float | None,
        elapsed: float,
    ) -> str:
        parts = [printable(redaction.hide(phase))]
        if done is not None:
            parts[0] += f" {done:g}/{total:g}" if total else f" {done:g}"
        if estimate:
            parts.append(printable(estimate))
        if left_s is not None:
            parts.append(f"{duration(left_s)} left")
        elif elapsed >= 1:
            parts.append(f"for {duration(elapsed)}")
        tail = ", ".join(parts)
        room = self._width - 1 - len(tail) - 2
        name = printable(test)
        if not name:
            return elide(tail, self._width - 1, keep="start") if self._live else tail
        if not self._live:
            return f"{elide(name, max(8, room))}: {tail}"
        return elide(f"{elide(name, room)}: {tail}" if room >= 8 else tail, self._width - 1, keep="start")

    def _write(self, text: str) -> None:
        text = fit(text, self._stream.encoding if isinstance(self._stream, io.TextIOBase) else None)
        with self._uncaptured():
            column = 0 if self._dirty else self._column()
            if self._live:
                if column:
                    self._stream.write("\n")
                    self._left_at = column
                self._stream.write(f"\r\x1b[2K{text}")
                self._dirty = True
            else:
                self._stream.write(("\n" if column else "") + log_line(text) + "\n")
            self._stream.flush()
