"""The content of the HTML page as plain values for the templates, which make the markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from pytest_slmperf.model.result import Result, Session, launch_means
from pytest_slmperf.model.verdict import UNDECIDED, VerdictRecord
from pytest_slmperf.reports.facts import (
    Difference,
    EnergyFacts,
    energy_facts,
    engine_facts,
    machine_facts,
    own_differences,
    pairs,
)
from pytest_slmperf.reports.html import tables
from pytest_slmperf.reports.html.charts import Chart
from pytest_slmperf.reports.html.sweep_data import points_table
from pytest_slmperf.reports.html.tables import (
    LatencyRow,
    MetricRow,
    SpoiledRound,
    latency_table,
    metric_rows,
    spoiled_rounds,
    unavailable,
)
from pytest_slmperf.reports.view import SYMBOLS, Line, ReportView, ResultView, grouped, rank
from pytest_slmperf.reports.wording import printable
from pytest_slmperf.util.formatting import more_text, percent

HEADLINES = 5  # largest number of rows in the banner; the table has all
NAMED = 4  # largest number of tests named with a common reason
LOG_LINES = 30


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of tests with what only a page has: ``key``, the id of its test's element, and its drawings."""

    line: Line
    key: str
    test: str
    bar: Markup
    spark: Markup


@dataclass(frozen=True, slots=True)
class Why:
    """The grounds of one verdict: the reason, the margins and the intermediate results."""

    label: str
    outcome: str
    symbol: str
    gate: bool
    reason: str
    change: str
    interval: str
    margins: str
    baseline: str
    more: str
    detail: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Undecided:
    """A reason why tests could not be judged, with some of the tests; ``rest``: the number of further tests."""

    outcome: str
    symbol: str
    reason: str
    more: str
    tests: list[str]
    rest: int


@dataclass(slots=True)
class Section:
    """One test: its rows in the table and everything in its section.

    ``packed``: the section is unpacked when it is opened; ``folded``: the test is not listed until it is asked for.
    """

    key: str
    id: str
    name: str
    outcome: str
    rank: int
    worseness: str
    rows: list[Row]
    result: Result
    simulated: bool
    location: object
    verdicts: list[Why]
    differences: list[Difference]
    metrics: list[MetricRow]
    latencies: list[LatencyRow]
    unavailable: list[tuple[str, str]]
    points: dict[str, list[Any]] | None
    energy: EnergyFacts
    spoiled: list[SpoiledRound]
    scenario: list[tuple[str, str]]
    engine: list[tuple[str, str]]
    log: str
    symbols: dict[str, str]
    charts: list[Chart] = field(default_factory=list)
    packed: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page. ``tone``: bad, unsure, good or plain, the banner's colour."""

    title: str
    tone: str
    failed_tests: list[dict[str, str]]
    counts: list[dict[str, Any]]
    total: int
    headlines: list[Row]
    more_headlines: int
    undecided: list[Undecided]
    differences: list[Difference]
    compared: bool
    tests: list[Section]
    simulated: bool
    session: Session
    facts: list[tuple[str, str]]
    machine: list[tuple[str, str]]


def page(view: ReportView) -> Page:
    """The whole page's values."""
    names = {test.result.id: printable(test.name) for test in view.tests}
    reach = _reach([test.result for test in view.tests])
    tests = [
        section(test, f"t{place}", reach)
        for place, test in enumerate(sorted(view.tests, key=lambda test: test.severity))
    ]
    worse = sorted(
        (row for test in tests for row in test.rows if row.line.outcome in ("failed", "regressed")),
        key=lambda row: (row.line.outcome == "failed", -abs(row.line.worseness or 0)),
    )
    named = headlines(worse[:HEADLINES])
    return Page(
        title=_title(view.counts, view.own_failures),
        tone="bad" if view.session.failed_tests else tone(view.counts),
        failed_tests=[
            {"id": printable(test.id), "reason": printable(test.reason)} for test in view.session.failed_tests
        ],
        counts=[
            {"name": outcome, "count": count, "symbol": SYMBOLS[outcome]} for outcome, count in view.counts.items()
        ],
        total=len(tests),
        headlines=named,
        more_headlines=len(worse) - len(named),
        undecided=[] if worse else undecided(view, names),
        differences=view.differences,
        compared=any(test.result.baseline is not None for test in view.tests),
        tests=tests,
        simulated=view.simulated,
        session=view.session,
        facts=view.facts,
        machine=machine_facts(view.results),
    )


def headlines(rows: list[Row]) -> list[Row]:
    """The rows that the banner names, their bars drawn on one axis that shows each interval whole."""
    verdicts = [(row, row.line.verdict) for row in rows]
    ends = [abs(edge) for _, verdict in verdicts for edge in _ends(verdict)]
    limits = [verdict.limit or 0.0 for _, verdict in verdicts if verdict]
    reach = 1.08 * max([*ends, *limits, 0.01])
    return [
        replace(row, bar=tables.interval_bar(verdict, row.line.better, reach) if verdict else Markup(""))
        for row, verdict in verdicts
    ]


