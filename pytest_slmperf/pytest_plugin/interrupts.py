"""Ctrl-C and SIGTERM while a session with ``--slmperf`` runs: answered at once, without a traceback, results kept.

The first Ctrl-C is pytest's own: ``KeyboardInterrupt`` ends the test that runs, engines are killed rather than asked, and
what was measured is written.  A second one leaves the rest (the report, fixtures' ends) where it stands.  SIGTERM, with
which CI systems end a job, is answered like a first Ctrl-C.  What writes results is never cut in two.
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
    """``hurry`` is called at each signal, from wherever the process is: it must only send signals itself."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self.count = 0
        self.over = False  # the session is: what is left takes no time, and a signal changes nothing
        self._hurry = hurry
        self._held = False
        self._waiting: BaseException | None = None
        self._before: dict[signal.Signals, object] = {}

    def install(self) -> None:
        """Answer signals from now on, where nobody else does: in the main thread, in place of Python's own answers."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual:
                self._before[number] = usual
                signal.signal(number, self._answer)

    def remove(self) -> None:
        """Put back what was there. Idempotent."""
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
        """What runs inside is finished first; a signal that came meanwhile is answered behind it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            raised, self._waiting = self._waiting, None
            if raised is not None:
                raise raised


def again() -> BaseException:
    """What ends a session that is interrupted a second time."""
    return pytest.exit.Exception("interrupted again: what was not written or ended yet is left out", 2)
