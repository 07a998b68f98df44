"""Critical values for looking again and again: alpha spending for group-sequential tests.

Each look spends a part of the error, and the critical value takes account of the looks before (Lan & DeMets 1983, by
the recursion of Armitage, McPherson & Rowe 1969).  The number of looks and their sizes need not be planned, only the
largest number of launches.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

# The share of the error spent at information fraction t is t**POWER: about 1 is Pocock's way, 3 O'Brien and Fleming's.
# 1.25 leaves enough for a 5 % slowdown within 8 launches and for a 3 % one within 16 (benchmarks/detection.py).
POWER = 1.25
_GRID = 801


def spent(fraction: float, power: float = POWER) -> float:
    """Share of the error that may be spent up to this fraction of the largest sample (0 … 1)."""
    return float(min(max(fraction, 0.0), 1.0) ** power)


@lru_cache(maxsize=4096)
def nominal_levels(alpha: float, fractions: tuple[float, ...], power: float = POWER) -> tuple[float, ...]:
    """One-sided nominal p-value for each look, so that all looks together err with probability at most ``alpha``.

    ``fractions`` are the information fractions of the looks so far, rising, in (0, 1].  A look that repeats the
    fraction of the one before spends nothing and gets level 0.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
    levels: list[float] = []
    previous = 0.0
    used = 0.0
    density: Array | None = None
    grid = np.empty(0)
    for fraction in fractions:
        step = fraction - previous
        share = alpha * spent(fraction, power) - used
        if step <= 0 or share <= 0:
            levels.append(0.0)
            continue
        used += share
        root = np.sqrt(step)
        if density is None:
            critical = -ndtri(share) * root
            low = -8.0 * np.sqrt(fraction)
            grid = np.linspace(low, critical, _GRID)
            density = np.exp(-0.5 * (grid / root) ** 2) / (root * np.sqrt(2 * np.pi))
        else:
            weight = density * _simpson(grid)
            critical = _critical(weight, grid, root, share)
            low = -8.0 * np.sqrt(fraction)
            new = np.linspace(low, critical, _GRID)
            kernel = np.exp(-0.5 * ((new[:, None] - grid[None, :]) / root) ** 2) / (root * np.sqrt(2 * np.pi))
            density = kernel @ weight
            grid = new
        levels.append(float(ndtr(-critical / np.sqrt(fraction))))
        previous = fraction
    return tuple(levels)


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
