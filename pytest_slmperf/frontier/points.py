"""Points of a sweep, their objectives and service-level objectives, intervals of their means, and their records."""

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
    """One bound that a point must keep: ``value ≤ bound``, or ``value ≥ bound`` if ``better`` is "higher"."""

    name: str
    bound: float
    better: Literal["higher", "lower"] = "lower"

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound):  # every comparison with NaN is false, so that no point would keep the bound
            raise InvalidInput(f"the bound of an SLO must be a finite number, and {self.name}'s is {self.bound}")

    def met(self, point: Point) -> bool:
        """Whether the point has a reading of the metric that keeps the bound."""
        value = point.values.get(self.name)
        if value is None:
            return False
        return value <= self.bound if self.better == "lower" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.name} {'≤' if self.better == 'lower' else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep.

    key:       value of the setting that the sweep varies, usually a number
    values:    metric name → value (finite; a missing reading is absent, never 0)
    intervals: metric name → (low, high), for metrics with at least two readings
    launches:  metric name → one list of round values per engine launch
    row:       number, from 1, of its row in a table (of the first row if it is repeated); None without a table
    """

    key: Key
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    launches: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    row: int | None = None

    @property
    def number(self) -> float:
        """The key as a number; InvalidInput for a key that is text."""
        if isinstance(self.key, str):
            raise InvalidInput(
                f"key {self.key!r} is not a number; a knee and a batch pick need a key that grows with the batch "
                "(choose another column with --key)"
            )
        return float(self.key)

    def interval(self, name: str) -> tuple[float, float]:
        """(low, high) of the metric ``name``; the value twice if no interval is known."""
        low, high = self.intervals.get(name, (self.values[name],) * 2)
        return low, high


def require_values(points: Sequence[Point], names: Sequence[str]) -> None:
    """InvalidInput if a point lacks a finite reading of one of the metrics ``names``."""
    for point in points:
        for name in names:
            value = point.values.get(name)
            if value is None or not math.isfinite(value):
                raise InvalidInput(f"point {point.key!r} has no finite value of {name!r}; drop the point or the metric")


def numeric_keys(points: Sequence[Point]) -> bool:
    """Whether every key is a number, so that keys have an order."""
    return all(not isinstance(point.key, str) for point in points)


def by_key(points: Sequence[Point]) -> list[Point]:
    """The points by rising key if all keys are numbers, else in the given order."""
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
    """Interval of the mean over launches; for a single launch, of the mean over its rounds, which leaves out the variance
    between launches."""
    filled = [rounds for rounds in launches if rounds]
    if len(filled) == 1:
        return mean_interval(filled[0], confidence)
    return mean_interval([fmean(rounds) for rounds in filled], confidence)


# Records of points in ``Result.points``: plain dictionaries, one per point of a sweep.


def point_record(
    key: Key,
    launches: Mapping[str, Sequence[Sequence[float]]],
    *,
    settings: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The record of one point.

    Its entries: ``key``, ``settings`` (swept setting → value), one entry per metric (mean over launches of the launch
    means), ``ci`` and ``launches`` by metric (one list of rounds per engine launch), and ``facts`` (preemptions, flags, …).
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
    """The points of those records that have a reading of every metric in ``metrics``, no ``failure`` and no preemption."""
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
