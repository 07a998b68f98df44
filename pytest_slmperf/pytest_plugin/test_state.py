"""What the plugin knows of one test while it runs, kept on pytest's own item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result


@dataclass
class TestState:
    """What one performance test has measured so far, and what became of it."""

    __test__ = False  # pytest would take the name for a test class

    spec: EngineSpec | None = None  # set when the test parametrizes slm_engine
    refused: str | None = None  # why it cannot be measured, where the session itself could not be ended (pytest-xdist)
    used: set[str] = field(default_factory=set)  # this plugin's fixtures that the test was given
    results: list[Result] = field(default_factory=list)
    cut_short: bool = False  # interrupted while it was measured
    judged: bool = False  # failed by a verdict, which the results hold
    ended: bool = False  # its body has run, and its verdict is given
    regressed: str | None = None  # the message of a regression, which a second try must not undo

    def begin(self) -> None:
        """Forget an earlier run of the same test (another plugin may run it again), unless it regressed."""
        self.ended = self.cut_short = False
        if self.regressed is None:
            self.results.clear()
            self.used.clear()
            self.judged = False


SKIPPED = "performance test: run it with --slmperf"
TEST: pytest.StashKey[TestState] = pytest.StashKey()
