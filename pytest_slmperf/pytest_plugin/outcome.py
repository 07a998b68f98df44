"""From results to the outcome of a test: recorded at once, judged when the test ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.model.verdict import UNDECIDED, Verdict, worst
from pytest_slmperf.pytest_plugin.stash import SESSION, TEST
from pytest_slmperf.reports.wording import difference_text
from pytest_slmperf.util.formatting import percent, portion, quantity

if TYPE_CHECKING:
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.pytest_plugin.session import PerfSession
    from pytest_slmperf.pytest_plugin.stash import TestState
    from pytest_slmperf.scenarios.base import Scenario

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


def location(item: pytest.Item) -> str:
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}"


def record_result(session: PerfSession, item: pytest.Item, result: Result) -> None:
    """Write the result to the journal, so that a crash later loses nothing, and keep it with the test."""
    import msgspec

    result.scenario.setdefault("location", location(item))
    try:
        session.journal.append(result)
    except (SlmperfError, OSError) as error:  # the result still stands in what is written at the end
        result.notes.append(f"not kept against a crash: {error}")
    item.stash[TEST].results.append(msgspec.to_builtins(result))
    from pytest_slmperf.pytest_plugin.benchmark_bridge import add

    add(item, result)


def record_failure(
    session: PerfSession, item: pytest.Item, scenario: Scenario, result_id: str, error: BaseException
) -> None:
    """A scenario that could not be measured still has its line in every report, with the reason and no numbers."""
    from pytest_slmperf.errors import EngineError
    from pytest_slmperf.model.result import Engine, Result
    from pytest_slmperf.pytest_plugin.settings import base_spec, device_of

    spec = item.stash[TEST].spec or base_spec(item.config, None)
    engine = Engine(
        name=spec.engine, version="unknown", model=spec.model, weights=spec.weights or "unknown",
        device=device_of(item.config, spec),
    )  # fmt: skip
    told = str(error).strip().splitlines() or [type(error).__name__]  # some errors say nothing but their name
    result = Result(id=result_id, scenario=scenario.parameters(), engine=engine, failure=told[0])
    if isinstance(error, EngineError):
        result.log_tail = error.log_tail
    record_result(session, item, result)


def worst_gated(results: Iterable[Mapping[str, Any]]) -> Verdict | None:
    """The verdict that names a test's outcome; None where nothing was judged."""
    return worst(verdict["verdict"] for verdict in gated(results))


