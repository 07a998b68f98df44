"""Intervals of a mean from few readings."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev


def mean_interval(readings: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean of independent readings (launch means, not rounds); None for fewer than two."""
    if len(readings) < 2:
        return None
    from scipy.stats import t

    mean = fmean(readings)
    half = float(t.ppf(0.5 + confidence / 2, len(readings) - 1)) * stdev(readings) / len(readings) ** 0.5
    return mean - half, mean + half


def launch_interval(launches: Sequence[Sequence[float]], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mean over launches; of a single launch over its rounds, without launch-to-launch variance."""
    filled = [rounds for rounds in launches if rounds]
    if len(filled) == 1:
        return mean_interval(filled[0], confidence)
    return mean_interval([fmean(rounds) for rounds in filled], confidence)
