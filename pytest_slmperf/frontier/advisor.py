"""Which batch to run: the batching configuration advisor (BCA) of arXiv 2503.08311, the pick of least energy, the memory
that a pick frees; and ``analyse``, which gives frontier, knee and advice for one set of points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.knee import Knee, KneeUncertainty, knee_uncertainty, kneedle, share_knee
from pytest_slmperf.frontier.pareto import Hypervolume, Standing, hypervolume, standings
from pytest_slmperf.frontier.point_table import Dropped
from pytest_slmperf.frontier.points import Key, MetricBound, Objective, Point, by_key, numeric_keys, require_values
from pytest_slmperf.util.formatting import counted, number, portion

EPSILON = 0.1
KV_HEADROOM = 1.1  # × the highest KV use seen, so that a mix of slightly longer requests does not preempt


@dataclass(frozen=True, slots=True)
class Advice:
    """One pick. ``reason`` is one line for a reader; ``flags`` are vLLM's command-line arguments."""

    key: Key
    reason: str
    point: Point | None = None  # several points may share a key
    efficiency: float | None = None  # T(B) ÷ (B·T(1)): share of perfect scaling
    memory_freed_bytes: int | None = None
    flags: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


def efficiency(points: Sequence[Point], throughput: str) -> list[float]:
    """T(B) ÷ (B·T(1)) of each point in the given order: the share of perfect scaling (arXiv 2503.08311, section V).

    Without a point at key 1 the smallest key B₀ replaces it: T(B)·B₀ ÷ (B·T(B₀)).  InvalidInput for keys that are not
    positive numbers and for a smallest key without throughput.
    """
    require_values(points, [throughput])
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

    objectives: points that another point dominates in these are not candidates; empty: every point is a candidate.

    The highest throughput decides between points of the same B.
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
    """The point that keeps every SLO at the least energy per token; points without an energy reading are left out."""
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

    total:    all that the engines on the device may use together
    weights:  of one replica
    kv:       KV-cache budget of the engine that the sweep measured
    overhead: activations, graphs and context of one replica
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
    """Bytes of KV cache for a point that used ``kv_share`` percent of ``memory.kv``, with headroom."""
    if not 0 <= kv_share <= 100:
        raise InvalidInput(f"the KV share must lie between 0 and 100 percent, not {kv_share:g}")
    return min(memory.kv, int(memory.kv * kv_share / 100 * headroom))


def most_replicas(memory: Memory, kv_share: float, headroom: float = KV_HEADROOM) -> int:
    """Number of replicas that fit into the device's memory if each gets the KV cache that the point needs."""
    replica_bytes = memory.weights + memory.overhead + kv_needed(memory, kv_share, headroom)
    return memory.total // replica_bytes if replica_bytes else 0


def with_memory(advice: Advice, memory: Memory, kv_share: float, headroom: float = KV_HEADROOM) -> Advice:
    """The advice with the memory that it frees, the number of replicas that then fit, and the engine flags for it."""
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
    """vLLM's command-line arguments for this batch limit and KV budget."""
    flags = ("--max-num-seqs", str(max_num_seqs))
    return flags if kv_cache_bytes is None else (*flags, "--kv-cache-memory-bytes", str(kv_cache_bytes))


def _sign(slo: MetricBound) -> str:
    return "≤" if slo.better == "lower" else "≥"


# Frontier, knee and advice of one set of points: the output of ``slmperf frontier``.

LEAST_FOR_KNEE = 3
SHOWN = 8  # keys that a note names


