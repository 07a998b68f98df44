"""The baseline's side of a comparison, kept with the result so that a report can draw both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from pytest_slmperf.model.latency_sample import Samples


class BaselineReading(msgspec.Struct, kw_only=True):
    """One metric of the baseline: its value and its rounds per launch. ``value`` None: only launches are kept."""

    unit: str = ""
    value: float | None = None
    launches: list[list[float]] = []

    @property
    def reading(self) -> float | None:
        """The value as kept, else the mean of the launch means; None where neither is known."""
        if self.value is not None:
            return self.value
        means = [mean for _, mean in launch_means(self.launches)]
        return math.fsum(means) / len(means) if means else None


class SideEnergy(msgspec.Struct, kw_only=True):
    """Energy of the other side of a duet."""

    joules: float | None = None
    bound_j: float | None = None
    source: str | None = None


class BaselineSide(msgspec.Struct, kw_only=True):
    """A stored baseline (launches of all its sessions), or the other side of a duet. Everything in it is optional."""

    name: str | None = None
    commit: str | None = None
    saved_at: str | None = None
    sessions: int | None = None
    engine: dict[str, Any] = {}
    metrics: dict[str, BaselineReading] = {}
    samples: Samples = {}
    energy: SideEnergy | None = None
    points: list[dict[str, Any]] = []  # the baseline's sweep, as in Result.points

    def value(self, metric: str) -> float | None:
        """The baseline's value of a metric; None where it has none."""
        return self.metrics[metric].reading if metric in self.metrics else None

    def launches(self, metric: str) -> list[list[float]]:
        """The baseline's rounds per launch of a metric."""
        return self.metrics[metric].launches if metric in self.metrics else []


def launch_means(launches: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Launch index and the mean of its rounds, launches without a clean round left out."""
    return [(index, math.fsum(rounds) / len(rounds)) for index, rounds in enumerate(launches) if rounds]
