"""Energy between two moments, with an error bound, from polls of a cumulative energy counter.

A counter that ticks every T seconds shows, at any moment, the energy up to its last tick.  The power between ticks is
assumed to be non-negative and, where the device states a limit, at most ``ceiling_w``; nothing else is assumed.  Two facts
then bound the true cumulative energy E(t), and neither needs T:

- a value already shown at t is at most E(t);
- a value that first appeared in a poll begun at or after t belongs to a tick after t, so it is at least E(t).

E rises at ``ceiling_w`` at most, which makes the bound small for a moment next to a tick.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pytest_slmperf.energy.counter.tick_schedule import Resolution

INFINITY = float("inf")
COVERED = 0.8  # least share of the requested window that a window shrunk to ticks must hold to stand for it
SHARPEST = 16  # ticks near each edge that are candidates for the best pair
UNEVEN = 0.1  # weight of uneven power inside a round against the blur of a tick
FELL = "the energy counter fell back (driver reload or device reset) in this window"


@dataclass(frozen=True, slots=True)
class Window:
    """Energy between two moments, in J: |joules − true| ≤ bound_j. ``joules`` None: unknown, for ``reason``."""

    joules: float | None
    bound_j: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """Cumulative energy at a moment, in J on the counter's axis: low ≤ true ≤ high, ``best`` is the likeliest."""

    low: float
    best: float
    high: float


class Epoch:
    """The ticks between two resets of the counter.

    ``value[k]`` J first appeared in a poll that ended at ``seen[k]``; the previous poll, begun at ``unseen[k]``, showed
    the old value.  Tick k therefore lies in (unseen, seen].
    """

    def __init__(self, resolution: Resolution, ceiling_w: float | None) -> None:
        self.unseen = array("d")
        self.seen = array("d")
        self.value = array("d")
        self.at = array("d")  # likeliest time of each tick
        self.last_begun = -INFINITY
        self.last_ended = -INFINITY
        self._resolution = resolution
        self._ceiling_w = INFINITY if ceiling_w is None else ceiling_w

    def add(self, begun: float, ended: float, joules: float, period_s: float | None = None) -> bool:
        """Record one poll; True if it showed a new value. ``period_s``: usual time between ticks, None if unknown."""
        changed = not self.value or joules != self.value[-1]
        if changed:
            self.at.append(self._likeliest(self.last_begun, ended, period_s))
            if len(self.at) == 2 and period_s is not None:  # the first poll showed an older tick
                self.at[0] = min(self.at[0], self.at[1] - period_s)
            self._resolution.saw(joules, self.value[-1] if self.value else None)
            self.unseen.append(self.last_begun)
            self.seen.append(ended)
            self.value.append(joules)
        self.last_begun, self.last_ended = begun, ended
        return changed

    def tick_at(self, k: int) -> float:
        """Likeliest time of tick k: used for best estimates, never for bounds."""
        return self.at[k]

    def _likeliest(self, unseen: float, seen: float, period_s: float | None) -> float:
        """Time of the last tick in (unseen, seen]: the middle, or a whole number of periods after the previous tick.

        The latter is used where polls are far apart (a busy host): the middle would be off by up to half a tick.
        """
        if unseen == -INFINITY:
            return seen
        middle = (unseen + seen) / 2
        if period_s is None or seen - unseen <= period_s / 10 or len(self.at) < 2:
            return middle
        slack = period_s / 10
        regular = self.at[-1] + int((seen - self.at[-1] + slack) / period_s) * period_s
        return min(max(regular, unseen), seen) if unseen - slack < regular <= seen + slack else middle

    def blur(self, k: int) -> float:
        """Seconds between the polls around tick k."""
        return self.seen[k] - self.unseen[k]

    def level(self, t: float) -> Level | None:
        """Cumulative energy at t; None outside the polls, or after the last tick where no ceiling is known."""
        before = bisect_right(self.seen, t) - 1  # last tick whose value was shown by t
        if before < 0 or t > self.last_ended:
            return None
        after = bisect_left(self.unseen, t)  # first tick that certainly came after t
        low = self.value[before]
        for k in range(before + 1, min(after + 1, len(self.value))):
            low = max(low, self.value[k] - self._ceiling_w * max(0.0, self.seen[k] - t))
        high = self.value[after] + self._resolution.unit_j if after < len(self.value) else INFINITY
        if after > 0 and self.unseen[after - 1] != -INFINITY:
            high = min(
                high, self.value[after - 1] + self._resolution.unit_j + self._ceiling_w * (t - self.unseen[after - 1])
            )
        if high == INFINITY:
            return None
        return Level(low, min(max(self._interpolated(t, before), low), high), high)

    def most(self, seconds: float) -> float:
        """Upper bound of the J that the device draws in ``seconds``, the counter's resolution included."""
        return self._ceiling_w * seconds + self._resolution.unit_j

    def _interpolated(self, t: float, before: int) -> float:
        """Energy at t, assuming the previous tick's power before t and the next tick's power after t.

        The load begins and ends at the edges of measured windows, so the power steps there: linear interpolation would be
        off by up to a quarter tick of that step.  Under steady power both agree.
        """
        k = before
        if k + 1 < len(self.value) and t >= self.tick_at(k + 1):
            k += 1  # t is in the poll gap around the next tick, past the tick's likeliest time
        if k + 1 >= len(self.value):
            rate = self._rate(k - 1) if k > 1 else 0.0
            return self.value[k] + rate * max(0.0, t - self.tick_at(k))
        start, end = self.tick_at(k), self.tick_at(k + 1)
        rise = self.value[k + 1] - self.value[k]
        if end <= start:
            return self.value[k]
        between = rise / (end - start)
        earlier = self._rate(k - 1) if k > 1 else between  # tick 0 happened before the first poll
        later = self._rate(k + 1) if k + 2 < len(self.value) else between
        share = min(max((t - start) / (end - start), 0.0), 1.0)
        left, right = share * earlier, (1 - share) * later
        return self.value[k] + rise * (left / (left + right) if left + right > 0 else share)

    def _rate(self, k: int) -> float:
        """Mean power in W between ticks k and k + 1."""
        span = self.tick_at(k + 1) - self.tick_at(k)
        return (self.value[k + 1] - self.value[k]) / span if span > 0 else 0.0


