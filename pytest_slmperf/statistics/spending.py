"""Alpha spending for group-sequential tests: critical values when the data are looked at repeatedly.

Each look spends a part of alpha, and its critical value accounts for the earlier looks (Lan & DeMets 1983, by the
recursion of Armitage, McPherson & Rowe 1969).  Only the largest number of launches is planned, neither the number of looks
nor their sizes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

# The share of alpha spent at information fraction t is t**POWER: about 1 is Pocock's rule, 3 O'Brien and Fleming's.
# With 1.25, 8 launches detect a slowdown of 5 % and 16 launches a slowdown of 3 % (benchmarks/detection.py).
POWER = 1.25
_GRID = 401


def share_spent(fraction: float, power: float = POWER) -> float:
    """Share of alpha (0 … 1) that may be spent up to ``fraction`` of the largest sample."""
    return float(min(max(fraction, 0.0), 1.0) ** power)


def nominal_levels(alpha: float, fractions: tuple[float, ...], power: float = POWER) -> tuple[float, ...]:
    """One-sided nominal level of each look, such that all looks together err with probability at most ``alpha``.

    ``fractions`` are the information fractions of the looks so far, rising, in (0, 1].  A look that repeats the previous
    fraction spends nothing and gets level 0.  ValueError unless 0 < alpha < 0.5.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
    return _looked(alpha, fractions, power).levels


class _Looked(NamedTuple):
    """The state after a sequence of looks. ``weight``: density of the score on ``grid`` × integration weight, over the
    paths that have crossed no bound so far.  ``used``: alpha spent so far."""

    levels: tuple[float, ...]
    fraction: float
    used: float
    grid: Array
    weight: Array


@lru_cache(maxsize=4096)
def _looked(alpha: float, fractions: tuple[float, ...], power: float) -> _Looked:
    """The state after the last of these looks. The cache computes each prefix once."""
    if not fractions:
        return _Looked((), 0.0, 0.0, np.zeros(1), np.ones(1))
    before = _looked(alpha, fractions[:-1], power)
    fraction = fractions[-1]
    step = fraction - before.fraction
    share = alpha * share_spent(fraction, power) - before.used
    if step <= 0 or share <= 0:
        return before._replace(levels=(*before.levels, 0.0))
    root = float(np.sqrt(step))
    critical = _critical(before.weight, before.grid, root, share)
    grid = np.linspace(-8.0 * np.sqrt(fraction), critical, _GRID)
    kernel = np.exp(-0.5 * ((grid[:, None] - before.grid[None, :]) / root) ** 2) / (root * np.sqrt(2 * np.pi))
    level = float(ndtr(-critical / np.sqrt(fraction)))
    return _Looked(
        (*before.levels, level), fraction, before.used + share, grid, kernel @ before.weight * _simpson(grid)
    )


def _simpson(grid: Array) -> Array:
    weight = np.ones_like(grid)
    weight[1:-1:2] = 4.0
    weight[2:-1:2] = 2.0
    scaled: Array = weight * (grid[1] - grid[0]) / 3.0
    return scaled


def _critical(weight: Array, grid: Array, root: float, share: float) -> float:
    """The bound that is crossed for the first time with probability ``share``; by bisection."""
    low, high = -10.0, 12.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if float(weight @ ndtr((grid - middle) / root)) > share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
