"""What polls of a cumulative energy counter say about the energy between two moments, and how surely.

A counter that ticks every T seconds shows, at any moment, the energy up to its last tick.  Nothing is assumed about
the power between ticks except that it is never negative and, where the device states a limit, that it does not exceed
``ceiling_w``.  Two facts then bound the true cumulative energy E(t), and neither needs T:

- a value already shown at t is not more than E(t);
- a value that first appeared after a poll begun at or after t belongs to a tick after t, so E(t) is not more than it.

With the ceiling, E cannot rise faster than ``ceiling_w``, which makes the bound small for a moment next to a tick.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from statistics import median

INFINITY = float("inf")
COVERED = 0.8  # a window drawn in to ticks stands for the asked-for one only if it holds so much of it
SHARPEST = 16  # ticks near each edge among which the best pair is sought
UNEVEN = 0.1  # how far the power inside one round is from its mean, as a weight against the blur of a tick


FELL = "the energy counter fell back (driver reload or device reset) in this window"


@dataclass(frozen=True, slots=True)
class Window:
    """Energy between two moments: |joules − true| ≤ bound_j. ``joules`` None: not known, and ``reason`` says why."""

    joules: float | None
    bound_j: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """Cumulative energy at a moment, J on the counter's own axis: low ≤ true ≤ high, ``best`` the likeliest."""

    low: float
    best: float
    high: float


class Resolution:
    """The step in which a counter counts, J: the stated one, or a coarser one that what was seen keeps to.

    ``seen``: whether to look; the stated unit is then the one in which the values are whole numbers (1 mJ of NVML's).
    The values themselves are multiples of the step, so it is never larger than what divides all of them: a few values of
    a fine counter show that nothing large does.  One whose values are off by a start of their own shows its step only in
    its rises, and only once these differ.
    """

    TICKS, KINDS = 4, 2  # rises to be seen, and different ones: those of steady power are all the same

    def __init__(self, unit_j: float, *, seen: bool = False) -> None:
        self.unit_j = unit_j
        self._stated_j = unit_j
        self._seen = seen
        self._of_values = self._of_rises = self._count = 0
        self._kinds: set[int] = set()

    def saw(self, joules: float, before: float | None) -> None:
        """The counter showed a new value, after another one (None: at first, or after a reset)."""
        if not self._seen or self._of_rises == 1:
            return
        self._of_values = gcd(self._of_values, round(joules / self._stated_j))
        if before is not None:
            rise = round((joules - before) / self._stated_j)
            self._of_rises = gcd(self._of_rises, rise)
            self._count += 1
            if len(self._kinds) < self.KINDS:
                self._kinds.add(rise)
        enough = self._count >= self.TICKS and len(self._kinds) >= self.KINDS
        self.unit_j = self._stated_j * max(1, self._of_values, self._of_rises if enough else 1)


class Epoch:
    """Ticks seen between two resets of the counter.

    Tick k showed ``value[k]`` J for the first time in a poll that ended at ``seen[k]``; the poll before it began at
    ``unseen[k]`` and still showed the old value.  So the tick lies in (unseen, seen].
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
        """One poll; True if it showed a new value. ``period_s``: the tick's usual length, where it is known."""
        changed = not self.value or joules != self.value[-1]
        if changed:
            self.at.append(self._likeliest(self.last_begun, ended, period_s))
            if len(self.at) == 2 and period_s is not None:  # what the first poll showed had ticked before it
                self.at[0] = min(self.at[0], self.at[1] - period_s)
            self._resolution.saw(joules, self.value[-1] if self.value else None)
            self.unseen.append(self.last_begun)
            self.seen.append(ended)
            self.value.append(joules)
        self.last_begun, self.last_ended = begun, ended
        return changed

    def tick_at(self, k: int) -> float:
        """Likeliest time of tick k. Figures use it, bounds never do."""
        return self.at[k]

    def _likeliest(self, unseen: float, seen: float, period_s: float | None) -> float:
        """When the last tick in (unseen, seen] was: the middle, or a whole number of periods after the tick before.

        The latter where the polls are far apart (a busy host): the middle would be wrong by up to half a tick.
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
        before = bisect_right(self.seen, t) - 1  # last tick whose value was already shown at t
        if before < 0 or t > self.last_ended:
            return None
        after = bisect_left(self.unseen, t)  # first tick that surely came after t
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
        """J that the device can draw in so many seconds, with the counter's resolution."""
        return self._ceiling_w * seconds + self._resolution.unit_j

    def _interpolated(self, t: float, before: int) -> float:
        """Energy at t if the power before t is that of the tick before, and the power after t that of the tick after.

        Edges of measured windows are where the load begins and ends, so the power steps there: plain linear
        interpolation would be off by up to a quarter tick of the step.  For steady power both agree.
        """
        k = before
        if k + 1 < len(self.value) and t >= self.tick_at(k + 1):
            k += 1  # inside the poll gap around the next tick, past its likeliest time
        if k + 1 >= len(self.value):
            rate = self._rate(k - 1) if k > 1 else 0.0
            return self.value[k] + rate * max(0.0, t - self.tick_at(k))
        start, end = self.tick_at(k), self.tick_at(k + 1)
        rise = self.value[k + 1] - self.value[k]
        if end <= start:
            return self.value[k]
        own = rise / (end - start)
        earlier = self._rate(k - 1) if k > 1 else own  # the first poll's value is older than the poll
        later = self._rate(k + 1) if k + 2 < len(self.value) else own
        share = min(max((t - start) / (end - start), 0.0), 1.0)
        left, right = share * earlier, (1 - share) * later
        return self.value[k] + rise * (left / (left + right) if left + right > 0 else share)

    def _rate(self, k: int) -> float:
        """Mean power in W between ticks k and k + 1."""
        span = self.tick_at(k + 1) - self.tick_at(k)
        return (self.value[k + 1] - self.value[k]) / span if span > 0 else 0.0


