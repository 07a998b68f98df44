"""One load at rising rates, up to the first rate that the engine cannot sustain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_slmperf.errors import InvalidInput

if TYPE_CHECKING:
    from pytest_slmperf.measuring.handle import Measurement

DOUBLINGS = 16  # doublings of the first rate if nothing else ends the sweep


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """``points``: the measurement at each rate (requests/s), rising.

    ``saturated``: the first rate that the engine did not sustain; None if it sustained all.
    """

    points: dict[float, Measurement]
    saturated: float | None

    @property
    def sustained(self) -> float | None:
        """The highest rate that the engine sustained."""
        return max((rate for rate in self.points if rate != self.saturated), default=None)

    @property
    def request_throughput(self) -> float:
        """The highest number of requests per second completed at any rate."""
        return max(point["request_throughput"] for point in self.points.values())


def measure_rates(
    serve: Callable[[float], Measurement], rate: float | Sequence[float], keep_up: float
) -> MeasuredRates:
    """Call ``serve`` at each rate, rising; a single number is the first rate, doubled each time.

    Ends after the first rate at which less than the share ``keep_up`` of the requests due in the window completed in it.
    InvalidInput for rates that do not rise.
    """
    rates = list(rate) if isinstance(rate, Sequence) else [rate * 2**k for k in range(DOUBLINGS)]
    if not rates or any(low >= high for low, high in pairwise(rates)):
        raise InvalidInput(f"slmperf.serving_sweep: the rates must rise, not {rate!r}")
    if not 0 < keep_up <= 1:
        raise InvalidInput(f"slmperf.serving_sweep: keep_up is a share above 0 and at most 1, not {keep_up!r}")
    points: dict[float, Measurement] = {}
    for rate in rates:
        points[rate] = serve(rate)
        if points[rate]["request_throughput"] < keep_up * _offered(points[rate].result):
            return MeasuredRates(points, rate)
    return MeasuredRates(points, None)


def _offered(result: Any) -> float:
    """Requests per second that were due in the rounds that count."""
    loads = [
        round_.evidence["load"] for launch in result.launches for round_ in launch.rounds if "load" in round_.evidence
    ]
    return math.fsum(load["due"] / load["window_s"] for load in loads) / max(1, len(loads))
