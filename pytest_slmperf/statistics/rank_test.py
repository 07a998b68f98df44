"""Metrics for which 0 is a valid reading (preemptions, goodput): zeros have no ratio, so launches are compared by rank.

Without a change, every assignment of the n + m launches to the two sides is equally likely: all n candidate launches are
worse than all m baseline launches with probability 1 ÷ C(n+m, n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_slmperf.model.verdict import Gate, LaunchSample, Verdict

_MAY_BE_ZERO = frozenset({"preemptions", "goodput", "slo_attainment"})


def may_be_zero(metric: str) -> bool:
    """Whether 0 is a valid reading of this metric rather than a sign of a missing one."""
    return metric in _MAY_BE_ZERO


def judge_zeros(
    gate: Gate, candidate: Sequence[LaunchSample], baseline: Sequence[LaunchSample], alpha: float
) -> tuple[Verdict | None, str] | None:
    """(verdict, reason) for readings among which there are zeros, the verdict None if more launches are needed.

    None for readings without zeros, and for negative or non-finite readings, which ``check_rounds`` refuses by name.
    """
    cand = [_mean(sample) for sample in candidate]
    base = [_mean(sample) for sample in baseline]
    values = [value for sample in (*candidate, *baseline) for value in sample.rounds]
    if not values or any(not math.isfinite(v) or v < 0 for v in values) or all(v > 0 for v in values):
        return None
    if len(cand) < 2 or len(base) < 2:
        return None, "readings of 0 are compared by rank, from two launches a side"
    if not any(cand) and not any(base):
        return Verdict.SAME, f"0 in all {len(cand)} launches and in the baseline"
    sign = -1 if gate.better == "higher" else 1
    worse = [sign * value for value in cand]
    was = [sign * value for value in base]
    p = 1 / math.comb(len(cand) + len(base), len(cand))
    said = f"by rank over {len(base)} + {len(cand)} launches, since some readings are 0"
    if min(worse) > max(was):
        if p <= alpha:
            return Verdict.REGRESSED, f"every launch is worse than every baseline launch ({said})"
        return None, f"every launch so far is worse than every baseline launch, too few to be sure ({said})"
    if max(worse) < min(was):
        if p <= alpha:
            return Verdict.IMPROVED, f"every launch is better than every baseline launch ({said})"
        return Verdict.SAME, f"no launch is worse than the baseline's worst ({said})"
    if max(worse) <= max(was):
        return Verdict.SAME, f"no launch is worse than the baseline's worst ({said})"
    return None, f"some launches are worse than the baseline's worst, others are not ({said})"


def _mean(sample: LaunchSample) -> float:
    return math.fsum(sample.rounds) / len(sample.rounds) if len(sample.rounds) else math.nan
