"""Notices a forked launch that hangs while it starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pytest_slmperf.engines.launch_host import HostFailed
from pytest_slmperf.engines.worker import tools as worker_tools


class Stall:
    """Detects a launch that hangs while it starts, because a lock that another thread held at the fork stays locked."""

    def __init__(self, session: int, marker: str, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``session``, ``marker``: of the launch's processes. ``idle_s``: how long they may use no processor."""
        self._session = session
        self._marker = marker
        self._idle_s = idle_s
        self._clock = clock
        self._used, self._since = -1, clock()

    def check(self) -> None:
        """HostFailed once the launch's processes have used no processor time for ``idle_s``."""
        used, now = _ticks(self._session, self._marker), self._clock()
        if used != self._used:
            self._used, self._since = used, now
        elif now - self._since >= self._idle_s:
            raise HostFailed(
                f"the forked launch has used no processor for {self._idle_s:.0f} s; it hung and was killed"
            )


def _ticks(session: int, marker: str) -> int:
    """Processor time of the living processes with that session or marker (a compiler has a session of its own), in ticks."""
    total, marked = 0, set(worker_tools.marked(marker))
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session or int(entry) in marked:
                total += int(fields[11]) + int(fields[12])
    return total