def gated(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All verdicts of a test that may fail it."""
    return [verdict for result in results for verdict in result["verdicts"] if verdict["gate"]]


def failure_message(results: Iterable[Mapping[str, Any]], fail_on: str) -> str | None:
    """The few lines a failing test says; None when nothing fails at that level."""
    failing = FAILS[fail_on]
    lines = []
    for result in results:
        lines += [
            describe(result, verdict)
            for verdict in result["verdicts"]
            if verdict["gate"] and verdict["verdict"] in failing
        ]
    return "\n".join(lines) or None


def describe(result: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """Metric, change with its interval, threshold and baseline, in three lines."""
    name = verdict["metric"]
    metric = result["metrics"].get(name, {})
    head = f"{name} {verdict['verdict']}"
    if verdict["change"] is not None:
        head += f": {percent(verdict['change'])}"
        if verdict["ci"] is not None:
            level = verdict["detail"].get("interval_level")
            kind = f"{portion(level)} interval" if level else "interval"
            head += f" ({kind} {percent(verdict['ci'][0])} to {percent(verdict['ci'][1])})"
    if metric.get("value") is not None:
        head += f", now {quantity(metric['value'], metric['unit'])}, {metric['better']} is better"
    margins = f"  tolerance {portion(verdict['tolerance'])}, limit {portion(verdict['limit'])}"
    if verdict["baseline"]:
        margins += f"; baseline {verdict['baseline']}"
    lines = [head, margins]
    if verdict["reason"]:
        lines.append(f"  {verdict['reason']}")
    changed = [difference_text(difference) for difference in result["differences"][:4]]
    if changed:
        lines.append(f"  what changed: {'; '.join(changed)}")
    return "\n".join(lines)


def judge(item: pytest.Item) -> None:
    """Fail the test when one of its gated verdicts says so, or when it measured nothing at all.

    Called after its body has run without an error.
    """
    state = item.stash[TEST]
    if not state.results and ("slmperf" in state.used or not state.used):
        pytest.fail(_MEASURED_NOTHING, pytrace=False)
    message = keep_regression(item)
    if message:
        state.judged = True
        pytest.fail(message, pytrace=False)


def keep_regression(item: pytest.Item) -> str | None:
    """What a test fails with by its verdicts, None where nothing fails; a regression stays with the test.

    Called however its body ended: where its own assertion has failed, another plugin's second try would measure anew.
    """
    from pytest_slmperf.pytest_plugin import options

    if item.config.getoption("--slmperf-approve"):
        return None  # the user said that these results become the baseline; the summary shows what changes
    state = item.stash[TEST]
    message = failure_message(state.results, options.value(item.config, "fail-on"))
    if message and worst_gated(state.results) == Verdict.REGRESSED:
        state.regressed = message
    return message


def refuse_fork(item: pytest.Item) -> None:
    """Fail a test that another plugin runs in a forked process, before its fixtures start an engine that nobody stops."""
    import os

    if os.getpid() != item.config.stash[SESSION].pid:
        pytest.fail(_FORKED, pytrace=False)


def refuse_again(item: pytest.Item) -> None:
    """Fail a test that regressed and that another plugin runs again, with what it said the first time."""
    if (message := item.stash[TEST].regressed) is not None:
        pytest.fail(f"{message}\n  {_NO_SECOND_CHANCE}", pytrace=False)


def without_own_frames(error: SlmperfError) -> SlmperfError:
    """The error with a traceback that ends where the test called this package: its message says what is wrong."""
    from pathlib import Path
    from types import TracebackType

    here = str(Path(__file__).parent)
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    # "<string>": what dataclasses make
    while len(frames) > 1 and frames[-1].tb_frame.f_code.co_filename.startswith((here, "<string>")):
        frames.pop()
    kept = None
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return error.with_traceback(kept)


def is_subtest(report: pytest.TestReport) -> bool:
    """Whether it tells of a part of a test (pytest's ``subtests``, unittest's ``subTest``) that is not judged by itself."""
    return type(report).__name__.lower() == "subtestreport"


def category(report: pytest.TestReport) -> str | None:
    """What a passed test is called in pytest's closing line: a test without a comparable baseline is not green."""
    if report.when != "call" or not report.passed or hasattr(report, "wasxfail") or is_subtest(report):
        return None
    verdict = worst_gated(getattr(report, "slmperf_results", []))
    return verdict.value if verdict in UNDECIDED else None


def other_failure(item: pytest.Item, state: TestState, report: pytest.TestReport) -> dict[str, Any] | None:
    """Why a test failed that no verdict failed, for the reports: without it they would say that all is well.

    None where its results tell: a verdict, or a scenario that could not be measured.
    """
    if not report.failed or state.judged or any(result["failure"] for result in state.results):
        return None
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longreprtext).strip() or f"{report.when} failed"
    where = "" if report.when == "call" else f"{report.when}: "
    return {
        "id": item.nodeid,
        "reason": (where + text.splitlines()[0])[:MOST_REASON],
        "location": location(item),
        "unexpected_pass": isinstance(report.longrepr, str) and text.startswith("[XPASS(strict)]"),
    }


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Results travel on the report: the one way that works with and without pytest-xdist."""
    state = item.stash.get(TEST, None)
    if state is not None and (failure := other_failure(item, state, report)) is not None:
        report.slmperf_failure = failure  # type: ignore[attr-defined]
    if state is not None and report.when == "call" and SESSION in item.config.stash:
        report.slmperf_results = state.results  # type: ignore[attr-defined]
        # Only where passing tests are shown in full (-rA, -rP): a failing one says its own few lines.
        if report.passed and set("AP") & set(item.config.getoption("reportchars", "")):
            report.sections += [("slmperf", section(result)) for result in state.results]


def section(result: Mapping[str, Any]) -> str:
    """Every metric of a result, a line each, for ``-rA``."""
    import msgspec

    from pytest_slmperf.model.result import Result
    from pytest_slmperf.reports.terminal.table import metric_lines

    return "\n".join(metric_lines(msgspec.convert(result, Result)))
