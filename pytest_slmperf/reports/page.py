"""What stands on the HTML page, as plain values for the templates: no markup is made here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pytest_slmperf.metrics import REGISTRY, STATISTICS
from pytest_slmperf.record import Result, Results, VerdictRecord
from pytest_slmperf.reports import svg
from pytest_slmperf.reports.sides import baseline_launches, baseline_value, launch_means
from pytest_slmperf.reports.sweepdata import points_table
from pytest_slmperf.reports.view import (
    SYMBOLS,
    Line,
    any_simulated,
    counts,
    lines_of,
    outcome_of,
    rank,
    short_ids,
    simulated,
)
from pytest_slmperf.reports.words import (
    ACRONYMS,
    direction_word,
    duration,
    interval_text,
    metric_label,
    number,
    percent,
    quantity,
)

HEADLINES = 5  # lines the banner names; the table has them all
LOG_LINES = 30


def page(results: Results) -> dict[str, Any]:
    """The whole page's values."""
    found = counts(results.results)
    names = short_ids(results.results)
    reach = _reach(results.results)
    tests = [
        section(result, index, names[result.id], reach)
        for index, result in enumerate(sorted(results.results, key=_by_severity))
    ]
    worse = sorted(
        (item for test in tests for item in test["rows"] if item["outcome"] in ("failed", "regressed")),
        key=lambda item: (item["outcome"] == "failed", -abs(item["worseness"] or 0)),
    )
    changed = differences(results.results)
    return {
        "title": _title(found),
        "tone": tone(found),
        "counts": [{"name": name, "count": count, "symbol": SYMBOLS[name]} for name, count in found.items()],
        "total": len(results.results),
        "headlines": worse[:HEADLINES],
        "more_headlines": len(worse) - len(worse[:HEADLINES]),
        "undecided": [name for name in ("incomparable", "inconclusive", "new") if name in found],
        "differences": changed,
        "compared": any(result.baseline is not None for result in results.results),
        "tests": tests,
        "simulated": any_simulated(results),
        "session": results.session,
        "facts": session_facts(results),
        "machine": machine_facts(results),
    }


def tone(found: dict[str, int]) -> str:
    """bad, unsure, good or plain: the banner's colour."""
    if found.keys() & {"failed", "regressed"}:
        return "bad"
    if found.keys() & {"incomparable", "inconclusive", "new"}:
        return "unsure"
    return "good" if found.keys() & {"same", "improved"} else "plain"


def _title(found: dict[str, int]) -> str:
    total = sum(found.values())
    worse, failed = found.get("regressed", 0), found.get("failed", 0)
    undecided = sum(found.get(name, 0) for name in ("incomparable", "inconclusive", "new"))
    parts = []
    if worse:
        parts.append(f"{worse} of {total} tests got worse" if total > 1 else "The test got worse")
    if failed:
        parts.append(f"{failed} could not be measured" if worse else f"{failed} of {total} tests could not be measured")
    if parts:
        return ", ".join(parts)
    if not total:
        return "Nothing was measured"
    if undecided:
        return f"No regression found, but {undecided} of {total} could not be judged"
    if found.get("improved"):
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
    worst = worseness(lines_of(result)[0])
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
    return rank(outcome_of(result)), -(worseness(lines_of(result)[0]) or 0.0)


def worseness(line: Line) -> float | None:
    """The change with its sign turned so that larger is worse, for sorting; None where there is none."""
    if line.verdict is None or line.verdict.change is None:
        return None
    return line.verdict.change if line.better == "lower" else -line.verdict.change


def row(line: Line, index: int, name: str, reach: float) -> dict[str, Any]:
    verdict, reading = line.verdict, line.reading
    before = baseline_value(line.result, line.metric)
    unit = reading.unit if reading else ""
    return {
        "key": f"t{index}",
        "test": name,
        "metric": line.metric,
        "label": line.label,
        "outcome": line.outcome,
        "symbol": SYMBOLS.get(line.outcome, "!"),
        "value": line.value,
        "before": quantity(before, unit) if before is not None else "",
        "change": percent(verdict.change) if verdict and verdict.change is not None else "",
        "interval": interval_text(verdict.ci) if verdict and verdict.ci else "",
        "sure": certainty(verdict) if verdict else "",
        "worseness": worseness(line),
        "worse": direction_word(verdict.change, line.better) if verdict else "",
        "reason": line.reason or (line.result.failure or ""),
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
        "more": verdict.more_launches,
        "detail": pairs(verdict.detail),
    }


