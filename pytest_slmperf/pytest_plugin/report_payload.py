"""What a test's report carries: its results and its own failure. Structs in one process, builtins between two.

pytest-xdist sends reports from its workers by ``pytest_report_to_serializable``; nothing is converted without it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_slmperf.model.result import FailedTest, Result

RESULTS, FAILURE = "slmperf_results", "slmperf_failure"
_KINDS: dict[str, Any] = {RESULTS: list[Result], FAILURE: FailedTest}


def attach(report: pytest.TestReport, results: list[Result] | None, failure: FailedTest | None) -> None:
    """Put what there is on the report; None: nothing."""
    for name, value in ((RESULTS, results), (FAILURE, failure)):
        if value is not None:
            setattr(report, name, value)


def results_of(report: pytest.TestReport) -> list[Result]:
    """The results that came with a report; empty where none did."""
    results: list[Result] = getattr(report, RESULTS, [])
    return results


def failure_of(report: pytest.TestReport) -> FailedTest | None:
    """The failure that no verdict explains, if the report has one."""
    failure: FailedTest | None = getattr(report, FAILURE, None)
    return failure


def to_builtins(data: dict[str, Any]) -> None:
    """Convert the payload in a report's serialised form, in place."""
    for name in _KINDS:
        if name in data:
            data[name] = msgspec.to_builtins(data[name])


def from_builtins(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Convert the payload of a report that came from another process, in place."""
    for name, kind in _KINDS.items():
        if hasattr(report, name):
            setattr(report, name, msgspec.convert(getattr(report, name), kind))
