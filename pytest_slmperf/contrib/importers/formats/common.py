"""Parts that several recognisers share: names of statistics, and functions that read them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_slmperf.contrib.importers.fields import Fields

# name of a statistic in benchmarks → in this project's metrics
STATISTICS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}


def prefixed(fields: Fields, latencies: Mapping[str, str], ending: str, scale: float) -> dict[str, list[float]]:
    """Readings of fields such as ``median_ttft_ms``. ``latencies``: the tool's name of a latency → this project's.

    ``scale`` converts the tool's unit to ms. A latency of 0 is not a reading: tools write it if there was nothing to
    measure, for instance between the tokens of one-token answers.
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
    """Readings of an object with a field for each statistic. ``latency``: this project's name; ``scale`` converts to ms."""
    return {
        f"{latency}_{name}": [scale * value]
        for statistic, name in statistics.items()
        if (value := fields.optional(statistic))
    }


def rates(fields: Fields, names: Mapping[str, str]) -> dict[str, list[float]]:
    """Readings of rates. ``names``: the tool's name → this project's."""
    return {ours: [value] for theirs, ours in names.items() if (value := fields.optional(theirs)) is not None}
