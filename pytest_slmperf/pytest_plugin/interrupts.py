"""Ctrl-C and SIGTERM in a session with ``--slmperf``: it ends at once, without a traceback, and keeps its results.

The first Ctrl-C is pytest's own: ``KeyboardInterrupt`` ends the running test, engines are killed, and the results so far are
written.  A second Ctrl-C skips the rest (the report, the teardown of fixtures).  SIGTERM, with which CI systems end a job,
has the effect of a first Ctrl-C.  No signal interrupts the writing of results.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

ENDED_BY_SIGTERM = 128 + signal.SIGTERM


class Interrupts:
    """The handler of both signals. ``hurry`` is called at each signal, at any point of the program: it may only send
    signals."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self.count = 0
        self.over = False  # the session is over: the rest takes no time, and signals are ignored
        self._hurry = hurry
        self._held = False
        self._waiting: BaseException | None = None
        self._before: dict[signal.Signals, object] = {}

    def install(self) -> None:
        """Handle signals from now on, in the main thread, unless other code has replaced Python's own handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual:
                self._before[number] = usual
                signal.signal(number, self._answer)

    def remove(self) -> None:
        """Restore the previous handlers. Idempotent."""
        for number, usual in self._before.items():
            if signal.getsignal(number) == self._answer:
                signal.signal(number, usual)  # type: ignore[arg-type]
        self._before.clear()

    def _answer(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self._hurry()
        raised: BaseException
        if self.over:
            return
        if self.count > 1:
            raised = again()
        elif number == signal.SIGTERM:
            raised = pytest.exit.Exception("ended by SIGTERM", ENDED_BY_SIGTERM)
        else:
            raised = KeyboardInterrupt()
        if not self._held:
            raise raised
        self._waiting = raised

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals until the block has ended."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            raised, self._waiting = self._waiting, None
            if raised is not None:
                raise raised


def again() -> BaseException:
    """The exception that ends a session at its second interruption."""
    return pytest.exit.Exception("interrupted again: what was not written or ended yet is left out", 2)
