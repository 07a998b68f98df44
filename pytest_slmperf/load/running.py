"""How many requests ran at once, as the client saw it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_slmperf.load.samples import NONE, Requests
from pytest_slmperf.metrics.throughput import mean_running_requests


@dataclass(frozen=True, slots=True)
class RunningCurve:
    """Time-mean and peak over the window, both exact; ``running``: the time-means of equal parts of the window."""

    mean: float
    peak: int
    running: list[float]


def running_curve(requests: Requests, window_ns: tuple[int, int], points: int = 120) -> RunningCurve:
    """Requests sent and not yet answered, over the window: exact time-mean and peak, and a curve of time-means.

    A sweep over the events, not a count per bucket: a bucket counts two short requests that follow each other as two
    that run together.  As seen by the client: what waits in the server's queue is in it.
    """
    start, end = window_ns
    width = (end - start) / points
    events: list[tuple[int, int]] = []
    for k in range(len(requests)):
        begin, until = requests.sent_ns[k], requests.last_ns[k]
        if until == NONE or until <= start or begin >= end:
            continue
        events.append((max(start, begin), 1))
        events.append((min(end, until), -1))
    events.sort()  # an end sorts before a begin at the same instant: they do not overlap
    area = [0.0] * points
    peak = level = 0
    at = start
    for moment, step in [*events, (end, 0)]:
        if level:
            _spread_area(area, at - start, moment - start, width, level)
        at = moment
        level += step
        peak = max(peak, level)
    return RunningCurve(
        mean=mean_running_requests(sum(area), end - start),
        peak=peak,
        running=[round(value / width, 4) for value in area],
    )


def _spread_area(area: list[float], begin: int, end: int, width: float, level: int) -> None:
    k = min(len(area) - 1, int(begin / width))
    while begin < end and k < len(area):
        edge = end if k == len(area) - 1 else min(end, (k + 1) * width)
        area[k] += (edge - begin) * level
        begin = edge  # type: ignore[assignment]
        k += 1
