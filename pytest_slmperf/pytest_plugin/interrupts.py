"""Ctrl-C and SIGTERM in a session with ``--slmperf``: it ends at once, without a traceback, and keeps its results.

The first Ctrl-C is pytest's own: ``KeyboardInterrupt`` ends the running test, engines are killed, and the results so far are
written.  A second Ctrl-C skips the rest (the report, the teardown of fixtures).  SIGTERM, with which CI systems end a job,
has the effect of a first Ctrl-C.  No signal interrupts the writing of results, nor what pytest does between its loop and
``sessionfinish``: such a signal is answered right after.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable
from types import FrameType

import pytest

ENDED_BY_SIGTERM = 128 + signal.SIGTERM


class Interrupts:
    """The handler of both signals. ``hurry`` is called at each signal, at any point of the program: it may only send
    signals."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self.count = 0
        self.over = False  # the session is over: the rest takes no time, and signals are ignored
        self.loop_left = False
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
        if self._before and self.count:
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # one more Ctrl-C while Python itself ends
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
        elif self.loop_left:
            raised = pytest.exit.Exception("interrupted", 2)
        else:
            raised = KeyboardInterrupt()
        if not self._held:
            raise raised
        self._waiting = raised

    def hold(self) -> None:
        """Delay signals until ``release``."""
        self._held = True

    def release(self) -> None:
        """Raise what a delayed signal would have raised, and delay no more."""
        self._held = False
        raised, self._waiting = self._waiting, None
        if raised is not None:
            raise raised

    def leave_loop(self) -> None:
        """Delay signals until pytest's ``sessionfinish``: what is raised before it, pytest shows as a traceback, and in
        it, pytest expects no ``KeyboardInterrupt``."""
        self.hold()
        self.loop_left = True


def again() -> BaseException:
    """The exception that ends a session at its second interruption."""
    return pytest.exit.Exception("interrupted again: what was not written or ended yet is left out", 2)
