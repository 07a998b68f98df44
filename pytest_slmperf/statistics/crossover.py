"""Order in the pairs of a duet: which side goes first, and the change without the effect of the order.

On some machines the side whose engine starts first is slower (by about 0.5 % on a shared two-core machine, and by 3 % if
it is the first engine of the session, see ``EnginePool.settle``).  Therefore the sides take turns at going first, and the
order effect is estimated together with the change, as the period effect in a two-period crossover (Hills & Armitage 1979;
Senn, Cross-over Trials in Clinical Research, 2002).  The estimate costs one degree of freedom and removes the order effect
from the scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def candidate_goes_first(pair: int) -> bool:
    """Whether the candidate's engine starts, and is measured, before the baseline's engine in this pair of launches."""
    return pair % 2 == 1


def order_of_pairs(pairs: Sequence[int | None]) -> Array | None:
    """+1 for each pair in which the candidate goes first, −1 for each other pair; None if a pair has no number."""
    if any(pair is None for pair in pairs):
        return None
    return np.array([1.0 if candidate_goes_first(pair) else -1.0 for pair in pairs if pair is not None])


class Adjusted(NamedTuple):
    """Pair differences without the order effect; every array has shape (comparisons,).

    mean:   of the chosen pairs
    var:    variance of one pair, from the scatter of all pairs
    df:     degrees of freedom of ``var``
    factor: variance of ``mean`` ÷ variance of one pair
    effect: of the order, half the difference between pairs of either order
    """

    mean: Array
    var: Array
    df: Array
    factor: Array
    effect: Array


def adjust_for_order(differences: Array, turn: Array, chosen: NDArray[np.bool_]) -> Adjusted | None:
    """Least squares of the differences on the order; None while all pairs have the same order.

    Shapes: ``differences`` and ``chosen`` (comparisons, pairs), ``turn`` (pairs,).
    """
    off = turn - turn.mean()
    square = float((off**2).sum())
    if square == 0:
        return None
    effect = differences @ off / square
    rest = differences - effect[:, None] * turn
    count = np.maximum(chosen.sum(axis=-1), 1)
    mean = np.where(chosen, rest, 0.0).sum(axis=-1) / count
    # All pairs estimate the effect, so that the mean is a weighted sum over all pairs, chosen or not.
    lean = np.where(chosen, turn, 0.0).sum(axis=-1) / count
    weights = chosen / count[:, None] - lean[:, None] * off / square
    residual = rest - rest.mean(axis=-1, keepdims=True)
    df = float(max(differences.shape[-1] - 2, 0))
    var = (residual**2).sum(axis=-1) / max(df, 1.0)
    return Adjusted(mean, var, np.full(mean.shape, df), (weights**2).sum(axis=-1), effect)


def residuals_of_order(differences: Sequence[float], turn: Array) -> tuple[Array, int]:
    """The residuals of the differences after mean and order effect, and the degrees of freedom that the fit used."""
    values = np.asarray(differences, float)
    adjusted = adjust_for_order(values[None, :], turn, np.ones((1, len(values)), dtype=bool))
    if adjusted is None:
        return values - values.mean(), 1
    rest = values - adjusted.effect[0] * turn
    return rest - rest.mean(), 2
