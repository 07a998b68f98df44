"""When to look at a counter: seldom between its ticks, closely where the next tick is due.

A tight loop would cost the host a core and perturbs the counter on some devices; polling evenly at the same mean rate
would find the ticks ten times less exactly.
"""

from __future__ import annotations


class TickSchedule:
    """Locks on to a tick of about ``tick_s`` and looks every ``gap_s`` from a little before each tick until it is seen.

    ``tick_s`` None: unknown, look every ``gap_s``.  One that is known from before is not believed at once: who looks only
    where the next tick is due would never see those in between.  Until ``PROOF`` ticks came when they were due, looks
    between them are at most ``SURE_S`` apart; one that comes too early shows that the tick is another, and it is learnt
    anew.  How early it begins to look adapts to how regular the ticks are.
    Only the sharpness of a reading rests on this; its correctness never does.
    """

    PROOF = 4
    SURE_S = 0.01  # no counter known ticks more often
    EARLY = 0.7  # of a tick: sooner than this after the last one is no jitter
    LATE = 0.5  # ticks past due before looking gets sparse again: the device rests, or its period changed

    def __init__(self, tick_s: float | None, gap_s: float = 0.001) -> None:
        self.gap_s = gap_s
        self.tick_s = tick_s
        self._guard_s = max(2 * gap_s, 0.05 * (tick_s or 0.0))
        self._last_tick: float | None = None
        self._planned = float("inf")
        self._proofs = 0

    def saw(self, tick_at: float, uncertainty_s: float, begun: float) -> None:
        """A tick was seen: its likeliest time, the time between the polls around it, when the poll that saw it began."""
        since = None if self._last_tick is None else tick_at - self._last_tick
        self._last_tick = tick_at
        if self.tick_s is None:
            return
        if since is not None and self._proofs < self.PROOF:
            if since + uncertainty_s < self.EARLY * self.tick_s:
                self.tick_s = None
                return
            self._proofs += 1
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
        due = max(now + self.gap_s, self._last_tick + self.tick_s - self._guard_s)
        return due if self._proofs >= self.PROOF else min(due, now + max(self.gap_s, self.SURE_S))
