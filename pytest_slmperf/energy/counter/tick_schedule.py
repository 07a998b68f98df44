"""When to poll an energy counter (rarely between ticks, densely when a tick is due), and the step of its values.

A tight loop would cost a core of the host and perturb the counter on some devices; even polling at the same mean rate
locates ticks ten times less precisely.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd


class TickSchedule:
    """Locks on to ticks about ``tick_s`` apart: polls every ``gap_s`` from shortly before each tick until it is seen.

    ``tick_s`` None: unknown, so poll every ``gap_s``.  A stored tick is verified first, since polling only at expected ticks
    would miss a faster one: until ``PROOF`` ticks came on time, polls are at most ``SURE_S`` apart, and an early tick
    discards the stored value.  The lead before each tick adapts to the regularity of the ticks.
    Only the tightness of a reading depends on the schedule, never its correctness.
    """

    PROOF = 4
    SURE_S = 0.01  # no known counter ticks faster
    EARLY = 0.7  # share of a tick: a gap shorter than this is a faster tick, not jitter
    LATE = 0.5  # overdue share of a tick after which polls become sparse: the device rests, or its period changed

    def __init__(self, tick_s: float | None, gap_s: float = 0.001) -> None:
        self.gap_s = gap_s
        self.tick_s = tick_s
        self._guard_s = max(2 * gap_s, 0.05 * (tick_s or 0.0))
        self._last_tick: float | None = None
        self._planned = float("inf")
        self._proofs = 0

    def saw(self, tick_at: float, uncertainty_s: float, begun: float) -> None:
        """Record a tick: its likeliest time, the gap between the polls around it, and when the poll that saw it began."""
        since = None if self._last_tick is None else tick_at - self._last_tick
        self._last_tick = tick_at
        if self.tick_s is None:
            return
        if since is not None and self._proofs < self.PROOF:
            if since + uncertainty_s < self.EARLY * self.tick_s:
                self.tick_s = None
                return
            self._proofs += 1
        on_time = begun - self._planned <= self.gap_s  # otherwise the host was late, and a longer lead would not help
        if uncertainty_s > 4 * self.gap_s and on_time:
            self._guard_s = min(2 * self._guard_s, self.tick_s / 8)
        elif uncertainty_s <= 4 * self.gap_s:
            self._guard_s = max(2 * self.gap_s, 0.9 * self._guard_s)

    def next_after(self, now: float) -> float:
        self._planned = self._next(now)
        return self._planned

    def _next(self, now: float) -> float:
        if self.tick_s is None or self._last_tick is None:
            return now + self.gap_s
        if now - self._last_tick > (1 + self.LATE) * self.tick_s:
            return now + max(self.gap_s, self.tick_s / 20)
        due = max(now + self.gap_s, self._last_tick + self.tick_s - self._guard_s)
        return due if self._proofs >= self.PROOF else min(due, now + max(self.gap_s, self.SURE_S))


# The step of a counter's values.


class Resolution:
    """The step of a counter in J: the stated unit, or a coarser one that every observed value keeps to.

    ``seen``: look for a coarser step; ``unit_j`` is then the unit in which values are integers (1 mJ for NVML).
    The step divides every value, so a few values of a fine counter rule out a coarse step.  A counter with an arbitrary
    offset reveals its step only in the differences of its values, once two of these differ.
    """

    TICKS, KINDS = 4, 2  # differences needed, and distinct differences: under steady power all are equal

    def __init__(self, unit_j: float, *, seen: bool = False) -> None:
        self.unit_j = unit_j
        self._stated_j = unit_j
        self._seen = seen
        self._of_values = self._of_rises = self._count = 0
        self._kinds: set[int] = set()

    def saw(self, joules: float, before: float | None) -> None:
        """Record a new value of the counter; ``before`` is the previous one (None: the first value, or after a reset)."""
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


# The clock of a meter, passed in so that tests can simulate time.


@dataclass(frozen=True, slots=True)
class Clock:
    """now: CLOCK_MONOTONIC seconds, the axis of every window; wall: seconds since 1970, to place timestamps of the
    driver.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


REAL = Clock()
