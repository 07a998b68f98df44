"""The tables in a test's section: metrics, latencies, what could not be measured, discarded rounds."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_slmperf.metrics.base import STATISTICS
from pytest_slmperf.metrics.latency import LATENCIES
from pytest_slmperf.metrics.registry import REGISTRY
from pytest_slmperf.model.result import Result
from pytest_slmperf.reports.facts import pairs
from pytest_slmperf.reports.wording import metric_label
from pytest_slmperf.util.formatting import number, quantity


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric as text; ``direction`` says which way is better."""

    label: str
    before: str
    after: str
    interval: str
    direction: str


@dataclass(frozen=True, slots=True)
class LatencyCell:
    """One statistic of a latency, and the baseline's (empty where there is none)."""

    after: str = "–"
    before: str = ""


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """A latency with a cell for each of ``STATISTICS``."""

    label: str
    cells: list[LatencyCell]


@dataclass(frozen=True, slots=True)
class SpoiledRound:
    """A round that was discarded, why, and the evidence as rows of (name, text)."""

    launch: int
    round: int
    side: str
    why: str
    evidence: list[tuple[str, str]]


def metric_rows(result: Result) -> list[MetricRow]:
    """Measured metrics that no other table shows (latencies, a sweep's points), in the registry's order."""
    return [
        MetricRow(
            label=metric_label(name),
            before=quantity(result.baseline_value(name), reading.unit),
            after=quantity(reading.value, reading.unit),
            interval=f"{number(reading.ci[0])} to {number(reading.ci[1])}" if reading.ci else "",
            direction={"higher": "higher is better", "lower": "lower is better"}.get(reading.better, ""),
        )
        for name, reading in sorted(result.metrics.items(), key=lambda item: _registered(item[0]))
        if reading.value is not None and _latency(name) is None and not (result.points and "@" in name)
    ]


def latency_table(result: Result) -> list[LatencyRow]:
    """The latencies that were measured, in the registry's order."""
    rows: dict[str, dict[str, LatencyCell]] = {}
    for name, reading in result.metrics.items():
        latency = _latency(name)
        if latency and reading.value is not None:
            base, statistic = latency
            before = result.baseline_value(name)
            cell = LatencyCell(number(reading.value), "" if before is None else number(before))
            rows.setdefault(base, {})[statistic] = cell
    return [
        LatencyRow(metric_label(base), [cells.get(statistic, LatencyCell()) for statistic in STATISTICS])
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
    return (base, statistic) if base in LATENCIES and statistic in STATISTICS else None


def _registered(name: str) -> tuple[int, str]:
    order = list(REGISTRY)
    return (order.index(name) if name in REGISTRY else len(order)), name


def spoiled_rounds(result: Result) -> list[SpoiledRound]:
    """The rounds that were discarded, with the evidence against each."""
    return [
        SpoiledRound(
            launch=launch.index + 1,
            round=place + 1,
            side=launch.side,
            why=record.contaminated,
            evidence=pairs({key: value for key, value in record.evidence.items() if value}),
        )
        for launch in result.launches
        for place, record in enumerate(launch.rounds)
        if record.contaminated
    ]
