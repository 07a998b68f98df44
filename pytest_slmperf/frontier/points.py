"""What a frontier is made of: points, objectives, service-level objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.util.checks import is_number

Key = int | float | str


@dataclass(frozen=True, slots=True)
class Objective:
    """One metric to be optimised and its direction."""

    name: str
    better: Literal["higher", "lower"]

    def gain(self, value: float) -> float:
        """The value with its sign turned so that more is always better."""
        return value if self.better == "higher" else -value


@dataclass(frozen=True, slots=True)
class MetricBound:
    """One bound that a point has to keep: ``value(metric) ≤ bound``, or ``≥`` where ``better`` is "higher"."""

    name: str
    bound: float
    better: Literal["higher", "lower"] = "lower"

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound):  # every comparison with NaN is false: no point would keep it
            raise InvalidInput(f"the bound of an SLO must be a finite number, and {self.name}'s is {self.bound}")

    def met(self, point: Point) -> bool:
        """Whether the point keeps the bound; a point without that reading does not."""
        value = point.values.get(self.name)
        if value is None:
            return False
        return value <= self.bound if self.better == "lower" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.name} {'≤' if self.better == 'lower' else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep.

    key:       what was varied, a number for batch-like sweeps
    values:    metric name → value (finite; a missing reading is absent, never 0)
    intervals: metric name → (low, high) where it was measured often enough to have one
    launches:  metric name → one list of round values per engine launch
    row:       number of the table's row that it came from (the first of repeated rows), from 1; None without a table
    """

    key: Key
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    launches: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    row: int | None = None

    @property
    def number(self) -> float:
        """The key as a number; InvalidInput where it is none."""
        if isinstance(self.key, str):
            raise InvalidInput(
                f"key {self.key!r} is not a number; a knee and a batch pick need a key that grows with the batch "
                "(choose another column with --key)"
            )
        return float(self.key)

    def interval(self, name: str) -> tuple[float, float]:
        """(low, high) of that metric; the value twice where no interval is known."""
        low, high = self.intervals.get(name, (self.values[name],) * 2)
        return low, high


def need(points: Sequence[Point], names: Sequence[str]) -> None:
    """InvalidInput when a point lacks a finite reading of one of these metrics."""
    for point in points:
        for name in names:
            value = point.values.get(name)
            if value is None or not math.isfinite(value):
                raise InvalidInput(f"point {point.key!r} has no finite value of {name!r}; drop the point or the metric")


def numeric_keys(points: Sequence[Point]) -> bool:
    """Whether every key is a number, so that keys have an order."""
    return all(not isinstance(point.key, str) for point in points)


def by_key(points: Sequence[Point]) -> list[Point]:
    """The points by rising key where keys are numbers, else in the order given."""
    return sorted(points, key=lambda point: point.number) if numeric_keys(points) else list(points)


# Intervals of a mean from few readings.


def mean_interval(readings: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean of independent readings (launch means, not rounds); None for fewer than two."""
    if len(readings) < 2:
        return None
    from scipy.stats import t

    mean = fmean(readings)
    half = float(t.ppf(0.5 + confidence / 2, len(readings) - 1)) * stdev(readings) / len(readings) ** 0.5
    return mean - half, mean + half


def launch_interval(launches: Sequence[Sequence[float]], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mean over launches; of a single launch over its rounds, without launch-to-launch variance."""
    filled = [rounds for rounds in launches if rounds]
    if len(filled) == 1:
        return mean_interval(filled[0], confidence)
    return mean_interval([fmean(rounds) for rounds in filled], confidence)


# Points as they stand in ``Result.points``: plain dictionaries, one per point of a sweep.


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
