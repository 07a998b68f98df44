"""The step in which an energy counter counts."""

from __future__ import annotations

from math import gcd


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
