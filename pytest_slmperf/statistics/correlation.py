"""Correlation between neighbouring launches, and what it does to means and variances over launches.

Launches count as independent unless the machine's history shows a correlation (a busy neighbour that stays for several
launches, a clock that settles).  The model is then AR(1): the mean of n launches varies more than the launch variance ÷ n,
and the sample variance of the launches is too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = 0.95
SHOWN = 2.33  # standard errors: one in a hundred uncorrelated machines is taken for correlated
LEAST_LAUNCHES = 3


def mean_factor(correlation: float, launches: Array) -> Array:
    """Variance of the mean of n launches ÷ its value for independent launches (1 without correlation).

    1 + 2 Σ (1 − k/n) ρᵏ over k = 1 … n − 1, in closed form.
    """
    count = np.maximum(launches, 1.0)
    if correlation == 0:
        return np.ones_like(count)
    rest = 1 - correlation
    factor: Array = (1 + correlation) / rest - 2 * correlation * (1 - correlation**count) / (count * rest**2)
    return factor


def scatter_share(correlation: float, launches: Array) -> Array:
    """Expected share of the launch variance in the sample variance of n launches."""
    count = np.maximum(launches, 2.0)
    share: Array = (count - mean_factor(correlation, count)) / (count - 1)
    return share


def effective_df(correlation: float, df: Array) -> Array:
    """Degrees of freedom of a sample variance of correlated launches (Bayley & Hammersley 1946)."""
    lowered: Array = df * (1 - correlation**2) / (1 + correlation**2)
    return lowered


def shown_correlation(groups: Sequence[Sequence[float] | Array]) -> float:
    """Common correlation of neighbouring launches in groups of launches, each in order of measuring; 0 unless significant.

    Von Neumann (1941): squared differences of neighbours ÷ squared deviations, 2 without correlation.
    """
    kept = [values for values in map(np.asarray, groups) if len(values) >= LEAST_LAUNCHES and np.ptp(values) > 0]
    if not kept:
        return 0.0
    counts = np.array([len(values) for values in kept], float)
    squares = np.array([((values - values.mean()) ** 2).sum() for values in kept])
    steps = np.array([(np.diff(values) ** 2).sum() for values in kept])
    variance = 4 * (counts - 2) / ((counts + 1) * (counts - 1))  # of one group's ratio, without correlation
    if 2 - (steps / squares).mean() < SHOWN * math.sqrt(variance.sum()) / len(kept):
        return 0.0
    # Sums over all groups: their ratio is unbiased for groups of equal size, whatever their variances.
    candidates = np.linspace(0, MOST, 96)
    expected = [2 * (1 - rho) * (squares / scatter_share(rho, counts)).sum() for rho in candidates]
    return float(candidates[int(np.argmin(np.abs(np.array(expected) - steps.sum())))])
