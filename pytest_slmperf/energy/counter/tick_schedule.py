"""When to poll an energy counter: rarely between its ticks, densely where the next tick is due.

A tight loop would cost a core of the host and perturb the counter on some devices; even polling at the same mean rate
locates ticks ten times less precisely.
"""

from __future__ import annotations


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
