"""Metrics of a whole sweep: hypervolume, peak and knee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_slmperf.metrics.base import computed

KNEE_SHARE = 0.95  # of the peak throughput


@computed(
    "tok/s/ms",
    "higher",
    "area under the frontier of output throughput against 1 ÷ mean latency per token; reference point: origin",
    gate=True,
)
def hypervolume(frontier: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume between ``reference`` and the points, each a row of coordinates of which larger is better.

    By moocore (Fonseca, Paquete and López-Ibáñez 2006); points below the reference in some coordinate add nothing.
    """
    if not frontier:
        return 0.0
    import moocore
    import numpy as np

    return float(moocore.hypervolume(-np.array(frontier), ref=[-value for value in reference]))


@computed("tok/s", "higher", "highest output throughput of a sweep's points", positive=True)
def peak_output_throughput(throughputs: Sequence[float]) -> float:
    return max(throughputs)


@computed("1", "lower", "least key of a sweep (batch) whose output throughput is ≥ 95 % of the peak")
def knee_key(keys: Sequence[float], throughputs: Sequence[float]) -> float:
    return min(key for key, near in zip(keys, near_peak(throughputs), strict=True) if near)


def near_peak(throughputs: Sequence[float], share: float = KNEE_SHARE) -> list[bool]:
    """Which of the points reach ``share`` of the highest throughput."""
    least = share * peak_output_throughput(throughputs)
    return [value >= least for value in throughputs]


@computed("%", "lower", "kv_cache_peak at the knee")
def knee_kv_share(kv_cache_peak: Mapping[float, float], knee_key: float) -> float:
    """``kv_cache_peak``: of each key of the sweep."""
    return kv_cache_peak[knee_key]
