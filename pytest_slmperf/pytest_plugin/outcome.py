"""A test's results and outcome: recorded for each scenario, carried by pytest's report, judged at the end of the test."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import pytest

from pytest_slmperf import redaction
from pytest_slmperf.baselines.journal import Journal
from pytest_slmperf.errors import EngineError, SlmperfError
from pytest_slmperf.model.result import Engine, FailedTest, Result
from pytest_slmperf.model.verdict import UNDECIDED, Verdict, VerdictRecord, worst
from pytest_slmperf.pytest_plugin.settings import base_spec, device_of
from pytest_slmperf.pytest_plugin.test_state import TEST, TestState
from pytest_slmperf.reports.wording import difference_text
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.util.formatting import percent, portion, quantity

if TYPE_CHECKING:
    from pytest_slmperf.model.result import Result


# The payload of a test's report: its results and its own failure. They are structs within a process; for reports of
# pytest-xdist's workers, ``pytest_report_to_serializable`` converts them to builtins.

RESULTS, FAILURE = "slmperf_results", "slmperf_failure"
_KINDS: dict[str, Any] = {RESULTS: list[Result], FAILURE: FailedTest}


def attach(report: pytest.TestReport, results: list[Result] | None, failure: FailedTest | None) -> None:
    """Put results and failure, unless they are None, on the report."""
    for name, value in ((RESULTS, results), (FAILURE, failure)):
        if value is not None:
            setattr(report, name, value)


def hide_secrets(report: pytest.TestReport) -> None:
    """Hide the known secrets in what pytest shows of a test: its traceback, with its source, and what it has printed."""
    if report.failed and (hidden := redaction.hide_known(report.longreprtext)) != report.longreprtext:
        report.longrepr = hidden
    report.sections = [(name, redaction.hide_known(text)) for name, text in report.sections]


def results_of(report: pytest.TestReport) -> list[Result]:
    """The results of a report; may be empty."""
    results: list[Result] = getattr(report, RESULTS, [])
    return results


def failure_of(report: pytest.TestReport) -> FailedTest | None:
    """The failure of a report that no verdict explains, or None."""
    failure: FailedTest | None = getattr(report, FAILURE, None)
    return failure


def to_builtins(data: dict[str, Any]) -> None:
    """Convert the payload in a report's serialised form, in place."""
    for name in _KINDS:
        if name in data:
            # hidden here: the controller does not know what was given in this process only
            data[name] = redaction.hidden(msgspec.to_builtins(data[name]))


def from_builtins(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Convert the payload of a report that came from another process, in place."""
    for name, kind in _KINDS.items():
        if hasattr(report, name):
            setattr(report, name, msgspec.convert(getattr(report, name), kind))


# Results for pytest-benchmark, if that plugin is active.


def extra_info(result: Result) -> dict[str, Any]:
    """Facts in addition to the round seconds: every measured metric with its unit, engine, scenario and verdicts."""
    import msgspec

    engine = msgspec.to_builtins(result.engine)
    facts: dict[str, Any] = {
        "scenario": result.scenario,
        "engine": {key: engine[key] for key in ("name", "version", "model", "weights", "device")},
        "metrics": {
            name: {"value": item.value, "unit": item.unit}
            for name, item in result.metrics.items()
            if item.value is not None
        },
        "energy": {"source": result.energy.source, "joules": result.energy.joules, "reason": result.energy.reason},
        "verdicts": {verdict.metric: verdict.verdict for verdict in result.verdicts},
    }
    return dict(redaction.hidden(facts))


def wanted(session: Any) -> bool:
    """Whether pytest-benchmark must write or compare; its table alone would only repeat the verdict table."""
    return any(getattr(session, name, None) for name in ("json", "save", "autosave", "compare", "histogram"))


def add(item: pytest.Item, result: Result) -> None:
    """Add the clean rounds' seconds as one benchmark. Does nothing without pytest-benchmark, or if it is disabled (under
    pytest-xdist it disables itself)."""
    session = getattr(item.config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip or not wanted(session):
        return
    rounds = [
        round_
        for launch in result.launches
        if launch.side == "candidate"
        for round_ in launch.rounds[launch.warmup_rounds :]
        if round_.contaminated is None
    ]
    if not rounds:
        return
    from pytest_benchmark.stats import Metadata

    callspec = getattr(item, "callspec", None)
    kind = result.scenario.get("kind")
    # The name must differ from that of the test's own `benchmark`, since pytest-benchmark compares results by name.
    both = f"::{kind}" if "benchmark" in getattr(item, "fixturenames", ()) else ""
    fixture = SimpleNamespace(
        name=item.name + result.id.removeprefix(item.nodeid) + both,
        fullname=result.id + both,
        group=kind,
        param=callspec.id if callspec else None,
        params=callspec.params if callspec else None,
        extra_info=extra_info(result),
        cprofile_stats=None,
        has_error=False,
    )
    metadata: Any = Metadata(  # type: ignore[no-untyped-call]
        fixture, iterations=1, options={"timer": "engine", "min_rounds": len(rounds)}
    )
    for round_ in rounds:
        metadata.update(round_.t_end - round_.t_start)
    session.benchmarks.append(metadata)


# Recording a finished result in three places: the journal, its test's state, pytest-benchmark's results.


def location(item: pytest.Item) -> str:
    """``path:line`` of a test."""
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}"


def record_result(journal: Journal, item: pytest.Item, result: Result) -> None:
    """Write the result to the journal, so that a later crash does not lose it, and add it to its test's state."""
    result.scenario.setdefault("location", location(item))
    write_to_journal(journal, result)
    item.stash[TEST].results.append(result)
    add(item, result)


