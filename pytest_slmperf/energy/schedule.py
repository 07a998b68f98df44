"""When to look at a counter: seldom between its ticks, closely where the next tick is due.

A tight loop would cost the host a core and perturbs the counter on some devices; polling evenly at the same mean rate
would find the ticks ten times less exactly.
"""

from __future__ import annotations


class TickSchedule:
    """Locks on to a tick of about ``tick_s`` and looks every ``gap_s`` from a little before each tick until it is seen.

    ``tick_s`` None: unknown, look every ``gap_s``.  How early it begins to look adapts to how regular the ticks are.
    Only the sharpness of a reading rests on this; its correctness never does.
    """

    LATE = 0.5  # ticks past due before looking gets sparse again: the device rests, or its period changed

    def __init__(self, tick_s: float | None, gap_s: float = 0.001) -> None:
        self.gap_s = gap_s
        self.tick_s = tick_s
        self._guard_s = max(2 * gap_s, 0.05 * (tick_s or 0.0))
        self._last_tick: float | None = None
        self._planned = float("inf")

    def saw(self, tick_at: float, uncertainty_s: float, begun: float) -> None:
        """A tick was seen: its likeliest time, the time between the polls around it, when the poll that saw it began."""
        self._last_tick = tick_at
        if self.tick_s is None:
            return
        on_time = begun - self._planned <= self.gap_s  # else the host was late, and looking earlier would not help
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
        return max(now + self.gap_s, self._last_tick + self.tick_s - self._guard_s)
