"""A conftest under which a session's time moves by what engines say they took, so that hours pass in seconds."""

from __future__ import annotations

_CONFTEST = """
import time

from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.measuring.context import MeasuringContext
from pytest_slmperf.measuring.launch import LaunchRun

passed = [0.0]
began = time.monotonic()
build, start, one_round = MeasuringContext.__init__, EnginePool._start, LaunchRun.round


def with_virtual_clock(self, **parts):
    build(self, **parts, clock=lambda: began + passed[0])


def slow_start(self, resolved, launch, *hosts):
    passed[0] += {start_s}
    return start(self, resolved, launch, *hosts)


def timed_round(self):
    one_round(self)
    passed[0] += self._all[-1].t_end - self._all[-1].t_start


MeasuringContext.__init__, EnginePool._start, LaunchRun.round = with_virtual_clock, slow_start, timed_round


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"virtual seconds: {{passed[0]:.0f}}")
"""


def virtual_clock(start_s: float) -> str:
    """Text of the conftest; every engine takes ``start_s`` seconds to start. It prints the seconds that went by."""
    return _CONFTEST.format(start_s=float(start_s))
