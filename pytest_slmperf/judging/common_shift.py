"""A change that nearly all tests of a session share: its cause lies in what they have in common, not in one test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pytest_slmperf.model.defaults import TOLERANCE

CHANCE = 0.02  # two-sided sign test: probability that tests move the same way by chance
LEAST = TOLERANCE  # least median change; a smaller change is negligible


@dataclass(frozen=True, slots=True)
class Shift:
    """``agree`` of ``tests`` tests moved in the direction of ``median``, the median of their changes (> 0: worse)."""

    tests: int
    agree: int
    median: float


def common_shift(changes: Sequence[float]) -> Shift | None:
    """The change that the tests share, or None. ``changes``: one relative change per test, > 0 where it got worse.

    A sign test: it ignores the size of the changes and needs at least seven tests.
    """
    moved = [change for change in changes if math.isfinite(change) and change != 0]
    if not moved:
        return None
    middle = median(moved)
    agree = sum((change > 0) == (middle > 0) for change in moved)
    against = len(moved) - agree
    chance = 2 * sum(math.comb(len(moved), k) for k in range(against + 1)) / 2 ** len(moved)
    return Shift(len(moved), agree, middle) if chance <= CHANCE and abs(middle) >= LEAST else None
