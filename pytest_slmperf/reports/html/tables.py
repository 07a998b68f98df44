"""The tables in a test's section, and the small drawings written straight into the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pytest_slmperf.metrics.base import STATISTICS
from pytest_slmperf.metrics.registry import LATENCIES, REGISTRY
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import VerdictRecord
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


# Small drawings written straight into the page: sparklines and interval bars, readable with no library at all.

SPARK_W, SPARK_H = 108, 24
BAR_W, BAR_H = 150, 20


def sparkline(before: Sequence[float], after: Sequence[float]) -> Markup:
    """Launch means in the order measured: the baseline's pale, the candidate's strong, each side's mean as a line."""
    before = [value for value in before if math.isfinite(value)]
    after = [value for value in after if math.isfinite(value)]
    values = [*before, *after]
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    middle = (low + high) / 2
    # Never blow noise up to full height: the scale spans at least ±2 % of the value.
    half = max((high - low) / 2, abs(middle) * 0.02) or 1.0
    step = (SPARK_W - 8) / max(1, len(values) - 1)

    def at(index: int, value: float) -> tuple[str, str]:
        return f"{4 + index * step:.1f}", f"{SPARK_H / 2 - (value - middle) / half * (SPARK_H / 2 - 4):.1f}"

    shapes = []
    for name, start, side in (("o", 0, before), ("n", len(before), after)):
        if not side:
            continue
        mean = sum(side) / len(side)
        (x1, y), (x2, _) = at(start, mean), at(start + len(side) - 1, mean)
        shapes.append(f'<path class="{name}" d="M{x1} {y}H{x2}"/>')
        dots = "".join("M{} {}h0".format(*at(start + index, value)) for index, value in enumerate(side))
        shapes.append(f'<path class="{name} d" d="{dots}"/>')
    return Markup(f'<svg class="spark" viewBox="0 0 {SPARK_W} {SPARK_H}" aria-hidden="true">{"".join(shapes)}</svg>')


def interval_bar(verdict: VerdictRecord, better: str, reach: float) -> Markup:
    """Change and interval of one verdict on an axis from −reach (worse, left) to +reach (better, right).

    The band in the middle is the tolerance, the line on the left the limit.  Whatever the metric's direction, left is
    worse.  An interval that leaves the axis ends in an arrow.
    """
    if verdict.change is None or not math.isfinite(verdict.change):
        return Markup("")
    sign = -1.0 if better == "lower" else 1.0
    ends = sorted(sign * edge for edge in (verdict.ci or (verdict.change, verdict.change)))

    def x(value: float) -> float:
        return 6 + (min(reach, max(-reach, value)) / reach + 1) / 2 * (BAR_W - 12)

    middle = BAR_H // 2
    parts = [f'<path class="axis" d="M6 {middle}H{BAR_W - 6}"/>']
    if verdict.tolerance:
        left, right = x(-verdict.tolerance), x(verdict.tolerance)
        parts.append(f'<rect class="tol" x="{left:.1f}" y="2" width="{right - left:.1f}" height="{BAR_H - 4}"/>')
    if verdict.limit and verdict.limit <= reach:
        parts.append(f'<path class="lim" d="M{x(-verdict.limit):.1f} 1V{BAR_H - 1}"/>')
    parts.append(f'<path class="zero" d="M{x(0):.1f} 3V{BAR_H - 3}"/>')
    low, high, point = x(ends[0]), x(ends[1]), x(sign * verdict.change)
    parts.append(f'<path class="ci" d="M{low:.1f} {middle}H{high:.1f}"/>')
    if ends[0] < -reach:
        parts.append(f'<path class="ci" d="M{low + 6:.1f} {middle - 5}L{low:.1f} {middle}l6 5M{low:.1f} {middle}h16"/>')
    if ends[1] > reach:
        parts.append(
            f'<path class="ci" d="M{high - 6:.1f} {middle - 5}L{high:.1f} {middle}l-6 5M{high:.1f} {middle}h-16"/>'
        )
    if abs(verdict.change) <= reach:
        parts.append(f'<circle class="pt" cx="{point:.1f}" cy="{middle}" r="4"/>')
    return Markup(
        f'<svg class="bar {verdict.verdict}" viewBox="0 0 {BAR_W} {BAR_H}" aria-hidden="true">{"".join(parts)}</svg>'
    )
