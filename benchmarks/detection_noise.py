"""Synthetic noise for benchmarks/detection.py: sessions, launch hosts, launches, rounds, bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pytest_slmperf.engines.pool import host_number
from pytest_slmperf.statistics.launch_centre import centres

BURST_SHARE, BURST_FACTOR = 0.05, 3.0


@dataclass(frozen=True)
class Cell:
    """Coefficients of variation of rounds within a launch, of launches within a session and of sessions; and bursts.

    spread: sd of the log-normal factor by which the noise of tests differs
    serial: correlation of neighbouring launches on the same side (AR(1))
    host:   coefficient of variation of launch hosts within a session; 0: no launch is forked, or both sides of a duet share
            their hosts
    """

    within: float
    between: float
    bursts: bool
    session: float = 0.0
    rounds: int = 10
    spread: float = 0.0
    serial: float = 0.0
    host: float = 0.0

    def words(self) -> list[str]:
        return [f"{self.within:.0%}", f"{self.between:.0%}", "5 % ×3" if self.bursts else "none", str(self.rounds)]


def rounds_for(within: float, precision: float = 0.005, least: int = 10, most: int = 40) -> int:
    """The average answer of ``rounds_wanted`` at this noise."""
    return min(most, max(least, math.ceil((within / precision) ** 2 / 0.95)))


@lru_cache
def _pool(within: float, bursts: bool, rounds: int, size: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """A pool of centres and squared round errors of launches without noise between launches.

    The rounds' part of a launch's centre does not depend on the launch's level. Drawing launches from this pool and
    shifting them is therefore correct, and many times faster than drawing every round.
    """
    rng = np.random.default_rng([99, rounds, int(bursts), round(within * 1e6)])
    parts = [centres(_rounds(rng, (20_000, rounds), within, bursts))[:2] for _ in range(size // 20_000)]
    centre, se = (np.concatenate(each) for each in zip(*parts, strict=True))
    return centre, se**2


def _rounds(rng: np.random.Generator, shape: tuple[int, ...], within: float, bursts: bool) -> np.ndarray:
    values = rng.standard_normal(shape) * within
    if bursts:
        values += np.where(rng.random(shape) < BURST_SHARE, math.log(BURST_FACTOR), 0.0)
    return values


class Noise:
    """Draws launches of many comparisons at once; log values, of which larger are slower."""

    def __init__(self, cell: Cell, size: int, rng: np.random.Generator) -> None:
        self.cell, self.size, self.rng = cell, size, rng
        self.last: dict[str, np.ndarray] = {}  # side -> each comparison's previous launch, in units of its sd
        self.factor = np.exp(rng.normal(0, cell.spread, size)) if cell.spread else np.ones(size)

    def session(self) -> np.ndarray:
        """The deviation of one session, per comparison."""
        return self.rng.normal(0, self.cell.session, self.size)

    def hosts(self, count: int) -> np.ndarray:
        """The deviation of the host of each of ``count`` launches, (comparisons, launches)."""
        numbers = np.array([host_number(launch) for launch in range(count)])
        return self.rng.normal(0, self.cell.host, (self.size, numbers.max() + 1))[:, numbers]

    def raw(self, launches: int) -> np.ndarray:
        """Log rounds (comparisons, launches, rounds), drawn one by one, for rules that use single rounds."""
        cell = self.cell
        values = _rounds(self.rng, (self.size, launches, cell.rounds), cell.within, cell.bursts)
        return values + self.rng.standard_normal((self.size, launches, 1)) * cell.between

    def launches(
        self, count: int, rows: np.ndarray | None = None, side: str = "candidate"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centres and squared round errors of the next launches, both (rows, launches)."""
        cell = self.cell
        factor = (self.factor if rows is None else self.factor[rows])[:, None]
        centre, se2 = _pool(cell.within, cell.bursts, cell.rounds)
        drawn = self.rng.integers(0, len(centre), (len(factor), count))
        between = self._levels(drawn.shape, slice(None) if rows is None else rows, side) * cell.between
        return (centre[drawn] + between) * factor, se2[drawn] * factor**2

    def _levels(self, shape: tuple[int, ...], rows: slice | np.ndarray, side: str) -> np.ndarray:
        fresh = self.rng.standard_normal(shape)
        if not self.cell.serial:
            return fresh
        last = self.last.setdefault(side, self.rng.standard_normal(self.size))
        found = np.empty(shape)
        for number in range(shape[1]):
            last[rows] = self.cell.serial * last[rows] + math.sqrt(1 - self.cell.serial**2) * fresh[:, number]
            found[:, number] = last[rows]
        return found
