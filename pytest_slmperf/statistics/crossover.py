"""Which side of a duet pair goes first, and the change with that taken out.

The side whose engine starts first is the slower one on some machines (by about 0.5 % on a shared two-core one, and by
3 % where it is the first of the session, see ``EnginePool.settle``).  So the sides take turns at
going first, and what that is worth is estimated along with the change: the analysis of a two-period crossover with its
period effect (Hills & Armitage 1979; Senn, Cross-over Trials in Clinical Research, 2002).  It costs one degree of
freedom, and takes the alternation out of the scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def candidate_goes_first(pair: int) -> bool:
    """Whether in that pair of launches the candidate's engine starts, and is measured, before the baseline's."""
    return pair % 2 == 1


def turns(pairs: Sequence[int | None]) -> Array | None:
    """+1 for each pair in which the candidate goes first, −1 for the others; None where a pair has no number."""
    if any(pair is None for pair in pairs):
        return None
    return np.array([1.0 if candidate_goes_first(pair) else -1.0 for pair in pairs if pair is not None])


class Adjusted(NamedTuple):
    """Over pairs chosen from all: their mean difference without the effect of going first, the variance of one pair
    by the scatter of all of them with its degrees of freedom, and ``factor``: the mean's variance ÷ a pair's.
    ``effect`` is what going first is worth: half the difference between pairs of either turn."""

    mean: Array
    var: Array
    df: Array
    factor: Array
    effect: Array


def adjust(differences: Array, turn: Array, chosen: NDArray[np.bool_]) -> Adjusted | None:
    """``differences`` (comparisons, pairs), ``turn`` (pairs,), ``chosen`` (comparisons, pairs).

    Least squares of the differences on the turn.  None while all pairs had the same turn: nothing can be told apart.
    """
    off = turn - turn.mean()
    square = float((off**2).sum())
    if square == 0:
        return None
    effect = differences @ off / square
    rest = differences - effect[:, None] * turn
    count = np.maximum(chosen.sum(axis=-1), 1)
    mean = np.where(chosen, rest, 0.0).sum(axis=-1) / count
    # the mean is a weighted sum of all differences, since all of them tell the effect
    lean = np.where(chosen, turn, 0.0).sum(axis=-1) / count
    weights = chosen / count[:, None] - lean[:, None] * off / square
    residual = rest - rest.mean(axis=-1, keepdims=True)
    df = float(max(differences.shape[-1] - 2, 0))
    var = (residual**2).sum(axis=-1) / max(df, 1.0)
    return Adjusted(mean, var, np.full(mean.shape, df), (weights**2).sum(axis=-1), effect)


def scatter_of(differences: Sequence[float], turn: Array) -> tuple[Array, int]:
    """The differences about what their turns explain, and how many degrees of freedom that took."""
    values = np.asarray(differences, float)
    adjusted = adjust(values[None, :], turn, np.ones((1, len(values)), dtype=bool))
    if adjusted is None:
        return values - values.mean(), 1
    rest = values - adjusted.effect[0] * turn
    return rest - rest.mean(), 2