@dataclass(frozen=True, slots=True)
class Analysis:
    """Frontier, knee and advice of a set of points. ``points``, ``standings`` and ``efficiency`` are in key order.

    ``efficiency`` is empty if the keys are not numbers, and NaN for a point whose key or throughput is not above 0.
    ``notes`` are sentences for a reader.
    """

    objectives: tuple[Objective, ...]
    points: list[Point]
    standings: list[Standing]
    dropped: list[Dropped]
    knee: Knee | None
    kneedle: Knee | None
    uncertainty: KneeUncertainty | None
    advice: Advice | None
    efficiency: list[float]
    hypervolume: Hypervolume | None
    notes: list[str] = field(default_factory=list)

    @property
    def optimal(self) -> list[Point]:
        """The non-dominated points in key order."""
        pairs = zip(self.points, self.standings, strict=True)
        return [point for point, standing in pairs if standing == "frontier"]

    @property
    def frontier(self) -> list[Key]:
        """Keys of the non-dominated points in key order, each once."""
        return list(dict.fromkeys(point.key for point in self.optimal))

    def as_json(self) -> dict[str, Any]:
        """The published form; its names are fixed.

        If points share a key, ``rows`` and ``advice.row`` add the numbers of their rows in the table, from 1.
        """
        repeated = len({point.key for point in self.points}) < len(self.points)
        advice: dict[str, Any] | None = None
        if self.advice is not None:
            advice = {"key": self.advice.key, "reason": self.advice.reason}
        if repeated and advice is not None and self.advice is not None and self.advice.point is not None:
            advice["row"] = self.advice.point.row
        form: dict[str, Any] = {
            "frontier": self.frontier,
            "dropped": [{"key": row.key, "reason": row.reason} for row in self.dropped],
            "knee": None
            if self.knee is None
            else {"key": self.knee.key, "share_of_peak": round(self.knee.share_of_peak, 4)},
            "advice": advice,
        }
        return form | ({"rows": [point.row for point in self.optimal]} if repeated else {})


def analyse(
    points: Sequence[Point],
    objectives: Sequence[Objective],
    *,
    slos: Sequence[MetricBound] = (),
    epsilon: float = EPSILON,
    dropped: Sequence[Dropped] = (),
) -> Analysis:
    """Frontier over the objectives, knee of the first higher-is-better objective, and the advisor's pick.

    A part that these points do not allow (a knee if keys are names, a hypervolume of values that are not positive) is
    None, and ``notes`` has the reason. InvalidInput without a higher-is-better objective.
    """
    ordered = by_key(points)
    throughput = next((goal.name for goal in objectives if goal.better == "higher"), None)
    if throughput is None:
        raise InvalidInput("one objective must be higher-is-better (the throughput): the knee and the pick need it")
    check_epsilon(epsilon)
    notes: list[str] = []
    ranks = standings(ordered, objectives)
    if twice := [str(key) for key, count in Counter(point.key for point in ordered).items() if count > 1]:
        repeated = ", ".join(twice[:SHOWN]) + (f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else "")
        notes.append(f"several points share the key {repeated}; each stands for itself (--repeats averages them)")
    knee = bend = sure = advice = None
    shares: list[float] = []
    if not numeric_keys(ordered):
        notes.append("the keys are not numbers, so they have no order: no knee and no batch pick")
    elif ordered:
        knee = share_knee(ordered, throughput)
        bend = kneedle(ordered, throughput)
        if knee is None:
            notes.append(f"no knee: no point has a {throughput} above 0")
        elif len({point.key for point in ordered}) < LEAST_FOR_KNEE:
            notes.append(f"fewer than {LEAST_FOR_KNEE} keys: the knee is only the cheapest of them, not a bend")
        sure = knee_uncertainty(ordered, throughput)
        # Scaling is relative to the first point, whose key and throughput must therefore be above 0.
        usable = [point.number > 0 and point.values[throughput] > 0 for point in ordered]
        if idle := [str(point.key) for point, use in zip(ordered, usable, strict=True) if not use]:
            notes.append(f"no pick among key {', '.join(idle[:SHOWN])}: the key or {throughput} is not above 0")
        if running := [point for point, use in zip(ordered, usable, strict=True) if use]:
            known = iter(efficiency(running, throughput))
            shares = [next(known) if use else math.nan for use in usable]
            advice = largest_batch(running, throughput, slos, epsilon=epsilon, objectives=objectives)
            if running[0].number != 1:
                notes.append(f"no point at key 1: scaling is counted from key {running[0].key}")
    volume = None
    try:
        volume = hypervolume(ordered, objectives)
    except InvalidInput as error:
        notes.append(f"no hypervolume: {error}")
    return Analysis(tuple(objectives), ordered, ranks, list(dropped), knee, bend, sure, advice, shares, volume, notes)
