"""What stands on the HTML page, as plain values for the templates: no markup is made here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.model.verdict import UNDECIDED, VerdictRecord
from pytest_slmperf.reports.facts import differences, energy_facts, engine_facts, machine_facts, pairs, session_facts
from pytest_slmperf.reports.html import svg
from pytest_slmperf.reports.html.sweep_data import points_table
from pytest_slmperf.reports.html.tables import latency_table, metric_rows, spoiled_rounds, unavailable
from pytest_slmperf.reports.sides import baseline_launches, launch_means
from pytest_slmperf.reports.view import (
    SYMBOLS,
    Line,
    any_simulated,
    counts,
    failed_words,
    grouped,
    lines_of,
    outcome_of,
    rank,
    short_ids,
    simulated,
)
from pytest_slmperf.reports.wording import direction_word, printable
from pytest_slmperf.util.formatting import interval_text, more_text, percent, quantity

HEADLINES = 5  # lines the banner names; the table has them all
NAMED = 4  # tests named beside a reason they share
LOG_LINES = 30


def page(results: Results) -> dict[str, Any]:
    """The whole page's values."""
    found = counts(results.results)
    names = {identifier: printable(name) for identifier, name in short_ids(results.results).items()}
    reach = _reach(results.results)
    tests = [
        section(result, index, names[result.id], reach)
        for index, result in enumerate(sorted(results.results, key=_by_severity))
    ]
    worse = sorted(
        (item for test in tests for item in test["rows"] if item["outcome"] in ("failed", "regressed")),
        key=lambda item: (item["outcome"] == "failed", -abs(item["worseness"] or 0)),
    )
    named = headlines(worse[:HEADLINES])
    changed = differences(results.results)
    return {
        "title": _title(found, failed_words(results)),
        "tone": "bad" if results.session.failed_tests else tone(found),
        "failed_tests": [
            {"id": printable(one.id), "reason": printable(one.reason)} for one in results.session.failed_tests
        ],
        "counts": [{"name": name, "count": count, "symbol": SYMBOLS[name]} for name, count in found.items()],
        "total": len(results.results),
        "headlines": named,
        "more_headlines": len(worse) - len(named),
        "undecided": undecided(results.results, names) if not worse else [],
        "differences": changed,
        "compared": any(result.baseline is not None for result in results.results),
        "tests": tests,
        "simulated": any_simulated(results),
        "session": results.session,
        "facts": session_facts(results),
        "machine": machine_facts(results),
    }


def headlines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the banner names, their bars drawn on one axis that shows each interval whole."""
    ends = [abs(edge) for row in rows for edge in _ends(row["verdict"])]
    limits = [row["verdict"].limit or 0.0 for row in rows if row["verdict"]]
    reach = 1.08 * max([*ends, *limits, 0.01])
    return [
        row | {"bar": svg.interval_bar(row["verdict"], row["better"], reach) if row["verdict"] else Markup("")}
        for row in rows
    ]


def _ends(verdict: VerdictRecord | None) -> list[float]:
    if verdict is None or verdict.change is None:
        return []
    return [edge for edge in (verdict.change, *(verdict.ci or ())) if math.isfinite(edge)]


def undecided(results: Sequence[Result], names: dict[str, str]) -> list[dict[str, Any]]:
    """Why tests could not be judged, each reason once: for the banner of a report in which nothing got worse."""
    lines = [line for result in results for line in lines_of(result) if line.outcome in UNDECIDED]
    found = []
    for group in grouped(lines):
        more = max((line.verdict.more_launches or 0 for line in group.lines if line.verdict), default=0)
        tests = [names[identifier] for identifier in group.tests]
        found.append(
            {
                "outcome": group.outcome,
                "symbol": SYMBOLS[group.outcome],
                "reason": group.reason,
                "more": more_text(more) if more else "",
                "tests": tests[:NAMED],
                "rest": len(tests) - len(tests[:NAMED]),
            }
        )
    return found


def tone(found: dict[str, int]) -> str:
    """bad, unsure, good or plain: the banner's colour."""
    if found.keys() & {"failed", "regressed"}:
        return "bad"
    if found.keys() & {*UNDECIDED}:
        return "unsure"
    return "good" if found.keys() & {"same", "improved"} else "plain"


def _title(found: dict[str, int], others: str) -> str:
    """``others``: in words, the tests that failed by no verdict."""
    total = sum(found.values())
    worse, failed = found.get("regressed", 0), found.get("failed", 0)
    undecided = sum(found.get(name, 0) for name in UNDECIDED)
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
    if found.get("improved"):
        if total == 1:
            return "The test got better"
        return f"{found['improved']} of {total} tests got better, none got worse"
    return "Nothing got worse" if found.get("same") else "Measured, not compared"


