"""Settings of one ``vllm bench sweep`` as one sweep with points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.frontier.points import Objective, Point
from pytest_slmperf.frontier.records import point_record, points_of
from pytest_slmperf.frontier.regression import at
from pytest_slmperf.frontier.whole import whole_of
from pytest_slmperf.importers.combinations import Combination
from pytest_slmperf.importers.vllm_bench import Origin, Shape, engine_of, launches_of, metric_value, traffic_of
from pytest_slmperf.record import MetricValue, Result

_LATENCIES = ("itl_mean", "tpot_mean", "e2el_mean")  # what throughput is traded against, the best first


def sweep_result(name: str, combinations: Sequence[Combination], *, shape: Shape, origin: Origin) -> Result | None:
    """The combinations as one sweep with points, and with the metrics of the whole (hypervolume, knee), so that it can be
    kept as a baseline; None unless exactly one number differs between them."""
    varied = sorted({setting for one in combinations for setting in one.settings})
    if len(combinations) < 2 or len(varied) != 1:
        return None
    keys = [one.settings.get(varied[0]) for one in combinations]
    if not all(isinstance(key, int | float) and not isinstance(key, bool) for key in keys) or len(set(keys)) < len(
        keys
    ):
        return None
    records = sorted(
        (
            point_record(key, launches_of(one, shape), settings=one.settings)
            for key, one in zip(keys, combinations, strict=True)
            if key is not None
        ),
        key=lambda record: float(record["key"]),
    )
    latency = next((one for one in _LATENCIES if all(one in record for record in records)), None)
    objectives = ("output_throughput", latency) if latency else ()
    return Result(
        id=f"vllm bench sweep::{name}",
        scenario={
            "kind": "sweep",
            "key": varied[0],
            "keys": [record["key"] for record in records],
            "objectives": list(objectives),
            **_settings_of(combinations[0], shape),
        },
        engine=engine_of(combinations[0].runs[0], origin),
        metrics=_sweep_metrics(records, objectives),
        points=records,
        notes=["imported from vllm bench sweep"],
    )


def _settings_of(combination: Combination, shape: Shape) -> dict[str, Any]:
    """What the whole sweep was asked for: the traffic that its points share."""
    shared = {
        name: value for name, value in traffic_of(combination.runs[0]).items() if name not in combination.settings
    }
    return shape.as_scenario() | shared


def _sweep_metrics(records: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, MetricValue]:
    """Every point's objectives, and the frontier's own metrics; empty without a latency that all points have."""
    points = points_of(records, objectives) if objectives else []
    if not points or len(points) < len(records):
        return {}
    found = {
        at(name, record["key"]): metric_value(at(name, record["key"]), record["launches"][name])
        for record in records
        for name in objectives
    }
    goals = [Objective("output_throughput", "higher"), Objective(objectives[1], "lower")]
    whole: dict[str, list[list[float]]] = {}
    for launch in range(min(len(record["launches"][name]) for record in records for name in objectives)):
        means = [
            Point(record["key"], {name: _mean(record["launches"][name][launch]) for name in objectives})
            for record in records
        ]
        for name, value in whole_of(means, goals).items():
            whole.setdefault(name, []).append([value])
    return {name: metric_value(name, launches) for name, launches in whole.items()} | found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
