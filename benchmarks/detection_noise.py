"""Synthetic two-level noise for benchmarks/detection.py: sessions, launches, rounds, bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_slmperf.verdicts.summary import centres

BURST_SHARE, BURST_FACTOR = 0.05, 3.0


@dataclass(frozen=True)
class Cell:
    """Coefficients of variation: rounds within a launch, launches within a session, sessions; and bursts or not.

    ``spread``: tests differ, each has its own noise, larger or smaller by a lognormal factor of this sd.
    """

    within: float
    between: float
    bursts: bool
    session: float = 0.0
    rounds: int = 10
    spread: float = 0.0

    def words(self) -> list[str]:
        return [f"{self.within:.0%}", f"{self.between:.0%}", "5 % ×3" if self.bursts else "none", str(self.rounds)]


def rounds_for(within: float, precision: float = 0.005, least: int = 10, most: int = 40) -> int:
    """What plan.rounds_wanted asks for on average at this noise."""
    return min(most, max(least, math.ceil((within / precision) ** 2 / 0.95)))


class Noise:
    """Draws launches of many comparisons at once; log values, slowdown positive."""

    def __init__(self, cell: Cell, size: int, rng: np.random.Generator) -> None:
        self.cell, self.size, self.rng = cell, size, rng
        self.factor = np.exp(rng.normal(0, cell.spread, size)) if cell.spread else np.ones(size)

    def session(self) -> np.ndarray:
        """What one session is off by, per comparison."""
        return self.rng.normal(0, self.cell.session, self.size)

    def raw(self, launches: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Rounds (rows, launches, rounds)."""
        cell = self.cell
        factor = self.factor if rows is None else self.factor[rows]
        shape = (len(factor), launches, cell.rounds)
        values = self.rng.standard_normal(shape) * (cell.within * factor)[:, None, None]
        if cell.bursts:
            values += np.where(self.rng.random(shape) < BURST_SHARE, math.log(BURST_FACTOR), 0.0)
        values += (self.rng.standard_normal(shape[:2]) * (cell.between * factor)[:, None])[:, :, None]
        return values

    def launches(self, count: int, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Centres and squared round errors, both (rows, launches)."""
        centre, se, _ = centres(self.raw(count, rows))
        return centre, se**2
