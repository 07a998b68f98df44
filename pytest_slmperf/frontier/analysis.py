"""Frontier, knee and advice of one set of points, together: what ``slmperf frontier`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.advisor import EPSILON, Advice, check_epsilon, efficiency, largest_batch
from pytest_slmperf.frontier.knee import Knee, KneeUncertainty, knee_uncertainty, kneedle, share_knee
from pytest_slmperf.frontier.pareto import Hypervolume, Standing, hypervolume, standings
from pytest_slmperf.frontier.points import Key, Objective, Point, Slo, by_key, numeric_keys
from pytest_slmperf.frontier.table import Dropped


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything said of a set of points. ``points``, ``standings`` and ``efficiency`` are in key order (``efficiency`` is
    empty where keys are no batch sizes); ``notes`` are for a reader."""

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
    def frontier(self) -> list[Key]:
        """Keys of the non-dominated points in key order, each once."""
        pairs = zip(self.points, self.standings, strict=True)
        return list(dict.fromkeys(point.key for point, standing in pairs if standing == "frontier"))

    def as_json(self) -> dict[str, Any]:
        """The published form; its names are fixed."""
        return {
            "frontier": self.frontier,
            "dropped": [{"key": row.key, "reason": row.reason} for row in self.dropped],
            "knee": None
            if self.knee is None
            else {"key": self.knee.key, "share_of_peak": round(self.knee.share_of_peak, 4)},
            "advice": None if self.advice is None else {"key": self.advice.key, "reason": self.advice.reason},
        }


def analyse(
    points: Sequence[Point],
    objectives: Sequence[Objective],
    *,
    slos: Sequence[Slo] = (),
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
    keys = [point.key for point in ordered]
    if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
        notes.append(
            f"several points share the key {', '.join(twice)}; each stands for itself (--repeats averages them)"
        )
    knee = bend = sure = advice = None
    shares: list[float] = []
    if not numeric_keys(ordered):
        notes.append("the keys are not numbers, so they have no order: no knee and no batch pick")
    elif ordered:
        knee = share_knee(ordered, throughput)
        bend = kneedle(ordered, throughput)
        sure = knee_uncertainty(ordered, throughput)
        try:
            shares = efficiency(ordered, throughput)
            advice = largest_batch(ordered, throughput, slos, epsilon=epsilon)
        except InvalidInput as error:
            notes.append(f"no batch pick: {error}")
        if ordered[0].number != 1:
            notes.append(f"no point at key 1: scaling is counted from key {ordered[0].key}")
    volume = None
    try:
        volume = hypervolume(ordered, objectives)
    except InvalidInput as error:
        notes.append(f"no hypervolume: {error}")
    return Analysis(tuple(objectives), ordered, ranks, list(dropped), knee, bend, sure, advice, shares, volume, notes)
