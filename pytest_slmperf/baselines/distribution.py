"""How the latencies of a session were distributed, as a baseline keeps them: percentiles, never the single requests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_slmperf.model.baseline import BaselineSession, Distribution
from pytest_slmperf.util.quantiles import percentiles

LEVELS = 101  # 0 %, 1 %, … 100 %: p99 and both ends stand among them, one line of a diff holds them all
_DIGITS = 4


def distributions(samples: Mapping[str, Any]) -> dict[str, Distribution]:
    """Each latency of ``Result.samples`` (lists in ms, or ``{"unit", "values"}``) as at most ``LEVELS`` quantiles.

    With fewer values than levels every value is kept: the quantiles of n values are then the values themselves.
    """
    distributions = {}
    for name, given in samples.items():
        unit = str(given.get("unit", "ms")) if isinstance(given, Mapping) else "ms"
        values = sorted(_usable(given.get("values") if isinstance(given, Mapping) else given))
        if values:
            levels = min(LEVELS, len(values))
            distributions[name] = Distribution(unit=unit, quantiles=_at(values, levels))
    return distributions


def pooled(sessions: Sequence[BaselineSession]) -> dict[str, dict[str, Any]]:
    """The distributions of all sessions together, each session with the same weight, in the shape of ``Result.samples``."""
    rows: dict[str, list[Distribution]] = {}
    for session in sessions:
        for name, distribution in session.distributions.items():
            if distribution.quantiles:
                rows.setdefault(name, []).append(distribution)
    charts = {}
    for name, several in rows.items():
        alike = len({len(distribution.quantiles) for distribution in several}) == 1
        values = sorted(
            value
            for distribution in several
            for value in (distribution.quantiles if alike else _at(sorted(distribution.quantiles), LEVELS))
        )
        charts[name] = {"unit": several[-1].unit, "values": _at(values, min(2 * LEVELS - 1, len(values)))}
    return charts


def _at(ordered: Sequence[float], levels: int) -> list[float]:
    """Quantiles of a rising, non-empty sequence at evenly spaced levels, both ends included."""
    shares = [index / (levels - 1) for index in range(levels)] if levels > 1 else [0.5]
    return [float(f"{value:.{_DIGITS}g}") for value in percentiles(ordered, shares)]


def _usable(values: Any) -> Iterable[float]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
            yield float(value)
