"""Planning a campaign of many sweeps before it runs: its cost, its order, and where each sweep would stop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from pytest_slmperf.frontier.adaptive_grid import (
    TOLERANCE,
    Work,
    coarse_grid,
    cost_s,
    engine_starts,
    in_few_starts,
    next_step,
)
from pytest_slmperf.frontier.points import Key, Objective, Point

Predict = Callable[[Hashable, Key], tuple[Point, float]]
"""(curve, key) → the predicted point and the seconds to measure it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One sweep of a campaign. ``group(key)``: the engine that a point needs."""

    name: Hashable
    keys: tuple[Key, ...]
    group: Callable[[Key], Hashable]


@dataclass(frozen=True, slots=True)
class Campaign:
    """A planned campaign. ``works``: in the order to measure; ``everything_s``: seconds of all points in the given order;
    ``planned_s``: seconds of the chosen points in this order."""

    works: list[Work]
    points: int
    everything_s: float
    planned_s: float
    starts_before: int
    starts_after: int

    @property
    def share(self) -> float:
        """Planned ÷ full cost."""
        return self.planned_s / self.everything_s


def plan(
    curves: Sequence[Curve],
    objectives: Sequence[Objective],
    predict: Predict,
    *,
    start_s: float,
    tolerance: float | None = TOLERANCE,
) -> Campaign:
    """Choose each curve's points as the adaptive sweep would (on predicted values), and order them for few engine starts.

    ``tolerance`` None: every point, only ordered.  ``start_s``: seconds to start an engine, summed over its launches.
    The prediction affects only the plan: in the campaign itself, the measurements determine where each sweep stops.
    """
    every: list[Work] = []
    chosen: list[Work] = []
    for curve in curves:
        seconds = {}
        points: dict[Key, Point] = {}
        for key in curve.keys:
            points[key], seconds[key] = predict(curve.name, key)
        every += [Work((curve.name, key), curve.group(key), seconds[key]) for key in curve.keys]  # type: ignore[arg-type]
        picked = list(curve.keys) if tolerance is None else _adaptive(points, objectives, tolerance)
        chosen += [Work((curve.name, key), curve.group(key), seconds[key]) for key in picked]  # type: ignore[arg-type]
    ordered = in_few_starts(chosen)
    return Campaign(
        works=ordered,
        points=len(every),
        everything_s=cost_s(every, start_s),
        planned_s=cost_s(ordered, start_s),
        starts_before=engine_starts(every),
        starts_after=engine_starts(ordered),
    )


def _adaptive(points: Mapping[Key, Point], objectives: Sequence[Objective], tolerance: float) -> list[Key]:
    keys = list(points)
    picked = coarse_grid(keys)
    while (step := next_step(keys, [points[key] for key in picked], objectives, tolerance=tolerance)).key is not None:
        picked.append(step.key)
    return picked
