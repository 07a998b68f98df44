"""Metrics of a whole sweep: hypervolume, peak, knee."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_slmperf.frontier.knee import share_knee
from pytest_slmperf.frontier.pareto import hypervolume
from pytest_slmperf.frontier.points import Objective, Point, numeric_keys
from pytest_slmperf.frontier.regression import VOLUME


def whole_of(points: Sequence[Point], goals: Sequence[Objective]) -> dict[str, float]:
    """Hypervolume, peak throughput, and where keys are numbers the knee and its KV share."""
    found = {
        VOLUME: hypervolume(points, goals).volume,
        "peak_output_throughput": max(point.values[goals[0].name] for point in points),
    }
    if numeric_keys(points):
        knee = share_knee(points, goals[0].name)
        assert knee is not None
        found["knee_key"] = float(knee.key)
        at_knee = next(point for point in points if point.key == knee.key)
        if "kv_cache_peak" in at_knee.values:
            found["knee_kv_share"] = at_knee.values["kv_cache_peak"]
    return found
