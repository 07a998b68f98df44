"""The end of a fresh engine's warm-up, found by rule from the rounds in the order of measuring.

Rounds at the start are warm-up while they differ from the later rounds by more than these scatter.  The rest is steady if
its two halves agree and it holds at least half of all rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_slmperf.statistics.launch_summary import check_rounds
from pytest_slmperf.util.formatting import percent

LEAST = 5  # rounds that must remain for an answer
GROUP = 3  # warm-up fades: three successive rounds that are slightly off together count too
FLOOR = 0.003  # a difference of 0.3 % is never warm-up, however little the rounds scatter
_MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Steady:
    """``warmup``: number of rounds at the start that do not count. ``steady``: whether the rest may be used.

    ``reason``: one line for a reader; ``drift``: relative change from the first to the second half of the rest.
    """

    warmup: int
    steady: bool
    reason: str
    drift: float | None = None


def steady_state(rounds: Sequence[float], *, least: int = LEAST) -> Steady:
    """Judge the rounds of one launch so far (positive values of one metric, or round seconds).

    Call it again as rounds come in; round number ``warmup`` is the first that counts.  InvalidInput unless all readings are
    positive and finite.
    """
    if len(rounds):
        check_rounds(rounds, "rounds")
    logs = np.log(np.asarray(rounds, dtype=float))
    for start in range(min(max(0, len(logs) - least), len(logs) // 2) + 1):
        rest = logs[start:]
        if len(rest) < least or _leads_differently(rest):
            continue
        drift, noise = _drift(rest)
        if abs(drift) > max(2 * FLOOR, 3 * noise):
            continue
        return Steady(start, True, f"steady after {start} warm-up rounds", float(np.expm1(drift)))
    if len(logs) < least:
        return Steady(
            len(logs), False, f"{len(logs)} rounds are too few to tell: at least {least} must follow the warm-up"
        )
    tail = logs[min(len(logs) // 2, len(logs) - 2) :]
    drift, _ = _drift(tail)
    return Steady(
        len(logs) - len(tail),
        False,
        f"not steady within {len(logs)} rounds: the second half still drifts by {percent(np.expm1(drift))} or is not calm",
        float(np.expm1(drift)),
    )


def _scatter(values: NDArray[np.float64]) -> float:
    """Standard deviation by the MAD about the median."""
    return float(_MAD_TO_SD * np.median(np.abs(values - np.median(values))))


def _leads_differently(rest: NDArray[np.float64]) -> bool:
    """Whether the first round, or the first group of rounds, is off from the rounds that follow."""
    for size, times in ((1, 3.0), (GROUP, 3.0)):
        after = rest[size:]
        if len(after) < max(2, GROUP):
            continue
        scatter = max(_scatter(after), FLOOR / 3)
        off = abs(float(np.median(rest[:size])) - float(np.median(after)))
        # 1.25: the standard error of a median is larger than a mean's by this factor
        if off > max(FLOOR, times * scatter * (1 if size == 1 else 1.25 * (1 / size + 1 / len(after)) ** 0.5)):
            return True
    return False


def _drift(rest: NDArray[np.float64]) -> tuple[float, float]:
    """Log-ratio of the second half to the first, by medians, and its standard error.

    The scatter comes from the differences of neighbouring rounds about their median: a drift, equal in all differences, does
    not count as scatter.
    """
    half = len(rest) // 2
    first, second = rest[:half], rest[half:]
    scatter = _scatter(np.diff(rest)) / 2**0.5
    noise = 1.25 * scatter * (1 / len(first) + 1 / len(second)) ** 0.5
    return float(np.median(second) - np.median(first)), noise