def period(times: list[float]) -> float | None:
    """Period of ticks observed at ``times`` (s), some late and some missed; None with fewer than three."""
    if len(times) < 3:
        return None
    gaps = [b - a for a, b in pairwise(times)]
    usual = median(gaps)
    # Counted per gap: over the whole span the error of the median would add up to several ticks.
    return (times[-1] - times[0]) / sum(max(1, round(gap / usual)) for gap in gaps) if usual > 0 else None


class CounterTrack:
    """All polls of one counter.

    unit_j:    resolution of the counter, J
    ceiling_w: power that the device never exceeds, W; None if unknown
    coarser:   use a coarser resolution if all values turn out to be multiples of it
    fell:      reason given for a window in which the counter fell back
    """

    def __init__(
        self, unit_j: float, ceiling_w: float | None = None, *, coarser: bool = False, fell: str = FELL
    ) -> None:
        self.resolution = Resolution(unit_j, seen=coarser)
        self.ceiling_w = ceiling_w
        self.fell = fell
        self.period_s: float | None = None  # usual time between ticks, set by the caller where it is known
        self.resets: list[tuple[float, float]] = []  # (last poll before, first poll after)
        self._epochs = [Epoch(self.resolution, ceiling_w)]

    @property
    def current(self) -> Epoch:
        return self._epochs[-1]

    def add(self, begun: float, ended: float, joules: float) -> bool:
        """Record one poll (times in s, monotonic); True if it showed a tick. A falling value is a reset, never a wrap."""
        epoch = self.current
        if epoch.value and joules < epoch.value[-1]:
            self.resets.append((epoch.last_begun, ended))
            epoch = Epoch(self.resolution, self.ceiling_w)
            self._epochs.append(epoch)
        return epoch.add(begun, ended, joules, self.period_s)

    def covers(self, t: float) -> bool:
        """True once a tick after t was seen: later polls cannot tighten the bound of E(t)."""
        unseen = self.current.unseen
        return bool(unseen) and unseen[-1] >= t

    def window(self, t_start: float, t_end: float) -> Window:
        """Energy from t_start to t_end (s, monotonic)."""
        if not t_end > t_start:
            return Window(None, None, f"the window has no length ({t_end - t_start:g} s)")
        if any(t_start <= seen and t_end >= unseen for unseen, seen in self.resets):
            return Window(None, None, self.fell)
        for epoch in reversed(self._epochs):
            first = epoch.level(t_start)
            if first is None:
                continue
            last = epoch.level(t_end)
            if last is None:
                return Window(None, None, "no tick of the energy counter was seen after the window's end")
            low = max(0.0, last.low - first.high)
            high = min(last.high - first.low, epoch.most(t_end - t_start))
            joules = min(max(last.best - first.best, low), high)
            return Window(joules, max(high - joules, joules - low))
        begun = bool(self._epochs[0].seen) and self._epochs[0].seen[0] <= t_start
        why = "the energy counter did not tick" if begun else "the window begins before the meter's first sample"
        return Window(None, None, why)

    def windows(self, windows: Sequence[tuple[float, float]]) -> Window:
        """Total energy of several disjoint windows in order of time.

        The sum of their bounds would count an error at a shared edge twice.  Where windows follow each other closely, the
        total is also the outer window minus the gaps, whose energy is small; the tighter of both bounds is used.
        """
        parts = [self.window(*edges) for edges in windows]
        reason = next((part.reason for part in parts if part.joules is None), None)
        if reason is not None or not parts:
            return Window(None, None, reason or "no window")
        known = [(part.joules, part.bound_j) for part in parts if part.joules is not None and part.bound_j is not None]
        joules = sum(value for value, _ in known)
        low, high = joules - sum(bound for _, bound in known), joules + sum(bound for _, bound in known)
        outer = self.window(windows[0][0], windows[-1][1])
        gaps = [self.window(a[1], b[0]) for a, b in pairwise(windows) if b[0] > a[1]]
        if outer.joules is not None and outer.bound_j is not None:
            low_gaps = sum(max(0.0, gap.joules - gap.bound_j) for gap in gaps if gap.joules is not None and gap.bound_j)
            high_gaps = sum(
                INFINITY if gap.joules is None or gap.bound_j is None else gap.joules + gap.bound_j for gap in gaps
            )
            low = max(low, outer.joules - outer.bound_j - high_gaps)
            high = min(high, outer.joules + outer.bound_j - low_gaps)
        joules = min(max(joules, low), high)
        return Window(joules, max(high - joules, joules - low))

    def ticks_inside(self, t_start: float, t_end: float, period_s: float | None = None) -> tuple[float, float] | None:
        """Two moments near the edges of the window at which a tick had just been seen; None with fewer than two ticks.

        Among pairs that keep ``COVERED`` of the window, the pair with the least timing doubt is chosen (a poll may be late
        on a busy host).  Where the load repeats every ``period_s``, pairs a whole number of periods apart are preferred:
        the mean power between them is then the load's, wherever in its period they lie.
        """
        epoch = self.current
        first, last = bisect_left(epoch.seen, t_start), bisect_right(epoch.seen, t_end) - 1
        first += first < len(epoch.seen) and epoch.unseen[first] == -INFINITY
        if last <= first:
            return None
        least = COVERED * (t_end - t_start)
        begins = range(first, bisect_right(epoch.seen, t_end - least, first, last))
        ends = range(bisect_left(epoch.seen, t_start + least, first + 1, last), last + 1)

        def doubt(pair: tuple[int, int]) -> float:
            begin, end = pair
            span = epoch.seen[end] - epoch.seen[begin]
            blur = epoch.blur(begin) + epoch.blur(end)
            if period_s and span > period_s:
                blur += UNEVEN * abs(span - round(span / period_s) * period_s)
            return blur / span

        sharp = [sorted(ticks, key=epoch.blur)[:SHARPEST] for ticks in (begins, ends)]
        pairs = [(b, e) for b in sharp[0] for e in sharp[1] if b < e and epoch.seen[e] - epoch.seen[b] >= least]
        begin, end = min([*pairs, (first, last)], key=doubt) if pairs else (first, last)
        return epoch.seen[begin], epoch.seen[end]

    def ticks_around(self, t_start: float, t_end: float) -> tuple[float, float] | None:
        """The last tick seen by t_start and the first that certainly came after t_end; None where either is missing."""
        epoch = self.current
        before, after = bisect_right(epoch.seen, t_start) - 1, bisect_left(epoch.unseen, t_end)
        if before < 1 or after >= len(epoch.seen):  # tick 0 happened before the first poll, at an unknown time
            return None
        return epoch.seen[before], epoch.seen[after]

    def tick_s(self) -> float | None:
        """Time between the latest ticks, s; None with fewer than four. Late ones do not count if enough others remain."""
        epoch = self.current
        recent = range(max(1, len(epoch.value) - 200), len(epoch.value))
        usual = period([epoch.tick_at(k) for k in recent])
        if usual is None:
            return None
        sharp = [epoch.tick_at(k) for k in recent if epoch.blur(k) <= usual / 10]
        if len(sharp) < max(2, len(recent) / 3):
            return usual
        span = sharp[-1] - sharp[0]
        return span / max(1, round(span / usual))

    def watts(self) -> tuple[list[float], list[float]]:
        """Mean power between neighbouring ticks: (times of the later tick in s, power in W)."""
        times: list[float] = []
        values: list[float] = []
        for epoch in self._epochs:
            for k in range(1, len(epoch.value) - 1):
                span = epoch.tick_at(k + 1) - epoch.tick_at(k)
                if span > 0:
                    times.append(epoch.tick_at(k + 1))
                    values.append((epoch.value[k + 1] - epoch.value[k]) / span)
        return times, values
