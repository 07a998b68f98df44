"""The points of one sweep as one record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.contrib.importers.axis import Axis
from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.result import (
    Origin,
    Shape,
    doubts_of,
    engine_of,
    failures_of,
    launches_of,
    metric_value,
)
from pytest_slmperf.frontier.pareto import standings
from pytest_slmperf.frontier.points import Objective, Point, numeric_keys, point_record, points_of
from pytest_slmperf.frontier.regression import VOLUME, point_metric, whole_of
from pytest_slmperf.model.result import MetricValue, Result

_THROUGHPUT = "output_throughput"
_LATENCIES = (
    "itl_mean",
    "tpot_mean",
    "e2el_mean",
)  # latencies that throughput is traded against, in order of preference
_KNEE = "knee_key"


def sweep_result(name: str, axis: Axis, *, shape: Shape, origin: Origin) -> Result:
    """The sweep as one result, with each point's standing and the metrics of the whole sweep (hypervolume, knee), so that it
    can be a baseline.

    A point whose requests failed has no usable latency: it stays among the points with its ``failure`` and is not in the
    frontier.
    """
    records = [_record(key, combination, shape) for key, combination in axis.points]
    goals = _goals([record for record in records if "failure" not in record])
    objectives = [goal.name for goal in goals]
    for record in records:
        lacking = [name for name in objectives if name not in record]
        if lacking:
            record.setdefault("failure", f"no reading of {' and '.join(lacking)}")
    usable = points_of(records, objectives) if goals else []
    ranks = {point.key: rank for point, rank in zip(usable, standings(usable, goals) if usable else (), strict=True)}
    first = axis.points[0][1]
    left = [
        f"{axis.name} {record['key']} is left out of the frontier: {record['failure']}"
        for record in records
        if "failure" in record
    ]
    return Result(
        id=f"{_tool(first)}::{name}",
        scenario={
            "kind": "sweep",
            "key": axis.name,
            "keys": list(ranks) or [key for key, _ in axis.points],  # a failed point cannot be compared
            "objectives": objectives,
            **_shared(first, shape),
        },
        engine=engine_of(first.runs[0], origin),
        metrics=_metrics(usable, goals, axis) if usable else _nothing(records),
        points=[record | {"standing": ranks.get(record["key"])} for record in records],
        notes=[f"imported from {_tool(first)}", *axis.notes, *left],
    )


def _tool(combination: Combination) -> str:
    tool = combination.runs[0].format
    return "vllm bench sweep" if tool.startswith("vllm bench") else f"{tool} sweep"


def _record(key: Any, combination: Combination, shape: Shape) -> dict[str, Any]:
    record = point_record(key, launches_of(combination, shape), settings=combination.settings)
    failure = failures_of(combination)
    return record | ({"failure": failure} if failure else {})


def _goals(records: Sequence[Mapping[str, Any]]) -> list[Objective]:
    """Throughput and the latency that most points have (of equals, the first in ``_LATENCIES``); empty if no point has
    both."""
    counts = {name: sum(name in record and _THROUGHPUT in record for record in records) for name in _LATENCIES}
    latency = max(_LATENCIES, key=lambda name: counts[name])
    return [Objective(_THROUGHPUT, "higher"), Objective(latency, "lower")] if counts[latency] else []


def _shared(combination: Combination, shape: Shape) -> dict[str, Any]:
    """The parameters that all points share."""
    work = combination.runs[0].work
    return shape.as_scenario() | {name: value for name, value in work.items() if name not in combination.settings}


def _nothing(records: Sequence[Mapping[str, Any]]) -> dict[str, MetricValue]:
    """A hypervolume without a value, with the reason: the points' failures, or the readings that all points lack."""
    failed = [f"point {record['key']}: {record['failure']}" for record in records if "failure" in record]
    read = f"no point has both {_THROUGHPUT} and one of {', '.join(_LATENCIES)}"
    return {VOLUME: metric_value(VOLUME, [], "; ".join(failed) or read)}


def _metrics(points: Sequence[Point], goals: Sequence[Objective], axis: Axis) -> dict[str, MetricValue]:
    """The metrics of the frontier, and the objectives of every usable point."""
    names = [goal.name for goal in goals]
    doubts = {str(key): doubts_of(combination) for key, combination in axis.points}
    of_points = {
        point_metric(name, point.key): metric_value(
            point_metric(name, point.key),
            [list(rounds) for rounds in point.launches[name]],
            doubts[str(point.key)].get(name),
        )
        for point in points
        for name in names
    }
    whole: dict[str, list[list[float]]] = {}
    for launch in _by_launch(points, names):
        for name, value in whole_of(launch, goals).items():
            whole.setdefault(name, []).append([value])
    metrics = {name: metric_value(name, launches) for name, launches in whole.items()}
    metrics[_KNEE] = (
        _knee(whole[_KNEE]) if numeric_keys(points) else metric_value(_KNEE, [], _no_knee(points, axis.name))
    )
    return metrics | of_points


def _by_launch(points: Sequence[Point], names: Sequence[str]) -> list[list[Point]]:
    """The points of each launch. If some points have more launches than others, it is unknown which belong together, and the
    means of all points are one launch."""
    counts = {len(point.launches[name]) for point in points for name in names}
    if len(counts) > 1:
        return [[Point(point.key, {name: point.values[name] for name in names}) for point in points]]
    return [
        [Point(point.key, {name: _mean(point.launches[name][launch]) for name in names}) for point in points]
        for launch in range(counts.pop())
    ]


def _knee(launches: list[list[float]]) -> MetricValue:
    """The median of the launches' knees. A mean would not be one of the keys."""
    knee = metric_value(_KNEE, launches)
    knee.value, knee.ci = sorted(key for rounds in launches for key in rounds)[(len(launches) - 1) // 2], None
    return knee


def _no_knee(points: Sequence[Point], key_name: str) -> str:
    return f"{key_name} {next(point.key for point in points if isinstance(point.key, str))} is no number"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
