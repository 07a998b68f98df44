"""Results and failed tests of a session, as the tests' reports bring them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_slmperf.model.result import FailedTest, Result
from pytest_slmperf.pytest_plugin.report_payload import failure_of, results_of

CRASHED = "???"  # pytest-xdist's name for the phase of a test whose worker died


class CollectedResults:
    """``results`` in the order of their tests' reports; ``failed_tests``: failed, but not by a verdict."""

    def __init__(self, failed_tests: list[FailedTest]) -> None:
        """``failed_tests`` is the list of the session's record, and is kept up to date."""
        self.results: list[Result] = []
        self.failed_tests = failed_tests

    def receive(self, report: pytest.TestReport) -> None:
        """Take what one report carries."""
        self._remember_failure(report)
        self.add(results_of(report))

    def add(self, results: Sequence[Result]) -> None:
        """Add a test's results; those of its earlier run, where another plugin ran it again, are replaced."""
        again = {result.id for result in results}
        self.results = [result for result in self.results if result.id not in again] + list(results)

    def _remember_failure(self, report: pytest.TestReport) -> None:
        if report.when == "setup":  # a new run of the test: an earlier one is forgotten
            self.failed_tests[:] = [failed for failed in self.failed_tests if failed.id != report.nodeid]
        failure = failure_of(report)
        if report.when == CRASHED:  # with the worker died what it knew of the test
            failure = FailedTest(id=report.nodeid, reason=str(report.longrepr))
        known = {failed.id for failed in self.failed_tests} if report.when == "call" else set()
        # among failing subtests the first says why
        if report.failed and failure is not None and report.nodeid not in known:
            self.failed_tests.append(failure)
