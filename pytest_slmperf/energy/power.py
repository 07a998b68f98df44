"""Power samples: the trace that is drawn, the second witness, and the source where no energy counter exists."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from pytest_slmperf.energy.counter import Window

UPDATE_S = 0.1  # of current boards, where the sensor's own has not shown because the power stood still


class PowerTrack:
    """Samples (t in s, monotonic; W) of one power sensor, in order of time.

    ``averaging_s``: window over which the sensor averages (1 s on current NVIDIA boards, 0 for an instantaneous one).
    """

    def __init__(self, averaging_s: float = 0.0) -> None:
        self.averaging_s = averaging_s
        self.t = array("d")
        self.w = array("d")
        self._changes = array("d")

    def add(self, t: float, watts: float) -> None:
        """One sample; one that is not later than the last is the same sample read again."""
        if self.t and t <= self.t[-1]:
            return
        if self.w and watts != self.w[-1]:
            self._changes.append(t)
        self.t.append(t)
        self.w.append(watts)

    def update_s(self) -> float | None:
        """Median time between changes of the value: the sensor's update period, None while it is not known."""
        recent = self._changes[-200:]
        if len(recent) < 5:
            return None
        return median(b - a for a, b in pairwise(recent))

    def window(self, t_start: float, t_end: float) -> Window:
        """Integral of the samples from t_start to t_end, by trapezoids with interpolated edges.

        Keeping only the samples inside would lose the ends.  The bound, larger than a counter's: during an update period
        (or the longest time without a sample) at the edges the power may be anything up to the highest seen; an
        averaging sensor moves at most so long a piece of the power's range across them; and between two updates the
        power may have stepped at any time.  What a sensor does not sample at all (A100 and H100 look at a quarter of the
        time) no bound can hold; it is in the gain.
        """
        if not t_end > t_start:
            return Window(None, None, f"the window has no length ({t_end - t_start:g} s)")
        if not self.t or self.t[0] > t_start or self.t[-1] < t_end:
            return Window(None, None, "the power samples do not reach over the whole window")
        first, last = bisect_right(self.t, t_start), bisect_left(self.t, t_end)
        times = [t_start, *self.t[first:last], t_end]
        watts = [self.at(t_start), *self.w[first:last], self.at(t_end)]
        joules = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(times, times[1:], watts, watts[1:], strict=False))
        stamps = self.t[first - 1 : last + 1]
        update = max(self.update_s() or UPDATE_S, *(b - a for a, b in pairwise(stamps)))
        lag = update + self.averaging_s
        near = self.w[max(0, bisect_left(self.t, t_start - lag) - 1) : bisect_right(self.t, t_end + lag) + 1]
        steps = sum(abs(b - a) for a, b in pairwise(watts)) * update / 2
        bound = update * max(near) + self.averaging_s * (max(near) - min(near)) + steps
        return Window(joules, bound + 0.001 * (t_end - t_start))

    def windows(self, windows: Sequence[tuple[float, float]]) -> Window:
        """Integral over several windows together; their bounds add up."""
        parts = [self.window(*edges) for edges in windows]
        reason = next((part.reason for part in parts if part.joules is None), None)
        if reason is not None or not parts:
            return Window(None, None, reason or "no window")
        return Window(sum(part.joules or 0.0 for part in parts), sum(part.bound_j or 0.0 for part in parts))

    def at(self, t: float) -> float:
        """Power at t in W, between samples interpolated; t must lie inside the samples."""
        k = bisect_right(self.t, t)
        if k >= len(self.t):
            return self.w[-1]
        a, b = self.t[k - 1], self.t[k]
        return self.w[k - 1] + (self.w[k] - self.w[k - 1]) * (t - a) / (b - a)


def thinned(times: list[float], watts: list[float], most: int) -> tuple[list[float], list[float]]:
    """At most so many points: each the mean over a stretch of equal count, so that the area stays."""
    count = len(times)
    if count <= most:
        return times, watts
    step = -(-count // most)
    groups = [slice(k, min(k + step, count)) for k in range(0, count, step)]
    return (
        [sum(times[g]) / len(times[g]) for g in groups],
        [sum(watts[g]) / len(watts[g]) for g in groups],
    )
