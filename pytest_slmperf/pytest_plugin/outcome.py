"""From a test's results to its outcome: judged when the test ends."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from pytest_slmperf.model.result import FailedTest, Result
from pytest_slmperf.model.verdict import UNDECIDED, Verdict, VerdictRecord, worst
from pytest_slmperf.pytest_plugin.record_result import location
from pytest_slmperf.pytest_plugin.report_payload import results_of
from pytest_slmperf.pytest_plugin.test_state import TestState
from pytest_slmperf.reports.wording import difference_text
from pytest_slmperf.util.formatting import percent, portion, quantity

MOST_REASON = 300  # characters of a failed test's own message that reports show
FAILS = {
    "regressed": {Verdict.REGRESSED},
    "inconclusive": {Verdict.REGRESSED, *UNDECIDED},
    "never": set[Verdict](),
}
_MEASURED_NOTHING = (
    "this performance test measured nothing, and so says nothing: take the fixture slmperf and call one of its scenarios, "
    "for instance slmperf.offline(batch=8, input_len=32, output_len=32); or call pytest.skip(reason); or, if it is no "
    "performance test, take @pytest.mark.slmperf away"
)

_FORKED = (
    "this performance test runs in a process forked from pytest's own (--forked, @pytest.mark.forked), where neither the "
    "engine nor what it measured could be handed back: run performance tests without it; the engine is a process of its "
    "own already"
)
_NO_SECOND_CHANCE = (
    "run again by another plugin, and not measured again: fresh launches confirmed this before it failed, and each further "
    "try would only be one more chance to miss it"
)


# --- before the test ---------------------------------------------------------------------------------------------------


def refuse(state: TestState) -> None:
    """Fail a test that cannot be measured, with the reason found at collection."""
    if state.refused is not None:
        pytest.fail(state.refused, pytrace=False)


def refuse_fork(pid: int) -> None:
    """Fail a test that another plugin runs in a process forked from ``pid``, before its fixtures start an engine that
    nobody would stop."""
    if os.getpid() != pid:
        pytest.fail(_FORKED, pytrace=False)


def refuse_again(state: TestState) -> None:
    """Fail a test that regressed and that another plugin runs again, with its first message."""
    if state.regressed is not None:
        pytest.fail(f"{state.regressed}\n  {_NO_SECOND_CHANCE}", pytrace=False)


# --- after its body ----------------------------------------------------------------------------------------------------


def keep_regression(state: TestState, fail_on: str) -> str | None:
    """The message a test fails with by its verdicts, None where nothing fails; a regression stays with the test.

    Called however its body ended: where its own assertion failed, another plugin's second try would measure anew.
    """
    message = failure_message(state.results, fail_on)
    if message and worst_gated(state.results) == Verdict.REGRESSED:
        state.regressed = message
    return message


def judge(state: TestState, fail_on: str) -> None:
    """Fail the test when a gated verdict says so, or when it measured nothing. Called after its body passed."""
    if not state.results and ("slmperf" in state.used or not state.used):
        pytest.fail(_MEASURED_NOTHING, pytrace=False)
    message = keep_regression(state, fail_on)
    if message:
        state.judged = True
        pytest.fail(message, pytrace=False)


def gated(results: Iterable[Result]) -> list[VerdictRecord]:
    """All verdicts of a test that may fail it."""
    return [verdict for result in results for verdict in result.verdicts if verdict.gate]


def worst_gated(results: Iterable[Result]) -> Verdict | None:
    """The verdict that names a test's outcome; None where nothing was judged."""
    return worst(verdict.verdict for verdict in gated(results))


def failure_message(results: Iterable[Result], fail_on: str) -> str | None:
    """The few lines a failing test says; None when nothing fails at that level."""
    failing = FAILS[fail_on]
    lines = [
        describe(result, verdict)
        for result in results
        for verdict in result.verdicts
        if verdict.gate and verdict.verdict in failing
    ]
    return "\n".join(lines) or None


def describe(result: Result, verdict: VerdictRecord) -> str:
    """Metric, change with its interval, threshold and baseline, in three lines."""
    metric = result.metrics.get(verdict.metric)
    head = f"{verdict.metric} {verdict.verdict}"
    if verdict.change is not None:
        head += f": {percent(verdict.change)}"
        if verdict.ci is not None:
            level = verdict.detail.get("interval_level")
            kind = f"{portion(level)} interval" if level else "interval"
            head += f" ({kind} {percent(verdict.ci[0])} to {percent(verdict.ci[1])})"
    if metric is not None and metric.value is not None:
        head += f", now {quantity(metric.value, metric.unit)}, {metric.better} is better"
    lines = [head, _margins(verdict)]
    if verdict.reason:
        lines.append(f"  {verdict.reason}")
    changed = [difference_text(difference) for difference in result.differences[:4]]
    if changed:
        lines.append(f"  what changed: {'; '.join(changed)}")
    return "\n".join(lines)


def _margins(verdict: VerdictRecord) -> str:
    margins = (("tolerance", verdict.tolerance), ("limit", verdict.limit))
    text = ", ".join(f"{name} {portion(share)}" for name, share in margins if share is not None)
    return f"  {text}; baseline {verdict.baseline}" if verdict.baseline else f"  {text}"


# --- its report --------------------------------------------------------------------------------------------------------


def is_subtest(report: pytest.TestReport) -> bool:
    """Whether the report is of a part of a test (pytest's ``subtests``, unittest's ``subTest``), which is not judged."""
    return type(report).__name__.lower() == "subtestreport"


def category(report: pytest.TestReport) -> str | None:
    """What a passed test is called in pytest's closing line: a test without a comparable baseline is not green."""
    if report.when != "call" or not report.passed or hasattr(report, "wasxfail") or is_subtest(report):
        return None
    name = worst_gated(results_of(report))
    return name if name in UNDECIDED else None


def other_failure(item: pytest.Item, state: TestState, report: pytest.TestReport) -> FailedTest | None:
    """Why a test failed that no verdict failed, for the reports: without it they would say that all is well.

    None where its results say it: a verdict, or a scenario that could not be measured.
    """
    if not report.failed or state.judged or any(result.failure for result in state.results):
        return None
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longreprtext).strip() or f"{report.when} failed"
    phase = "" if report.when == "call" else f"{report.when}: "
    return FailedTest(
        id=item.nodeid,
        reason=(phase + text.splitlines()[0])[:MOST_REASON],
        location=location(item),
        unexpected_pass=isinstance(report.longrepr, str) and text.startswith("[XPASS(strict)]"),
    )