def metric_rows(result: Result) -> list[dict[str, str]]:
    """Metrics that were measured and are no part of the latency table, in the registry's order."""
    return [
        {
            "label": metric_label(name),
            "name": name,
            "before": quantity(baseline_value(result, name), reading.unit),
            "after": quantity(reading.value, reading.unit),
            "interval": f"{number(reading.ci[0])} to {number(reading.ci[1])}" if reading.ci else "",
            "better": {"higher": "higher is better", "lower": "lower is better"}.get(reading.better, ""),
        }
        for name, reading in sorted(result.metrics.items(), key=lambda item: _registered(item[0]))
        if reading.value is not None and _latency(name) is None
    ]


def latency_table(result: Result) -> list[dict[str, Any]]:
    """One row a latency, one cell a statistic, each with the baseline's value."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for name, reading in result.metrics.items():
        found = _latency(name)
        if found and reading.value is not None:
            before = baseline_value(result, name)
            cell = {"after": number(reading.value), "before": "" if before is None else number(before)}
            rows.setdefault(found[0], {})[found[1]] = cell
    empty = {"after": "–", "before": ""}
    return [
        {"label": metric_label(base), "cells": [cells.get(statistic, empty) for statistic in STATISTICS]}
        for base, cells in sorted(rows.items(), key=lambda item: _registered(f"{item[0]}_mean"))
    ]


def unavailable(result: Result) -> list[tuple[str, str]]:
    """Why a metric has no value, once for all metrics that share the reason: (metrics, reason)."""
    reasons: dict[str, list[str]] = {}
    for name, reading in result.metrics.items():
        if reading.value is None:
            reasons.setdefault(reading.reason or "no reason was recorded", []).append(metric_label(name))
    return [(", ".join(names), reason) for reason, names in reasons.items()]


def _latency(name: str) -> tuple[str, str] | None:
    base, _, statistic = name.partition("_")
    return (base, statistic) if base in ACRONYMS and statistic in STATISTICS else None


def _registered(name: str) -> tuple[int, str]:
    order = list(REGISTRY)
    return (order.index(name) if name in REGISTRY else len(order)), name


def energy_facts(result: Result) -> dict[str, Any]:
    """The energy reading with its bound and source, or why there is none."""
    energy = result.energy
    if energy.source is None:
        return {"reason": energy.reason or "no energy meter was active", "rows": [], "warnings": energy.warnings}
    rows: list[tuple[str, str]] = []
    if energy.joules is not None:
        bound = f" ± {number(energy.bound_j)} J" if energy.bound_j is not None else ""
        share = f" ({energy.bound_j / energy.joules * 100:.2g} %)" if energy.bound_j and energy.joules else ""
        rows.append(("gross energy", f"{number(energy.joules)} J{bound}{share}"))
    if energy.net_joules is not None:
        rows.append(("net of idle", f"{number(energy.net_joules)} J"))
    rows.append(("source", f"{energy.source}, {energy.scope or 'scope not stated'}"))
    for label, value, unit in (
        ("window", energy.window_s, "s"),
        ("counter tick", energy.tick_s, "s"),
        ("idle before, engine resident", energy.idle_w_before, "W"),
        ("idle after, engine resident", energy.idle_w_after, "W"),
        ("idle, bare", energy.idle_w_bare, "W"),
    ):
        if value is not None:
            rows.append((label, quantity(value, unit)))
    if energy.gain is not None:
        rows.append(("gain uncertainty", f"± {energy.gain * 100:g} %, cancels between runs on one device"))
    if energy.witness:
        rows += [(f"second witness: {key}", value) for key, value in pairs(energy.witness)]
    return {"reason": None, "rows": rows, "warnings": energy.warnings}


def spoiled_rounds(result: Result) -> list[dict[str, Any]]:
    """The rounds that were discarded, with the evidence against each."""
    return [
        {
            "launch": launch.index + 1,
            "round": place + 1,
            "side": launch.side,
            "why": record.contaminated,
            "evidence": pairs({key: value for key, value in record.evidence.items() if value}),
        }
        for launch in result.launches
        for place, record in enumerate(launch.rounds)
        if record.contaminated
    ]


def engine_facts(result: Result) -> list[tuple[str, str]]:
    engine = result.engine
    rows = [
        ("engine", engine_name(result)),
        ("model", f"{engine.model}, {engine.weights} weights"),
        ("device", f"{engine.device}, {engine.dtype or 'default dtype'}"),
        ("replicas", str(engine.replicas)),
    ]
    told = {key: value for key, value in engine.facts.items() if key != "pid" and engine.settings.get(key) != value}
    return rows + pairs(engine.settings) + pairs(told)


def engine_name(result: Result) -> str:
    """Engine and version; the simulated one has no version of its own."""
    name, version = result.engine.name, result.engine.version
    return name if version in ("", name) else f"{name} {version}"


def differences(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What changed between baseline and candidate, once for all tests that say the same."""
    compared = [result for result in results if result.baseline is not None or result.differences]
    found: Counter[tuple[str, str, str]] = Counter()
    for result in compared:
        found.update(
            {
                (show(item.get("what")), show(item.get("baseline")), show(item.get("candidate")))
                for item in result.differences
            }
        )
    return [
        {"what": what, "baseline": before, "candidate": after, "tests": count, "everywhere": count == len(compared)}
        for (what, before, after), count in sorted(found.items(), key=lambda entry: -entry[1])
    ]


