"""Points as they stand in ``Result.points``: plain dictionaries, one per point of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.frontier.intervals import launch_interval
from pytest_slmperf.frontier.points import Key, Objective, Point
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.util.numbers import is_number


def point_record(
    key: Key,
    launches: Mapping[str, Sequence[Sequence[float]]],
    *,
    settings: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The record of one point.

    ``key``, ``settings`` (what was varied), one entry per metric (mean over launches of the launch means), ``ci`` and
    ``launches`` per metric (one list of rounds per engine launch), and whatever facts are given (preemptions, flags, …).
    """
    filled = {name: [list(rounds) for rounds in groups if rounds] for name, groups in launches.items()}
    filled = {name: groups for name, groups in filled.items() if groups}
    spans = {name: launch_interval(groups) for name, groups in filled.items()}
    return {
        "key": key,
        "settings": dict(settings or {}),
        **{name: _mean([_mean(rounds) for rounds in groups]) for name, groups in filled.items()},
        "ci": {name: list(span) for name, span in spans.items() if span is not None},
        "launches": filled,
        **facts,
    }


def points_of(records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[Point]:
    """Points of records with a reading of every metric named; preempted ones and those with a ``failure`` left out."""
    points = []
    for record in records:
        if record.get("failure") or record.get("preemptions"):
            continue
        values = {name: record.get(name) for name in metrics}
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values.values()):
            continue
        extra = {
            name: float(value)
            for name, value in record.items()
            if name not in values and is_number(value) and name != "key"
        }
        spans = {name: (float(low), float(high)) for name, (low, high) in (record.get("ci") or {}).items()}
        points.append(
            Point(
                key=record["key"],
                values={**extra, **{name: float(value) for name, value in values.items() if value is not None}},
                intervals=spans,
                launches=record.get("launches") or {},
            )
        )
    return points


def goals_of(objectives: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives with their directions."""
    goals = []
    for name in objectives:
        better = metric(name).better
        assert better != "none"
        goals.append(Objective(name, better))
    return tuple(goals)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
