"""What several recognisers share: names of statistics, and readings of them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_slmperf.contrib.importers.fields import Fields

# statistic as benchmarks write it → as metrics are named here
STATISTICS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}


def prefixed(fields: Fields, latencies: Mapping[str, str], ending: str, scale: float) -> dict[str, list[float]]:
    """Readings of fields such as ``median_ttft_ms``. ``latencies``: their name for a latency → ours.

    ``scale`` turns their unit into ms. A latency of 0 is no reading: that is written where there was nothing to measure,
    between the tokens of one-token answers for instance.
    """
    readings: dict[str, list[float]] = {}
    for theirs, ours in latencies.items():
        for statistic, name in STATISTICS.items():
            value = fields.optional(f"{statistic}_{theirs}{ending}")
            if value:
                readings[f"{ours}_{name}"] = [scale * value]
    return readings


def nested(
    fields: Fields, latency: str, scale: float, statistics: Mapping[str, str] = STATISTICS
) -> dict[str, list[float]]:
    """Readings of an object with a field for each statistic. ``latency``: our name for it, ``scale`` turns it into ms."""
    return {
        f"{latency}_{name}": [scale * value]
        for statistic, name in statistics.items()
        if (value := fields.optional(statistic))
    }


def rates(fields: Fields, names: Mapping[str, str]) -> dict[str, list[float]]:
    """Readings of rates: their name → ours."""
    return {ours: [value] for theirs, ours in names.items() if (value := fields.optional(theirs)) is not None}