def session_facts(results: Results) -> list[tuple[str, str]]:
    session = results.session
    commit = session.commit
    rows = [("measured", session.started_at.replace("T", " ").replace("Z", " UTC"))]
    if commit.id:
        rows.append(("commit", f"{commit.id[:10]}{' with uncommitted changes' if commit.dirty else ''}"))
    if commit.branch:
        rows.append(("branch", commit.branch))
    engines = sorted({engine_name(result) for result in results.results})
    if engines:
        rows.append(("engine", ", ".join(engines[:3])))
    models = sorted({result.engine.model for result in results.results})
    if models:
        rows.append(("model", ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")))
    gpus = [str(gpu.get("name", "GPU")) for gpu in results.machine.gpus]
    rows.append(("machine", ", ".join(gpus) or str(results.machine.cpu.get("model") or results.machine.fingerprint)))
    rows.append(("compared", "in one session (duet)" if session.mode == "duet" else "with a stored baseline"))
    if session.against:
        rows.append(("against", session.against))
    took = elapsed(session.started_at, session.finished_at)
    if took:
        rows.append(("took", took))
    return rows


def elapsed(start: str, end: str | None) -> str:
    from datetime import datetime

    try:
        return duration((datetime.fromisoformat(end or "") - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return ""


def machine_facts(results: Results) -> list[tuple[str, str]]:
    machine, session = results.machine, results.session
    rows = [("fingerprint", machine.fingerprint), *pairs(machine.cpu, "CPU ")]
    for place, gpu in enumerate(machine.gpus):
        rows += pairs(gpu, f"GPU {place} ")
    if machine.memory_bytes:
        rows.append(("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"))
    rows += [("GPU driver", machine.driver or "none"), *pairs(machine.os, "OS ")]
    if machine.python:
        rows.append(("Python", machine.python))
    rows += [
        ("pytest-slmperf", session.plugin_version),
        ("session", session.id),
        ("profile", session.profile or "default"),
    ]
    if session.alpha is not None:
        rows.append(("false-alarm rate per session", f"{session.alpha:g}"))
    return rows + pairs(session.options, "option ")


def pairs(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as flat rows of text."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        label = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            rows += pairs(value, f"{label} › ")
        else:
            rows.append((label, show(value)))
    return rows


def show(value: Any) -> str:
    """Any JSON value as short text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(show(item) for item in value)
    return str(value)
