"""How evenly replicas share a device."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.base import computed


@computed("1", "higher", "Jain's index of the replicas' output throughputs, (Σx)² ÷ (n·Σx²)")
def fairness(x: Sequence[float]) -> float:
    """1 where all replicas get the same, 1/n where one gets everything (Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    if not x or min(x) < 0 or not any(x):
        raise InvalidInput(f"fairness needs at least one share above 0 and none below, not {list(x)}")
    return sum(x) ** 2 / (len(x) * sum(share * share for share in x))
