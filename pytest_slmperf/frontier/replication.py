"""Is another replica worth it? Gains over fair baselines, the largest useful number. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.defaults import LEAST_GAIN
from pytest_slmperf.util.formatting import counted, percent, portion


@dataclass(frozen=True, slots=True)
class ReplicaPoint:
    """One measured number of replicas. ``failure``: why it could not run (memory); ``preemptions`` over all replicas."""

    replicas: int
    output_throughput: float | None
    preemptions: int = 0
    kv_cache_peak: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Useful:
    """The largest useful number of replicas, its gain over one, and why no more."""

    replicas: int
    gain: float
    reason: str


def largest_useful(points: Sequence[ReplicaPoint], least_gain: float = LEAST_GAIN) -> Useful:
    """The largest K whose throughput is still at least ``least_gain`` above that of the next smaller K that was measured.

    Counting stops at the first K that failed or gained less.  InvalidInput without a measured point of one replica.
    """
    ordered = sorted(points, key=lambda point: point.replicas)
    if not ordered or ordered[0].replicas != 1 or ordered[0].output_throughput is None:
        raise InvalidInput("replication needs a measured point with one replica to count from")
    best, base = ordered[0], ordered[0].output_throughput
    for point in ordered[1:]:
        gain = 0.0 if best.output_throughput is None else best.output_throughput / base - 1
        if point.output_throughput is None:
            return Useful(best.replicas, gain, cannot_run(point.replicas, point.failure or "not measured"))
        assert best.output_throughput is not None
        step = point.output_throughput / best.output_throughput - 1
        if step < least_gain:
            why = f"{point.replicas} replicas add {percent(step)}"
            if point.preemptions:
                why += f", with {counted(point.preemptions, 'preemption')}: the KV cache is full"
            elif point.kv_cache_peak is not None and point.kv_cache_peak >= 95:
                why += f": the KV cache is {portion(point.kv_cache_peak / 100)} full"
            return Useful(best.replicas, gain, why)
        best = point
    assert best.output_throughput is not None
    return Useful(best.replicas, best.output_throughput / base - 1, "more were not measured")


def cannot_run(replicas: int, why: str) -> str:
    """What reasons, notes and findings say of a number of replicas without a reading."""
    return f"{replicas} replicas cannot run: {why}"


def gains(replicated: float, baselines: dict[str, float]) -> dict[str, float]:
    """Gain of the replicated throughput over each baseline, as a share: 0.337 is 33.7 % more."""
    for name, value in baselines.items():
        if value <= 0:
            raise InvalidInput(f"baseline {name!r} has a throughput of {value:g}; a gain over it means nothing")
    return {name: replicated / value - 1 for name, value in baselines.items()}


def kv_tokens_each(total_tokens: int, replicas: int, copy_bytes: int, kv_bytes_per_token: int) -> int:
    """KV-cache tokens of each of K replicas that together take the memory of one engine with ``total_tokens``: further
    copies of ``copy_bytes`` (weights, and what a running engine takes beside them) come out of the cache.  0 or less:
    they do not fit."""
    freed = (replicas - 1) * copy_bytes / kv_bytes_per_token
    return int((total_tokens - freed) // replicas)


def kv_tokens_together(tokens_each: int, replicas: int, copy_bytes: int, kv_bytes_per_token: int) -> int:
    """The inverse: the least budget of one engine with which each of K replicas has at least ``tokens_each``."""
    return tokens_each * replicas + -(-(replicas - 1) * copy_bytes // kv_bytes_per_token)


def split_evenly(count: int, parts: int) -> list[int]:
    """``count`` requests over ``parts`` replicas, at most one apart."""
    return [count // parts + (index < count % parts) for index in range(parts)]
