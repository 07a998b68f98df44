"""Which batch to run: the batching configuration advisor of arXiv 2503.08311, and its two neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.pareto import standings
from pytest_slmperf.frontier.points import Key, MetricBound, Objective, Point, by_key, need
from pytest_slmperf.util.formatting import counted, number, portion

EPSILON = 0.1
KV_HEADROOM = 1.1  # KV memory kept above the highest share seen, so that a slightly longer mix does not preempt


@dataclass(frozen=True, slots=True)
class Advice:
    """One pick. ``reason`` is one line for a reader; ``flags`` are vLLM's command-line arguments."""

    key: Key
    reason: str
    point: Point | None = None  # the point picked: several may share its key
    efficiency: float | None = None  # T(B) ÷ (B·T(1)): share of perfect scaling
    memory_freed_bytes: int | None = None
    flags: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


def efficiency(points: Sequence[Point], throughput: str) -> list[float]:
    """T(B) ÷ (B·T(1)) of each point in the order given: the share of perfect scaling (arXiv 2503.08311, section V).

    Without a point at key 1 the smallest key B₀ stands in for it: T(B)·B₀ ÷ (B·T(B₀)).  Keys must be positive numbers.
    """
    need(points, [throughput])
    if not points:
        return []
    least = min(point.number for point in points)
    if least <= 0:
        raise InvalidInput(f"key {least:g}: the batch must be above 0 for a batch pick")
    single = max(point.values[throughput] for point in points if point.number == least) / least
    if single <= 0:
        raise InvalidInput(
            f"{throughput} at key {least:g} is {single * least:g}; the scaling of the other points cannot be related to it"
        )
    return [point.values[throughput] / (point.number * single) for point in points]


def largest_batch(
    points: Sequence[Point],
    throughput: str,
    slos: Sequence[MetricBound] = (),
    *,
    epsilon: float = EPSILON,
    objectives: Sequence[Objective] = (),
) -> Advice | None:
    """BCA: the largest B that keeps every SLO and has T(B) ÷ (B·T(1)) > ε; None where no point does.

    objectives: a point that another dominates in all of these is never the pick, however large its B; empty: not checked.

    Of several points with that largest B the one with the highest throughput is the pick.
    """
    check_epsilon(epsilon)
    optimal = (
        [standing == "frontier" for standing in standings(points, objectives)] if objectives else [True] * len(points)
    )
    candidates = zip(points, efficiency(points, throughput), optimal, strict=True)
    fit = [
        (point, share)
        for point, share, may in candidates
        if may and share > epsilon and all(slo.met(point) for slo in slos)
    ]
    if not fit:
        return None
    pick, share = max(fit, key=lambda pair: (pair[0].number, pair[0].values[throughput]))
    bounds = ", ".join(f"{slo.name} {number(pick.values[slo.name])} {_sign(slo)} {number(slo.bound)}" for slo in slos)
    base = by_key(points)[0]
    return Advice(
        key=pick.key,
        point=pick,
        reason=(
            f"largest key with {bounds or 'no SLO given'} and "
            f"{portion(share)} of perfect scaling from key {base.key} > ε = {epsilon:g}"
        ),
        efficiency=share,
    )


def check_epsilon(epsilon: float) -> None:
    """InvalidInput unless 0 ≤ ε < 1."""
    if not 0 <= epsilon < 1:
        raise InvalidInput(f"epsilon must be at least 0 and below 1, not {epsilon:g}")


def least_energy(points: Sequence[Point], energy: str, slos: Sequence[MetricBound] = ()) -> Advice | None:
    """The point that keeps every SLO at the least energy per token; points without an energy reading do not compete."""
    fit = [point for point in points if energy in point.values and all(slo.met(point) for slo in slos)]
    if not fit:
        return None
    pick = min(fit, key=lambda point: point.values[energy])
    without = sum(energy not in point.values for point in points)
    bounds = " and ".join(str(slo) for slo in slos) or "no SLO given"
    note = f"; {counted(without, 'point has', 'points have')} no energy reading" if without else ""
    return Advice(
        key=pick.key, point=pick, reason=f"least {energy} ({number(pick.values[energy])}) with {bounds}{note}"
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Device memory of one engine, in bytes.

    total: what the engines on the device may use together; weights: of one replica; kv: KV-cache budget the sweep ran
    with; overhead: activations, graphs and context of one replica.
    """

    total: int
    weights: int
    kv: int
    overhead: int = 0

    def __post_init__(self) -> None:
        for name in ("total", "weights", "kv", "overhead"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"memory {name} must not be negative, not {getattr(self, name)}")


def kv_needed(memory: Memory, kv_share: float, headroom: float = KV_HEADROOM) -> int:
    """Bytes of KV cache that a point needs which was seen to use ``kv_share`` percent of it, with headroom."""
    if not 0 <= kv_share <= 100:
        raise InvalidInput(f"the KV share must lie between 0 and 100 percent, not {kv_share:g}")
    return min(memory.kv, int(memory.kv * kv_share / 100 * headroom))


def most_replicas(memory: Memory, kv_share: float, headroom: float = KV_HEADROOM) -> int:
    """How many replicas fit into the device's memory when each gets the KV cache the point needs."""
    replica_bytes = memory.weights + memory.overhead + kv_needed(memory, kv_share, headroom)
    return memory.total // replica_bytes if replica_bytes else 0


def with_memory(advice: Advice, memory: Memory, kv_share: float, headroom: float = KV_HEADROOM) -> Advice:
    """The advice with the memory it frees, how many replicas then fit, and the engine flags that bring it about."""
    budget = kv_needed(memory, kv_share, headroom)
    flags = engine_flags(advice.key, budget)
    detail = {"kv_budget_bytes": budget, "replicas": most_replicas(memory, kv_share, headroom), "kv_share": kv_share}
    return replace(
        advice,
        memory_freed_bytes=memory.kv - budget,
        flags=flags,
        detail={**advice.detail, **detail},
    )


def engine_flags(max_num_seqs: Key, kv_cache_bytes: int | None = None) -> tuple[str, ...]:
    """vLLM's command-line arguments for that batch limit and KV budget."""
    flags = ("--max-num-seqs", str(max_num_seqs))
    return flags if kv_cache_bytes is None else (*flags, "--kv-cache-memory-bytes", str(kv_cache_bytes))


def _sign(slo: MetricBound) -> str:
    return "≤" if slo.better == "lower" else "≥"
