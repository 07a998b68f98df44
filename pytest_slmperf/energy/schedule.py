"""When to look at a counter: seldom between its ticks, closely where the next tick is due.

A tight loop would cost the host a core and perturbs the counter on some devices; polling evenly at the same mean rate
would find the ticks ten times less exactly.
"""

from __future__ import annotations


class EvenSchedule:
    """Every ``gap_s`` seconds: for counters that tick faster than anyone should poll (RAPL: about 1 ms)."""

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s

    def saw(self, now: float, ticked: bool) -> None:
        """Nothing to learn."""

    def next_after(self, now: float) -> float:
        return now + self.gap_s


class TickSchedule:
    """Locks on to a tick of about ``tick_s`` and looks every ``gap_s`` from a little before each tick until it is seen.

    ``tick_s`` None: unknown, look every ``gap_s``. The tick is followed as it drifts; correctness never rests on it.
    """

    MISSED = 0.5  # ticks past due before looking gets sparse again: the device rests, or its period changed

    def __init__(self, tick_s: float | None, gap_s: float = 0.002) -> None:
        self.gap_s = gap_s
        self.tick_s = tick_s
        self._last_tick: float | None = None

    def saw(self, now: float, ticked: bool) -> None:
        """Report a poll that ended at ``now``."""
        if ticked:
            self._last_tick = now

    def next_after(self, now: float) -> float:
        if self.tick_s is None or self._last_tick is None:
            return now + self.gap_s
        guard = 2 * self.gap_s
        elapsed = now - self._last_tick
        if elapsed > (1 + self.MISSED) * self.tick_s:
            return now + max(self.gap_s, self.tick_s / 20)
        return max(now + self.gap_s, self._last_tick + self.tick_s - guard)
