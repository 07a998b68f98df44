"""Critical values for looking again and again: alpha spending for group-sequential tests.

Each look spends a part of the error, and the critical value takes account of the looks before (Lan & DeMets 1983, by
the recursion of Armitage, McPherson & Rowe 1969).  The number of looks and their sizes need not be planned, only the
largest number of launches.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

# The share of the error spent at information fraction t is t**POWER: about 1 is Pocock's way, 3 O'Brien and Fleming's.
# 1.25 leaves enough for a 5 % slowdown within 8 launches and for a 3 % one within 16 (benchmarks/detection.py).
POWER = 1.25
_GRID = 401


def spent(fraction: float, power: float = POWER) -> float:
    """Share of the error that may be spent up to this fraction of the largest sample (0 … 1)."""
    return float(min(max(fraction, 0.0), 1.0) ** power)


def nominal_levels(alpha: float, fractions: tuple[float, ...], power: float = POWER) -> tuple[float, ...]:
    """One-sided nominal p-value for each look, so that all looks together err with probability at most ``alpha``.

    ``fractions`` are the information fractions of the looks so far, rising, in (0, 1].  A look that repeats the
    fraction of the one before spends nothing and gets level 0.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
    return _looked(alpha, fractions, power).levels


class _Looked(NamedTuple):
    """Where a sequence of looks stands: the score's density (times integration weight) on a grid, not having crossed."""

    levels: tuple[float, ...]
    fraction: float
    used: float
    grid: Array
    weight: Array


@lru_cache(maxsize=4096)
def _looked(alpha: float, fractions: tuple[float, ...], power: float) -> _Looked:
    """One more look after those before; each prefix is worked out once."""
    if not fractions:
        return _Looked((), 0.0, 0.0, np.zeros(1), np.ones(1))
    before = _looked(alpha, fractions[:-1], power)
    fraction = fractions[-1]
    step = fraction - before.fraction
    share = alpha * spent(fraction, power) - before.used
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
    """The bound whose crossing, not having crossed before, has probability ``share``; by bisection."""
    low, high = -10.0, 12.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if float(weight @ ndtr((grid - middle) / root)) > share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
