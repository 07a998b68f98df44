"""The classes of metrics: name, label, unit and direction, and the text of a formula together with its code."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, ParamSpec

from pytest_slmperf.util.quantiles import percentiles

Direction = Literal["higher", "lower", "none"]
Combine = Callable[[list[float]], float]
P = ParamSpec("P")

SHARES: dict[str, float] = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
STATISTICS: tuple[str, ...] = ("mean", *SHARES)


@dataclass(frozen=True)
class Metric:
    """One metric.

    better: direction of improvement ("none": reported, but without a direction and never gated).
    gate: whether a comparison of this metric can fail a test by default.
    positive: whether 0 is an impossible reading, because work takes time and energy, and gives tokens.
    label: the name for a reader; by default ``name`` with spaces.
    combine: how the values of all rounds of all launches become one; None: the mean over rounds, then launches.

    A metric of this class is read from the engine; a ``Formula`` is computed here.
    """

    name: str
    unit: str
    better: Direction
    formula: str
    gate: bool = False
    positive: bool = False
    label: str = ""
    combine: Combine | None = None

    def __post_init__(self) -> None:
        if self.gate and self.better == "none":
            raise ValueError(f"metric {self.name!r} has no direction and so cannot gate")
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))


@dataclass(frozen=True)
class Formula(Metric, Generic[P]):
    """A metric with the code of its formula: calling it computes the value, in ``unit``."""

    code: Callable[P, float] = field(kw_only=True)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> float:
        return self.code(*args, **kwargs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the code's parameters."""
        return tuple(inspect.signature(self.code).parameters)


def computed(
    unit: str, better: Direction, formula: str, *, label: str = "", gate: bool = False, positive: bool = False
) -> Callable[[Callable[P, float]], Formula[P]]:
    """Decorator: the function becomes the code of a metric of the same name."""

    def make(code: Callable[P, float]) -> Formula[P]:
        return Formula(code.__name__, unit, better, formula, gate, positive, label, code=code)

    return make


@dataclass(frozen=True)
class Latency:
    """A time per request (or per gap between tokens), whose statistics over all of them are metrics, in ms."""

    base: str
    label: str
    formula: str
    positive: bool = False
    metrics: Mapping[str, Formula[[Sequence[float]]]] = field(init=False, compare=False)  # by statistic

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", {statistic: self._statistic(statistic) for statistic in STATISTICS})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(metric.name for metric in self.metrics.values())

    def statistics(self, ordered: Sequence[float]) -> dict[str, float]:
        """Metric name → value, of ascending latencies in ms (at least one)."""
        return {metric.name: metric(ordered) for metric in self.metrics.values()}

    def _statistic(self, statistic: str) -> Formula[[Sequence[float]]]:
        of = "mean" if statistic == "mean" else f"{statistic[1:]}th percentile"
        return Formula(
            f"{self.base}_{statistic}",
            "ms",
            "lower",
            f"{of} of {self.formula}",
            positive=self.positive,
            label=f"{self.label} {statistic}",
            code=mean if statistic == "mean" else _at_share(SHARES[statistic]),
        )


@dataclass(frozen=True)
class RequestLatency(Latency, Generic[P]):
    """A latency with the code for one request, in the unit of the time stamps."""

    code: Callable[P, float] = field(kw_only=True)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> float:
        return self.code(*args, **kwargs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the code's parameters."""
        return tuple(inspect.signature(self.code).parameters)


def latency(label: str, formula: str, *, positive: bool = False) -> Callable[[Callable[P, float]], RequestLatency[P]]:
    """Decorator: the function becomes the code of a latency of the same name."""

    def make(code: Callable[P, float]) -> RequestLatency[P]:
        return RequestLatency(code.__name__, label, formula, positive, code=code)

    return make


def mean(ordered: Sequence[float]) -> float:
    """The mean, summed without rounding between the terms."""
    return math.fsum(ordered) / len(ordered)


def _at_share(share: float) -> Callable[[Sequence[float]], float]:
    def code(ordered: Sequence[float]) -> float:
        return percentiles(ordered, [share])[0]

    return code
