"""Small drawings written straight into the page: sparklines and interval bars, readable with no library at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from pytest_slmperf.model.verdict import VerdictRecord

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
