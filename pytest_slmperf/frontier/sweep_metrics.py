"""Metrics of a whole sweep: hypervolume, peak, knee."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_slmperf.frontier import pareto
from pytest_slmperf.frontier.points import Objective, Point, numeric_keys
from pytest_slmperf.metrics.sweep import hypervolume, knee_key, knee_kv_share, peak_output_throughput


def whole_of(points: Sequence[Point], goals: Sequence[Objective]) -> dict[str, float]:
    """Hypervolume, peak throughput, and where keys are numbers the knee and its KV share."""
    throughputs = [point.values[goals[0].name] for point in points]
    values = {
        hypervolume.name: pareto.hypervolume(points, goals).volume,
        peak_output_throughput.name: peak_output_throughput(throughputs),
    }
    if numeric_keys(points):
        knee = values[knee_key.name] = knee_key([point.number for point in points], throughputs)
        peaks = {point.number: point.values.get("kv_cache_peak") for point in reversed(points)}
        known = {key: peak for key, peak in peaks.items() if peak is not None}
        if knee in known:
            values[knee_kv_share.name] = knee_kv_share(known, knee)
    return values
