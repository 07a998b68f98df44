"""One statement, checked against measured figures, and the interval arithmetic that decides it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_slmperf.model.result import Results
from pytest_slmperf.util.checks import is_number
from pytest_slmperf.util.formatting import number

Outcome = Literal["holds", "does not hold", "cannot be told", "not measured"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of a scenario (S1 … S13), its outcome, and the figures behind it.

    ``test``: id of the test that measured it; may be empty. ``model``: the served model.
    """

    scenario: str
    statement: str
    outcome: Outcome
    evidence: str
    test: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A results file and its name, as given."""

    name: str
    results: Results


@dataclass(frozen=True, slots=True)
class Reading:
    """A value with its 95 % interval; ``low == high`` if there are too few readings for one."""

    value: float
    low: float
    high: float

    def __truediv__(self, other: Reading) -> Reading:
        """The ratio, with the widest possible interval. The whole interval of ``other`` must be above 0, else the ratio's
        interval has no upper end."""
        high = self.high / other.low if other.low > 0 else math.inf
        return Reading(self.value / other.value, max(0.0, self.low) / other.high, high)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{_short(self.value)} (no interval)"
        low, high = _short(self.low), _short(self.high)
        return _short(self.value) if low == high else f"{_short(self.value)} ({low} … {high})"


def _short(value: float) -> str:
    return "∞" if math.isinf(value) else number(value)


def above(reading: Reading, bound: float) -> Outcome:
    """Whether the reading lies above the bound, with its whole interval."""
    if reading.low > bound:
        return "holds"
    return "cannot be told" if reading.high > bound else "does not hold"


def below(reading: Reading, bound: float) -> Outcome:
    """Whether the reading is at most the bound, with its whole interval."""
    if reading.high <= bound:
        return "holds"
    return "cannot be told" if reading.low <= bound else "does not hold"


def all_of(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a statement with several parts: it holds if all parts hold, and fails if one fails."""
    known = list(outcomes)
    order: tuple[Outcome, ...] = ("does not hold", "cannot be told", "not measured")
    return next((outcome for outcome in order if outcome in known), "holds" if known else "not measured")


def of_point(row: Mapping[str, Any], name: str) -> Reading | None:
    """A metric of a sweep's point; None without a reading."""
    value = row.get(name)
    if not is_number(value) or not math.isfinite(value):
        return None
    low, high = (row.get("ci") or {}).get(name) or (value, value)
    return Reading(float(value), float(low), float(high))


def of_metric(metrics: Mapping[str, Any], name: str) -> Reading | None:
    """A metric of a result; None without a reading."""
    metric = metrics.get(name)
    if metric is None or metric.value is None:
        return None
    low, high = metric.ci or (metric.value, metric.value)
    return Reading(float(metric.value), float(low), float(high))