def _ends(verdict: VerdictRecord | None) -> list[float]:
    if verdict is None or verdict.change is None:
        return []
    return [edge for edge in (verdict.change, *(verdict.ci or ())) if math.isfinite(edge)]


def undecided(view: ReportView, names: Mapping[str, str]) -> list[Undecided]:
    """Why tests could not be judged, each reason once: for the banner of a report in which nothing got worse."""
    reasons = []
    for group in grouped(line for line in view.lines() if line.outcome in UNDECIDED):
        more = max((line.verdict.more_launches or 0 for line in group.lines if line.verdict), default=0)
        tests = [names[identifier] for identifier in group.tests]
        reasons.append(
            Undecided(
                outcome=group.outcome,
                symbol=SYMBOLS[group.outcome],
                reason=group.reason,
                more=more_text(more) if more else "",
                tests=tests[:NAMED],
                rest=len(tests) - len(tests[:NAMED]),
            )
        )
    return reasons


def tone(counts: Mapping[str, int]) -> str:
    """bad, unsure, good or plain: the banner's colour."""
    if counts.keys() & {"failed", "regressed"}:
        return "bad"
    if counts.keys() & {*UNDECIDED}:
        return "unsure"
    return "good" if counts.keys() & {"same", "improved"} else "plain"


def _title(counts: Mapping[str, int], others: str) -> str:
    """The page's title. ``others``: a phrase about tests that failed for another reason than a verdict."""
    total = sum(counts.values())
    worse, failed = counts.get("regressed", 0), counts.get("failed", 0)
    undecided = sum(counts.get(name, 0) for name in UNDECIDED)
    parts = []
    if worse:
        parts.append(f"{worse} of {total} tests got worse" if total > 1 else "The test got worse")
    if failed:
        of = "" if worse else f" of {total} tests"
        parts.append(f"{failed}{of} could not be measured" if total > 1 else "The test could not be measured")
    if others:
        parts.append(others)
    if parts:
        return ", ".join(parts)
    if not total:
        return "Nothing was measured"
    if undecided:
        which = f"{undecided} of {total}" if total > 1 else "the one test"
        return f"No regression found, but {which} could not be judged"
    if counts.get("improved"):
        if total == 1:
            return "The test got better"
        return f"{counts['improved']} of {total} tests got better, none got worse"
    return "Nothing got worse" if counts.get("same") else "Measured, not compared"


def _reach(results: Sequence[Result]) -> float:
    """The axis of the interval bars, the same for all of them: twice the widest limit, or the 90 % quantile of ends."""
    ends = sorted(
        abs(edge) for result in results for verdict in result.verdicts if verdict.ci is not None for edge in verdict.ci
    )
    limits = [verdict.limit for result in results for verdict in result.verdicts if verdict.limit]
    widest = ends[int(len(ends) * 0.9)] if ends else 0.0
    return max(2 * max(limits, default=0.05), min(widest, 0.5))


def section(test: ResultView, key: str, reach: float) -> Section:
    """One test's values. ``reach``: of the axis of its interval bars."""
    result, name = test.result, printable(test.name)
    worst = test.lines[0].worseness
    return Section(
        key=key,
        id=result.id,
        name=name,
        outcome=test.outcome,
        rank=rank(test.outcome),
        worseness="" if worst is None else f"{worst:.5g}",
        rows=[row(line, key, name, reach) for line in test.lines],
        result=result,
        simulated=test.simulated,
        location=result.scenario.get("location"),
        verdicts=[why(line, line.verdict) for line in test.all_lines if line.verdict],
        differences=own_differences(result),
        metrics=metric_rows(result),
        latencies=latency_table(result),
        unavailable=unavailable(result),
        points=points_table(result),
        energy=energy_facts(result),
        spoiled=spoiled_rounds(result),
        scenario=pairs({key: value for key, value in result.scenario.items() if key != "location"}),
        engine=engine_facts(result),
        log="\n".join(result.log_tail.splitlines()[-LOG_LINES:]),
        symbols=SYMBOLS,
    )


def row(line: Line, key: str, name: str, reach: float) -> Row:
    """One judged metric of the test ``name``, whose element has the id ``key``."""
    reading = line.reading
    return Row(
        line=line,
        key=key,
        test=name,
        bar=tables.interval_bar(line.verdict, line.better, reach) if line.verdict else Markup(""),
        spark=tables.sparkline(
            [mean for _, mean in launch_means(line.result.baseline_launches(line.metric))],
            [mean for _, mean in launch_means(reading.launches)] if reading else [],
        ),
    )


def why(line: Line, verdict: VerdictRecord) -> Why:
    """What led to a verdict."""
    margins = (("tolerance", verdict.tolerance), ("limit", verdict.limit))
    return Why(
        label=line.label,
        outcome=line.outcome,
        symbol=line.symbol,
        gate=verdict.gate,
        reason=line.reason,
        change=line.percent_change,
        interval=line.certainty,
        margins=" · ".join(f"{name} {percent(margin).lstrip('+')}" for name, margin in margins if margin is not None),
        baseline=verdict.baseline or "",
        more=more_text(verdict.more_launches) if verdict.more_launches else "",
        detail=pairs(verdict.detail),
    )
