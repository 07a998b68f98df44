"""Replication: the gain over fair baselines, the largest useful number of replicas, and KV memory and requests of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.defaults import LEAST_GAIN
from pytest_slmperf.util.formatting import counted, percent, portion


@dataclass(frozen=True, slots=True)
class ReplicaPoint:
    """One measured number of replicas. ``failure``: why it could not run (memory); ``preemptions``: of all replicas."""

    replicas: int
    output_throughput: float | None
    preemptions: int = 0
    kv_cache_peak: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Useful:
    """The largest useful number of replicas, its gain over a single engine, and why more are not useful."""

    replicas: int
    gain: float
    reason: str


def largest_useful(points: Sequence[ReplicaPoint], least_gain: float = LEAST_GAIN) -> Useful:
    """The largest K whose throughput is at least ``least_gain`` above the throughput of the next smaller measured K.

    Counting stops at the first K that failed or gained less.  InvalidInput without a measured point of a single replica.
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
    """The sentence in reasons, notes and findings for a number of replicas without a reading."""
    return f"{replicas} replicas cannot run: {why}"


def gains(replicated: float, baselines: dict[str, float]) -> dict[str, float]:
    """Gain of the replicated throughput over each baseline, as a share: 0.337 is 33.7 % more."""
    for name, value in baselines.items():
        if value <= 0:
            raise InvalidInput(f"baseline {name!r} has a throughput of {value:g}; a gain over it means nothing")
    return {name: replicated / value - 1 for name, value in baselines.items()}


def kv_tokens_each(total_tokens: int, replicas: int, copy_bytes: int, kv_bytes_per_token: int) -> int:
    """KV-cache tokens of each of ``replicas`` engines that together take the memory of one engine with ``total_tokens``.

    The cache pays for the further copies, ``copy_bytes`` each (weights, and the overhead of a running engine).  0 or
    less: the replicas do not fit.
    """
    freed = (replicas - 1) * copy_bytes / kv_bytes_per_token
    return int((total_tokens - freed) // replicas)


def kv_tokens_together(tokens_each: int, replicas: int, copy_bytes: int, kv_bytes_per_token: int) -> int:
    """The inverse of ``kv_tokens_each``: the least budget that leaves each of ``replicas`` at least ``tokens_each``."""
    return tokens_each * replicas + -(-(replicas - 1) * copy_bytes // kv_bytes_per_token)


def split_evenly(count: int, parts: int) -> list[int]:
    """Numbers of requests of ``parts`` replicas, ``count`` in all, which differ by at most 1."""
    return [count // parts + (index < count % parts) for index in range(parts)]
