"""Frontier, knee and advice of one set of points, together: what ``slmperf frontier`` prints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.advisor import EPSILON, Advice, check_epsilon, efficiency, largest_batch
from pytest_slmperf.frontier.knee import Knee, KneeUncertainty, knee_uncertainty, kneedle, share_knee
from pytest_slmperf.frontier.pareto import Hypervolume, Standing, hypervolume, standings
from pytest_slmperf.frontier.point_table import Dropped
from pytest_slmperf.frontier.points import Key, MetricBound, Objective, Point, by_key, numeric_keys

LEAST_FOR_KNEE = 3
SHOWN = 8  # keys that a note names


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything said of a set of points. ``points``, ``standings`` and ``efficiency`` are in key order (``efficiency`` is
    empty where keys are no batch sizes, and NaN where a point cannot be held against them); ``notes`` are for a reader."""

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

        Where points share a key, ``rows`` and ``advice.row`` add the numbers of the table's rows that are meant, from 1.
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
    """Frontier over the objectives, knee of the first higher-is-better one, and the advisor's pick.

    What a set of points cannot give (a knee where keys are names, a hypervolume of values that are not positive) is None,
    and ``notes`` says why.
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
        # Perfect scaling is counted from a point that does something: a key and a throughput above 0.
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
