"""Non-dominated points, with regard to their intervals, and hypervolume with a stated reference point.

Dominance and hypervolume come from moocore (exact algorithms: Kung et al. 1975; Fonseca, Paquete, López-Ibáñez 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.points import Objective, Point, require_values
from pytest_slmperf.metrics import registry

Standing = Literal["frontier", "indistinguishable", "dominated"]
MAX_OBJECTIVES = 3  # with more objectives nearly every point is non-dominated


def standings(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Standing]:
    """The standing of each point, in the given order.

    "frontier":          no other point is at least as good in every objective and better in one
    "indistinguishable": dominated by its value, yet its best corner (every interval at its good end) is not dominated by
                         the worst corner of any other point: the measurement cannot tell it from the frontier
    "dominated":         dominated for certain

    Points that tie in every objective have the same standing.  InvalidInput for absent values and unless there are two or
    three objectives.
    """
    _check(points, objectives)
    if not points:
        return []
    import moocore
    import numpy as np

    on_front = non_dominated([[-goal.gain(point.values[goal.name]) for goal in objectives] for point in points])
    best, worst = (
        np.array([[_corner(point, goal, end) for goal in objectives] for point in points]) for end in (1, -1)
    )
    # A best corner that any worst corner dominates is also dominated by a non-dominated worst corner, which suffices here.
    # The point's own worst corner never dominates its best corner.
    beaten = _beaten(best, worst[moocore.is_nondominated(worst)])
    return [
        "frontier" if front else "dominated" if lost else "indistinguishable"
        for front, lost in zip(on_front, beaten, strict=True)
    ]


def non_dominated(costs: Sequence[Sequence[float]]) -> list[bool]:
    """For each row of ``costs`` (smaller is better), whether no other row dominates it; equal rows get the same answer."""
    if not costs:
        return []
    import moocore
    import numpy as np

    return [bool(front) for front in moocore.is_nondominated(np.array(costs, dtype=float), keep_weakly=True)]


def _beaten(costs: Any, by: Any) -> Any:
    """For each row of ``costs``, whether some row of ``by`` dominates it. Arrays (points, objectives), smaller is better."""
    import numpy as np

    if costs.shape[1] != 2:
        return np.array([((by <= row).all(axis=1) & (by < row).any(axis=1)).any() for row in costs])
    # Two objectives, the usual case, take n·log n: the running minimum of the second cost, by rising first cost.
    ordered = by[np.argsort(by[:, 0], kind="stable")]
    least = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:, 1])])
    below = least[np.searchsorted(ordered[:, 0], costs[:, 0], side="left")]
    upto = least[np.searchsorted(ordered[:, 0], costs[:, 0], side="right")]
    return (below <= costs[:, 1]) | (upto < costs[:, 1])


def frontier(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The non-dominated points, in the given order."""
    return [
        point for point, standing in zip(points, standings(points, objectives), strict=True) if standing == "frontier"
    ]


@dataclass(frozen=True, slots=True)
class Hypervolume:
    """The volume of objective space that a frontier dominates.

    ``reference``: per objective the worst value that still counts, in the units of ``axes``.
    """

    volume: float
    reference: dict[str, float]
    axes: tuple[str, ...]


def hypervolume(
    points: Sequence[Point], objectives: Sequence[Objective], reference: Mapping[str, float] | None = None
) -> Hypervolume:
    """Dominated hypervolume of the points.

    Without ``reference`` the reference point is the origin, and each lower-is-better objective enters as its reciprocal
    (milliseconds per token become tokens per millisecond and request, joules per token become tokens per joule).  The
    origin does not depend on the data, so that volumes of two runs are comparable and one slow point does not move the
    scale.  Reciprocals need positive values, else InvalidInput; give a ``reference`` in the objectives' own units then.
    Points that are worse than the reference in some objective add nothing.  Without points the volume is 0.
    """
    _check(points, objectives)
    if reference is not None and (lacking := [goal.name for goal in objectives if goal.name not in reference]):
        raise InvalidInput(f"the reference point has no value for {', '.join(lacking)}")
    axes = tuple(f"1/{goal.name}" if goal.better == "lower" and reference is None else goal.name for goal in objectives)
    if reference is None:
        stated = dict.fromkeys(axes, 0.0)
        gains = [[_reciprocal(point, goal) for goal in objectives] for point in points]
        corner = [0.0] * len(objectives)
    else:
        stated = {goal.name: float(reference[goal.name]) for goal in objectives}
        gains = [[goal.gain(point.values[goal.name]) for goal in objectives] for point in points]
        corner = [goal.gain(stated[goal.name]) for goal in objectives]
    return Hypervolume(registry.hypervolume(gains, corner), stated, axes)


def _reciprocal(point: Point, goal: Objective) -> float:
    value = point.values[goal.name]
    if goal.better == "higher":
        return value
    if value <= 0:
        raise InvalidInput(
            f"point {point.key!r}: {goal.name} is {value:g}; the hypervolume from the origin needs positive values "
            "(give a reference point in the metric's own unit instead)"
        )
    return 1 / value


def _corner(point: Point, goal: Objective, end: int) -> float:
    """Cost (less is better) at the good (+1) or bad (−1) end of the point's interval."""
    low, high = point.interval(goal.name)
    good, bad = (high, low) if goal.better == "higher" else (low, high)
    return -goal.gain(good if end > 0 else bad)


def _check(points: Sequence[Point], objectives: Sequence[Objective]) -> None:
    if not 2 <= len(objectives) <= MAX_OBJECTIVES:
        raise InvalidInput(f"a frontier takes two or three objectives, not {len(objectives)}")
    names = [goal.name for goal in objectives]
    if len(set(names)) != len(names):
        raise InvalidInput(f"the objectives name the same metric twice: {', '.join(names)}")
    require_values(points, names)
