"""Where the plugin keeps its state: on pytest's own config and items, nothing global."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.session import PerfSession


@dataclass
class TestState:
    """What one test has measured so far. ``results`` are plain dicts, fit for a report that crosses processes."""

    __test__ = False  # pytest would take the name for a test class

    spec: EngineSpec | None = None  # set when the test parametrizes slm_engine
    refused: str | None = None  # why it cannot be measured, where the session itself could not be ended (pytest-xdist)
    used: set[str] = field(default_factory=set)  # of this plugin's fixtures, those that the test was given
    results: list[dict[str, Any]] = field(default_factory=list)
    judged: bool = False  # failed by a verdict, which the results hold
    ended: bool = False  # its body has run, and its verdict is given
    regressed: str | None = None  # the message of a verdict that more tries must not undo

    def begin(self) -> None:
        """Forget an earlier run of the same test (another plugin may run it again), unless it regressed."""
        self.ended = False
        if self.regressed is None:
            self.results.clear()
            self.used.clear()
            self.judged = False


SKIPPED = "performance test: run it with --slmperf"
SESSION: pytest.StashKey[PerfSession] = pytest.StashKey()
TEST: pytest.StashKey[TestState] = pytest.StashKey()
