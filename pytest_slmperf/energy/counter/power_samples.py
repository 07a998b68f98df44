"""Samples of a power sensor: the trace in charts, the second witness, and the source where there is no energy counter."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from pytest_slmperf.energy.counter.track import Level, Window

SLOWEST_S = 0.5  # update period of the slowest known sensors: assumed until this sensor's own is known
LATE = 1.2  # usual update periods after which an update has certainly come
EVEN = 0.1  # tolerance within which averaging window ÷ update period counts as an integer
RESOLUTION_W = 0.001


class PowerTrack:
    """Samples (t in s, monotonic; W) of one power sensor, in order of time.

    averaging_s: window over which the sensor averages (1 s on current NVIDIA boards, 0 for an instantaneous sensor)
    ceiling_w:   power that the device never exceeds, None if unknown

    A sensor that averages over A reports only the mean of what happens within A.  Let E(t) be the energy and F(t) the
    integral of the reported power.  The value of update j is (E(s_j) − E(s_j − A)) ÷ A, so the sum of these values
    telescopes: F(s_j) is, up to a constant, the mean of E over the updates in [s_j − A, s_j).  E never falls, so E − F
    is at least 0, and at most the energy drawn in the A before the next update s' (A times the value shown then) plus
    what F gains until s'.  Hence, at either edge of a window,

        0 ≤ E(t) − F(t) ≤ (A + s' − t) × the highest value shown from t to s',

    for any load: a load that repeats within A is shown as steady, and its edges are as uncertain as any other.  Before
    s' has come, at most one update period has passed since the last update, at no more than the ceiling.

    A sensor without averaging reports nothing of what happens within an update period: the power of one period is unknown at
    an edge, and between two updates the power may have stepped at any time.
    """

    def __init__(self, averaging_s: float = 0.0, ceiling_w: float | None = None) -> None:
        self.averaging_s = averaging_s
        self.ceiling_w = ceiling_w
        self.t = array("d")
        self.w = array("d")
        self._changes = array("d")
        self._unchanged = array("d")  # per change: time of the last sample that still showed the previous value

    def add(self, t: float, watts: float) -> None:
        """Record one sample; a sample that is not later than the last is the same sample read again."""
        if self.t and t <= self.t[-1]:
            return
        if self.w and watts != self.w[-1]:
            self._changes.append(t)
            self._unchanged.append(self.t[-1])
        self.t.append(t)
        self.w.append(watts)

    def update_s(self) -> float | None:
        """Usual time between changes of the value: the sensor's update period; None while unknown.

        Under steady power the value changes less often than the sensor updates, so a median above the slowest known
        period is accepted only if no two changes came closer than that.
        """
        recent = self._changes[-200:]
        if len(recent) < 5:
            return None
        gaps = [b - a for a, b in pairwise(recent)]
        return min(median(gaps), max(SLOWEST_S, min(gaps)))

    def updated_after(self, t: float) -> bool:
        """True once the sensor has certainly updated after t: later samples add nothing about the energy at t."""
        return self._next_update(t, self.update_s() or SLOWEST_S) is not None

    def _next_update(self, t: float, update_s: float) -> int | None:
        """The first sample certainly updated after t: it changed, or an update period has passed."""
        change = bisect_left(self._unchanged, t)
        changed = self._changes[change] if change < len(self._changes) else float("inf")
        at = bisect_left(self.t, min(changed, t + LATE * update_s))
        return at if at < len(self.t) else None

    def window(self, t_start: float, t_end: float) -> Window:
        """Energy from t_start to t_end (s, monotonic): the integral of the samples, corrected at the edges for the
        sensor's lag.

        Using only the samples inside the window would lose its ends.  No bound covers what a sensor does not sample at
        all (A100 and H100 sample a quarter of the time); that is part of the gain.
        """
        if not t_end > t_start:
            return Window(None, None, f"the window has no length ({t_end - t_start:g} s)")
        if not self.t or self.t[0] > t_start or self.t[-1] < t_end:
            return Window(None, None, "the power samples do not reach over the whole window")
        update_s = self.update_s() or SLOWEST_S
        first, last = self._lag(t_start, update_s), self._lag(t_end, update_s)
        if first is None or last is None:
            return Window(
                None, None, "the power sensor did not update after the window, and the device tells no power limit"
            )
        begin, end = bisect_right(self.t, t_start), bisect_left(self.t, t_end)
        times = [t_start, *self.t[begin:end], t_end]
        watts = [self.at(t_start), *self.w[begin:end], self.at(t_end)]
        shown = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(times, times[1:], watts, watts[1:], strict=False))
        doubt = self._doubt_inside(begin, end, update_s, shown + self.averaging_s * max(watts))
        low = max(0.0, shown + last.low - first.high - doubt)
        high = shown + last.high - first.low + doubt
        joules = min(max(shown + last.best - first.best, low), high)
        return Window(joules, max(high - joules, joules - low) + RESOLUTION_W * (t_end - t_start))

    def _lag(self, t: float, update_s: float) -> Level | None:
        """E − F at t, in J (see the class); None where neither an update after t nor a ceiling is known."""
        k = bisect_right(self.t, t) - 1
        updated = self._next_update(t, update_s)
        until = len(self.t) - 1 if updated is None else updated
        most = max(self.w[k : until + 1])
        gap = max((b - a for a, b in pairwise(self.t[k : until + 1])), default=0.0)
        length = self.averaging_s + max(update_s, gap if not self.averaging_s else self.t[until] - t)
        late = 0.0
        if updated is None:
            if self.ceiling_w is None:
                return None
            late = self.ceiling_w * update_s
        # A trapezoid starts to follow a step up to one sample before the step was seen.
        low = -gap * most if self.averaging_s else 0.0
        return Level(low, (self.averaging_s + update_s) / 2 * self.w[k], length * most + late)

    def _doubt_inside(self, begin: int, end: int, update_s: float, energy_j: float) -> float:
        """Upper bound of the error of the samples' integral between the edges, J. ``energy_j``: lower bound of the energy.

        The moment of each step is known to within two samples; without averaging, the power may have stepped at any time
        of the update period.  The sum over an averaging sensor's updates telescopes only if every moment lies in the
        same number of updates: where the update period does not divide the averaging window, or updates were missed, the
        number differs by 1.
        """
        gaps = [b - a for a, b in pairwise(self.t[begin - 1 : end + 1])]
        steps = [abs(b - a) for a, b in pairwise(self.w[begin - 1 : end + 1])]
        if not self.averaging_s:
            return sum(step * max(gap, update_s) / 2 for step, gap in zip(steps, gaps, strict=True))
        moved = sum(step * gap / 2 for step, gap in zip(steps, gaps, strict=True))
        ratio = self.averaging_s / update_s
        uneven = energy_j / ratio if abs(ratio - round(ratio)) > EVEN else 0.0
        missed = [gap for gap in gaps if gap > 0.75 * update_s]  # one or more updates may lie in such a gap
        most = max(self.w[begin - 1 : end + 1])
        unseen = min(sum(missed) * most, max(missed, default=0.0) / self.averaging_s * energy_j)
        return moved + max(uneven, unseen)

    def windows(self, windows: Sequence[tuple[float, float]]) -> Window:
        """Integral over several windows; their bounds add up."""
        parts = [self.window(*edges) for edges in windows]
        reason = next((part.reason for part in parts if part.joules is None), None)
        if reason is not None or not parts:
            return Window(None, None, reason or "no window")
        return Window(sum(part.joules or 0.0 for part in parts), sum(part.bound_j or 0.0 for part in parts))

    def at(self, t: float) -> float:
        """Power at t in W, interpolated between samples; t must lie inside the samples."""
        k = bisect_right(self.t, t)
        if k >= len(self.t):
            return self.w[-1]
        a, b = self.t[k - 1], self.t[k]
        return self.w[k - 1] + (self.w[k] - self.w[k - 1]) * (t - a) / (b - a)


def thinned(times: list[float], watts: list[float], most: int) -> tuple[list[float], list[float]]:
    """At most ``most`` points, each the mean of an equal count of samples, which keeps the area."""
    count = len(times)
    if count <= most:
        return times, watts
    step = -(-count // most)
    groups = [slice(k, min(k + step, count)) for k in range(0, count, step)]
    return (
        [sum(times[g]) / len(times[g]) for g in groups],
        [sum(watts[g]) / len(watts[g]) for g in groups],
    )