def _reach(results: Sequence[Result]) -> float:
    """The axis of the interval bars, the same for all of them: twice the widest limit, or the 90 % quantile of ends."""
    ends = sorted(
        abs(edge) for result in results for verdict in result.verdicts if verdict.ci is not None for edge in verdict.ci
    )
    limits = [verdict.limit for result in results for verdict in result.verdicts if verdict.limit]
    widest = ends[int(len(ends) * 0.9)] if ends else 0.0
    return max(2 * max(limits, default=0.05), min(widest, 0.5))


def section(result: Result, index: int, name: str, reach: float) -> dict[str, Any]:
    """One test's values: rows of the table and everything in its section."""
    rows = [row(line, index, name, reach) for line in lines_of(result)]
    worst = lines_of(result)[0].worseness
    return {
        "key": f"t{index}",
        "id": result.id,
        "name": name,
        "outcome": outcome_of(result),
        "rank": rank(outcome_of(result)),
        "worseness": "" if worst is None else f"{worst:.5g}",
        "charts": [],
        "packed": False,
        "folded": False,
        "rows": rows,
        "result": result,
        "simulated": simulated(result),
        "location": result.scenario.get("location"),
        "verdicts": [verdict_facts(line) for line in lines_of(result, gated_only=False) if line.verdict],
        "metrics": metric_rows(result),
        "latencies": latency_table(result),
        "unavailable": unavailable(result),
        "points": points_table(result),
        "energy": energy_facts(result),
        "spoiled": spoiled_rounds(result),
        "scenario": pairs({key: value for key, value in result.scenario.items() if key != "location"}),
        "symbols": SYMBOLS,
        "engine": engine_facts(result),
        "log": "\n".join(result.log_tail.splitlines()[-LOG_LINES:]),
    }


def _by_severity(result: Result) -> tuple[int, float]:
    """Worst outcome first, then the largest change for the worse."""
    return rank(outcome_of(result)), -(lines_of(result)[0].worseness or 0.0)


def row(line: Line, index: int, name: str, reach: float) -> dict[str, Any]:
    verdict, reading = line.verdict, line.reading
    unit = reading.unit if reading else ""
    return {
        "key": f"t{index}",
        "verdict": verdict,
        "better": line.better,
        "test": name,
        "metric": line.metric,
        "label": line.label,
        "outcome": line.outcome,
        "symbol": SYMBOLS.get(line.outcome, "!"),
        "value": line.value,
        "before": quantity(line.before, unit) if line.before is not None else "",
        "both": line.both if reading else "",
        "change": percent(verdict.change) if verdict and verdict.change is not None else "",
        "interval": interval_text(verdict.ci) if verdict and verdict.ci else "",
        "sure": certainty(verdict) if verdict else "",
        "worseness": line.worseness,
        "worse": direction_word(verdict.change, line.better) if verdict else "",
        "reason": line.reason,
        "bar": svg.interval_bar(verdict, line.better, reach) if verdict else Markup(""),
        "spark": svg.sparkline(
            [mean for _, mean in launch_means(baseline_launches(line.result, line.metric))],
            [mean for _, mean in launch_means(reading.launches)] if reading else [],
        ),
    }


def certainty(verdict: VerdictRecord) -> str:
    """How sure a change is: its interval, at what level, and whether fresh launches confirmed it."""
    if not verdict.ci:
        return ""
    level = verdict.detail.get("interval_level")
    head = f"{level * 100:g} % interval" if isinstance(level, (int, float)) and 0 < level < 1 else "interval"
    text = f"{head} {interval_text(verdict.ci)}"
    confirmation = verdict.detail.get("confirmation")
    fresh = confirmation.get("launches") if isinstance(confirmation, dict) else None
    return text + (f", confirmed by {fresh} fresh launches" if fresh and verdict.verdict == "regressed" else "")


def verdict_facts(line: Line) -> dict[str, Any]:
    """Why one verdict was given: the reason, the margins, and all that led to it."""
    verdict = line.verdict
    assert verdict is not None
    return {
        "metric": line.metric,
        "label": line.label,
        "outcome": line.outcome,
        "symbol": SYMBOLS.get(line.outcome, "!"),
        "gate": verdict.gate,
        "reason": line.reason,
        "change": percent(verdict.change) if verdict.change is not None else "",
        "interval": certainty(verdict),
        "margins": " · ".join(
            f"{name} {percent(margin).lstrip('+')}"
            for name, margin in (("tolerance", verdict.tolerance), ("limit", verdict.limit))
            if margin is not None
        ),
        "baseline": verdict.baseline or "",
        "more": more_text(verdict.more_launches) if verdict.more_launches else "",
        "detail": pairs(verdict.detail),
    }
