"""Arrival times: the due time of each request, in seconds after the start of the load.

Every schedule is a list of absolute times from before the start, so that a slow sender cannot stretch it.  Gaps stay as
drawn: rescaling them such that n requests take exactly n ÷ rate would make the process non-Poisson.  The same seed gives
the same schedule on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol, runtime_checkable

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util.checks import is_number

MOST_REQUESTS = 2_000_000  # all of them are computed before the load starts


@runtime_checkable
class Arrivals(Protocol):
    """An open-loop arrival process."""

    def times(self, seconds: float, seed: int) -> list[float]:
        """Due times in [0, seconds), rising."""

    def describe(self) -> dict[str, object]:
        """The parameters that a results file keeps."""


def _rate(value: float) -> float:
    if not is_number(value) or not 0 < value < math.inf:
        raise InvalidInput(f"a request rate must be a number above 0 (requests per second), not {value!r}")
    return float(value)


def _seconds(value: float, rate: float = 0.0) -> float:
    if not 0 < value < math.inf:
        raise InvalidInput(f"the length of a schedule must be above 0 seconds, not {value!r}")
    if value * rate > MOST_REQUESTS:
        raise InvalidInput(
            f"{rate:g} requests a second for {value:g} s are more than the {MOST_REQUESTS} requests that one load may hold; "
            "lower the rate or the duration"
        )
    return float(value)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gaps from a gamma distribution of mean 1 ÷ rate and shape ``burstiness``.

    ``burstiness``, a name of vLLM's benchmark: 1 is Poisson, below 1 is burstier, above 1 is more regular; the coefficient
    of variation of the gaps is 1 ÷ √burstiness.
    """

    rate: float
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        _rate(self.rate)
        if not 0 < self.burstiness < math.inf:
            raise InvalidInput(f"burstiness must be above 0 (1 is Poisson), not {self.burstiness!r}")

    def times(self, seconds: float, seed: int) -> list[float]:
        seconds = _seconds(seconds, self.rate)
        random = Random(f"gamma:{self.rate!r}:{self.burstiness!r}:{seed}")
        scale = 1.0 / (self.rate * self.burstiness)
        due: list[float] = []
        t = random.gammavariate(self.burstiness, scale)
        while t < seconds:
            due.append(t)
            t += random.gammavariate(self.burstiness, scale)
        return due

    def describe(self) -> dict[str, object]:
        kind = "poisson" if self.burstiness == 1 else "gamma"
        return {"arrivals": kind, "rate": self.rate, "burstiness": self.burstiness}


def poisson(rate: float) -> Gamma:
    """Poisson arrivals: exponential gaps, which are gamma gaps of shape 1."""
    return Gamma(rate, 1.0)


@dataclass(frozen=True, slots=True)
class Constant:
    """One request every 1 ÷ rate seconds, the first at 0. Times are k ÷ rate, since a running sum would drift."""

    rate: float

    def __post_init__(self) -> None:
        _rate(self.rate)

    def times(self, seconds: float, seed: int) -> list[float]:
        count = math.ceil(_seconds(seconds, self.rate) * self.rate)
        return [k / self.rate for k in range(count) if k / self.rate < seconds]

    def describe(self) -> dict[str, object]:
        return {"arrivals": "constant", "rate": self.rate}


@dataclass(frozen=True, slots=True)
class Ramp:
    """Poisson arrivals whose rate changes linearly from ``start`` to ``end`` over the schedule.

    Made by time change: unit-rate arrivals Γ_k are mapped through the inverse of Λ(t) = start·t + (end − start)·t² ÷ 2T.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        _rate(self.end)
        if not 0 <= self.start < math.inf:
            raise InvalidInput(f"a ramp starts at a rate of 0 or above, not {self.start!r}")

    def times(self, seconds: float, seed: int) -> list[float]:
        seconds = _seconds(seconds, max(self.start, self.end))
        random = Random(f"ramp:{self.start!r}:{self.end!r}:{seed}")
        slope = (self.end - self.start) / seconds
        total = (self.start + self.end) / 2 * seconds
        due: list[float] = []
        area = random.expovariate(1.0)
        while area < total:
            # 2a ÷ (s + √(s² + 2·slope·a)) is the root of slope·t²/2 + s·t = a that stays finite when slope is 0
            due.append(2 * area / (self.start + math.sqrt(max(0.0, self.start**2 + 2 * slope * area))))
            area += random.expovariate(1.0)
        return [t for t in due if t < seconds]

    def describe(self) -> dict[str, object]:
        return {"arrivals": "ramp", "rate_from": self.start, "rate_to": self.end}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A user's own times (seconds, rising, first request of the trace at 0), played ``speed`` times as fast."""

    at: tuple[float, ...]
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.speed < math.inf:
            raise InvalidInput(f"the speed of a trace must be above 0, not {self.speed!r}")
        if not self.at:
            raise InvalidInput("the trace holds no request")
        if any(not math.isfinite(t) or t < 0 for t in self.at):
            raise InvalidInput("the times of a trace must be finite seconds of 0 or above")
        if any(a > b for a, b in zip(self.at, self.at[1:], strict=False)):
            raise InvalidInput("the times of a trace must not fall; sort the file by arrival time")

    def times(self, seconds: float, seed: int) -> list[float]:
        return [t / self.speed for t in self.at if t / self.speed < _seconds(seconds)]

    def describe(self) -> dict[str, object]:
        return {"arrivals": "trace", "speed": self.speed}
