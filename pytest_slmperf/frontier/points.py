"""What a frontier is made of: points, objectives, service-level objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_slmperf.errors import InvalidInput

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
