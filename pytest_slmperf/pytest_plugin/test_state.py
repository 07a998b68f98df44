"""The plugin's state of one running test, stored on pytest's item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result


@dataclass
class TestState:
    """The results of one performance test so far, and its outcome."""

    __test__ = False  # by its name, pytest would collect it as a test class

    spec: EngineSpec | None = None  # set when the test parametrizes slm_engine
    refused: str | None = None  # why it cannot be measured, under pytest-xdist, where the session could not be ended
    used: set[str] = field(default_factory=set)  # this plugin's fixtures that the test uses
    results: list[Result] = field(default_factory=list)
    cut_short: bool = False  # interrupted while it was measured
    judged: bool = False  # failed by a verdict, which is in the results
    ended: bool = False  # its body has run, and its verdict is given
    regressed: str | None = None  # the message of a regression, which a rerun must not undo

    def begin(self) -> None:
        """Discard an earlier run of the same test (another plugin may rerun it), unless it regressed."""
        self.ended = self.cut_short = False
        if self.regressed is None:
            self.results.clear()
            self.used.clear()
            self.judged = False


SKIPPED = "performance test: run it with --slmperf"
TEST: pytest.StashKey[TestState] = pytest.StashKey()