def period(times: list[float]) -> float | None:
    """Period of ticks seen at these times, some of them late and some missed; None with fewer than three."""
    if len(times) < 3:
        return None
    gaps = [b - a for a, b in pairwise(times)]
    usual = median(gaps)
    # Gap by gap: over the whole span the error of the median would add up to several ticks.
    return (times[-1] - times[0]) / sum(max(1, round(gap / usual)) for gap in gaps) if usual > 0 else None


class CounterTrack:
    """All polls of one counter. ``unit_j``: its resolution; ``ceiling_w``: power it never exceeds, None if unknown.

    ``fell``: what is said of a window in which the counter fell back.
    ``coarser``: the values may turn out to be whole numbers of a larger unit, which then counts.
    """

    def __init__(
        self, unit_j: float, ceiling_w: float | None = None, *, coarser: bool = False, fell: str = FELL
    ) -> None:
        self.resolution = Resolution(unit_j, seen=coarser)
        self.ceiling_w = ceiling_w
        self.fell = fell
        self.period_s: float | None = None  # the usual time between ticks, set by who knows it
        self.resets: list[tuple[float, float]] = []  # (last poll before, first poll after)
        self._epochs = [Epoch(self.resolution, ceiling_w)]

    @property
    def current(self) -> Epoch:
        return self._epochs[-1]

    def add(self, begun: float, ended: float, joules: float) -> bool:
        """One poll (times in s, monotonic); True if a tick was seen. A falling value is a reset, never a wrap."""
        epoch = self.current
        if epoch.value and joules < epoch.value[-1]:
            self.resets.append((epoch.last_begun, ended))
            epoch = Epoch(self.resolution, self.ceiling_w)
            self._epochs.append(epoch)
        return epoch.add(begun, ended, joules, self.period_s)

    def covers(self, t: float) -> bool:
        """True once a tick after t was seen: later polls cannot sharpen E(t) any more (but one tick may help the guess)."""
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
        """Energy of several windows together, in order of time and apart from each other.

        Adding their bounds would count what is lost at one window's end and found at the next one's beginning twice:
        where they follow each other closely, the sum is also the outer window less the gaps, whose energy is small.
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
        """Two moments near the edges of the window at which a tick had just been seen; None with fewer than two.

        Of the ticks that leave ``COVERED`` of the window between them those that were seen most exactly (a poll may
        come late on a busy host), and where the load repeats itself every ``period_s`` those that lie a whole number of
        periods apart: the mean power between them is then that of the load, wherever in its period they lie.
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
        """The last tick seen by t_start and the first one that surely came after t_end; None where one is missing."""
        epoch = self.current
        before, after = bisect_right(epoch.seen, t_start) - 1, bisect_left(epoch.unseen, t_end)
        if before < 1 or after >= len(epoch.seen):  # what the first poll showed is no tick that was seen
            return None
        return epoch.seen[before], epoch.seen[after]

    def tick_s(self) -> float | None:
        """Time between the last ticks seen, s; None with fewer than four. Those seen late do not count if others do."""
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
        """Mean power between neighbouring ticks: ([t_s at the later tick], [W])."""
        times: list[float] = []
        values: list[float] = []
        for epoch in self._epochs:
            for k in range(1, len(epoch.value) - 1):
                span = epoch.tick_at(k + 1) - epoch.tick_at(k)
                if span > 0:
                    times.append(epoch.tick_at(k + 1))
                    values.append((epoch.value[k + 1] - epoch.value[k]) / span)
        return times, values