def write_to_journal(journal: Journal, result: Result) -> None:
    """Append a result, or a later state of it, which replaces the earlier. A full disk becomes a note of the result."""
    try:
        journal.append(result)
    except (SlmperfError, OSError) as error:  # the files that are written at the end still contain the result
        result.notes.append(f"not kept against a crash: {error}")


def record_failure(
    journal: Journal, item: pytest.Item, scenario: Scenario, result_id: str, error: BaseException
) -> None:
    """Record a scenario that could not be measured: every report shows the reason, without figures."""
    spec = item.stash[TEST].spec or base_spec(item.config, None)
    engine = Engine(
        name=spec.engine, version="unknown", model=spec.model, weights=spec.weights or "unknown",
        device=device_of(item.config, spec),
    )  # fmt: skip
    lines = redaction.message(str(error).strip() or type(error).__name__).split("\n")  # some errors have no message
    result = Result(id=result_id, scenario=scenario.parameters(), engine=engine, failure=lines[0])
    if isinstance(error, EngineError):
        result.log_tail = error.log_tail
    record_result(journal, item, result)


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


def fail(text: str) -> NoReturn:
    """Fail a test with words for the user, and no frames."""
    raise pytest.fail.Exception(redaction.message(text), pytrace=False)


def refuse(state: TestState) -> None:
    """Fail a test that cannot be measured, with the reason from collection."""
    if state.refused is not None:
        fail(state.refused)


def refuse_fork(pid: int) -> None:
    """Fail a test that another plugin runs in a process forked from ``pid``, before its fixtures start an engine, which no
    process would stop."""
    if os.getpid() != pid:
        fail(_FORKED)


def refuse_again(state: TestState) -> None:
    """Fail the rerun, by another plugin, of a test that has regressed, with its first message."""
    if state.regressed is not None:
        fail(f"{state.regressed}\n  {_NO_SECOND_CHANCE}")


# --- after its body ----------------------------------------------------------------------------------------------------


def keep_regression(state: TestState, fail_on: str) -> str | None:
    """The message with which a test's verdicts fail it, or None. A regression is recorded in the test's state.

    Called even if the test's own assertion has failed, since another plugin may rerun the test.
    """
    message = failure_message(state.results, fail_on)
    if message and worst_gated(state.results) == Verdict.REGRESSED:
        state.regressed = message
    return message


def judge(state: TestState, fail_on: str) -> None:
    """Fail the test if a gated verdict fails it, or if it measured nothing. Called after its body has passed."""
    if not state.results and ("slmperf" in state.used or not state.used):
        fail(_MEASURED_NOTHING)
    message = keep_regression(state, fail_on)
    if message:
        state.judged = True
        fail(message)


def gated(results: Iterable[Result]) -> list[VerdictRecord]:
    """All verdicts that may fail a test."""
    return [verdict for result in results for verdict in result.verdicts if verdict.gate]


def worst_gated(results: Iterable[Result]) -> Verdict | None:
    """The verdict that determines a test's outcome; None without a verdict."""
    return worst(verdict.verdict for verdict in gated(results))


def failure_message(results: Iterable[Result], fail_on: str) -> str | None:
    """The few lines that a failing test prints; None if nothing fails at level ``fail_on``."""
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
    """Whether the report is of a part of a test (pytest's ``subtests``, unittest's ``subTest``), which has no verdict."""
    return type(report).__name__.lower() == "subtestreport"


def category(report: pytest.TestReport) -> str | None:
    """The category of a passed test in pytest's closing line: a test without a comparable baseline is not green."""
    if report.when != "call" or not report.passed or hasattr(report, "wasxfail") or is_subtest(report):
        return None
    name = worst_gated(results_of(report))
    return name if name in UNDECIDED else None


def other_failure(item: pytest.Item, state: TestState, report: pytest.TestReport) -> FailedTest | None:
    """Why a test failed other than by a verdict: without it, reports would show no failure.

    None if its results show the failure: by a verdict, or by a scenario that could not be measured.
    """
    if not report.failed or state.judged or any(result.failure for result in state.results):
        return None
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longreprtext).strip() or f"{report.when} failed"
    phase = "" if report.when == "call" else f"{report.when}: "
    return FailedTest(
        id=item.nodeid,
        reason=redaction.hide(phase + text.split("\n")[0])[:MOST_REASON],
        location=location(item),
        unexpected_pass=isinstance(report.longrepr, str) and text.startswith("[XPASS(strict)]"),
    )
