"""Planning of a sweep: which points to measure next, in what order, and when to stop. Pure functions of the points."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.pareto import frontier, hypervolume
from pytest_slmperf.frontier.points import Key, Objective, Point, by_key
from pytest_slmperf.metrics.registry import KNEE_SHARE
from pytest_slmperf.util.formatting import portion

COARSE = 5
TOLERANCE = 0.01  # a gap that can hide less than this share of the hypervolume is not looked into


@dataclass(frozen=True, slots=True)
class Step:
    """The next point to measure, or the reason to stop (``key`` None). ``gain``: upper bound of what the point can add to
    the hypervolume, as a share of it."""

    key: Key | None
    reason: str
    gain: float = 0.0


def coarse_grid(candidates: Sequence[Key], count: int = COARSE) -> list[Key]:
    """About ``count`` of the candidates, evenly spaced by rank from first to last; all if a candidate is not a number.

    Candidates usually grow geometrically (1, 2, 4, …), so that even steps by rank are even steps on a logarithmic axis.
    """
    check_candidates(candidates)
    if len(candidates) <= count or any(isinstance(key, str) for key in candidates):
        return list(candidates)
    ordered = sorted(candidates, key=float)
    ranks = {round(index * (len(ordered) - 1) / (count - 1)) for index in range(count)}
    return [ordered[rank] for rank in sorted(ranks)]


def next_step(
    candidates: Sequence[Key],
    measured: Sequence[Point],
    objectives: Sequence[Objective],
    *,
    tolerance: float = TOLERANCE,
    given_up: Sequence[Key] = (),
) -> Step:
    """The candidate whose measurement can move the frontier or the knee most; a Step without key if none can.

    On a monotone curve, every point between two neighbouring frontier points lies in the box that the two span; the area
    of the box (throughput × reciprocal of the second objective, as in ``hypervolume``) bounds what the gap can hide.  A gap
    deserves a point while its box is more than ``tolerance`` of the hypervolume, or while throughput passes 95 % of the
    peak in it (the knee).  ``given_up``: keys that failed or preempted and are not tried again.
    """
    check_candidates(candidates)
    known = {point.key for point in measured} | set(given_up)
    left = [key for key in candidates if key not in known]
    if not left:
        return Step(None, "every candidate is measured")
    if len(measured) < 2 or any(isinstance(key, str) for key in candidates):
        return Step(left[0], "not measured yet", 1.0)
    ordered = by_key(measured)
    total = hypervolume(ordered, objectives[:2]).volume
    if total <= 0:
        return Step(None, "the measured points span no hypervolume")
    on_front = {point.key for point in frontier(ordered, objectives[:2])}
    gaps = []
    for low, high in pairwise(ordered):
        inside = sorted((key for key in left if low.number < float(key) < high.number), key=float)
        if not inside:
            continue
        gain = _box(low, high, objectives) / total if {low.key, high.key} & on_front else 0.0
        gaps.append((gain, _holds_knee(low, high, ordered, objectives[0].name), inside, low, high))
    worth = [gap for gap in gaps if gap[0] > tolerance or gap[1]]
    if not worth:
        largest = max((gap[0] for gap in gaps), default=0.0)
        return Step(
            None,
            f"no gap can move the frontier by more than {portion(tolerance)} (largest: {portion(largest)})",
            largest,
        )
    gain, knee, inside, low, high = max(worth, key=lambda gap: (gap[0], gap[1]))
    middle = math.sqrt(max(low.number, 0.0) * high.number) if low.number > 0 else (low.number + high.number) / 2
    key = min(inside, key=lambda candidate: abs(math.log(max(float(candidate), 1e-9)) - math.log(max(middle, 1e-9))))
    why = f"can add up to {portion(gain)} between {low.key} and {high.key}" if gain > tolerance else "brackets the knee"
    return Step(key, f"{why}{' (and the knee)' if knee and gain > tolerance else ''}", gain)


def _box(low: Point, high: Point, objectives: Sequence[Objective]) -> float:
    sides = []
    for goal in objectives[:2]:
        a, b = low.values[goal.name], high.values[goal.name]
        sides.append(abs(a - b) if goal.better == "higher" else abs(1 / a - 1 / b))
    return sides[0] * sides[1]


def _holds_knee(low: Point, high: Point, ordered: Sequence[Point], throughput: str) -> bool:
    reach = KNEE_SHARE * max(point.values[throughput] for point in ordered)
    below = all(point.values[throughput] < reach for point in ordered if point.number <= low.number)
    return below and high.values[throughput] >= reach


@dataclass(frozen=True, slots=True)
class Work:
    """One point to measure. ``group``: the engine it needs, equal for points that can share a launch; ``seconds``: its
    expected duration."""

    key: Key
    group: Hashable
    seconds: float = 0.0


def in_few_starts(works: Sequence[Work]) -> list[Work]:
    """The works grouped by engine, so that every engine starts once. Engines come in the order of their first work, works
    of one engine in the given order."""
    groups: dict[Hashable, list[Work]] = {}
    for work in works:
        groups.setdefault(work.group, []).append(work)
    return [work for group in groups.values() for work in group]


def engine_starts(works: Sequence[Work]) -> int:
    """Number of engine starts that this order needs, with one engine resident at a time."""
    return sum(index == 0 or work.group != works[index - 1].group for index, work in enumerate(works))


def cost_s(works: Sequence[Work], start_s: float) -> float:
    """Seconds for the works in this order, engine starts included."""
    return engine_starts(works) * start_s + math.fsum(work.seconds for work in works)


def check_candidates(candidates: Sequence[Key]) -> None:
    """InvalidInput for an empty list and for a repeated value."""
    if not candidates:
        raise InvalidInput("a sweep needs at least one value")
    twice = sorted({str(key) for key in candidates if list(candidates).count(key) > 1})
    if twice:
        raise InvalidInput(f"a sweep names {', '.join(twice)} twice")
