"""One side alone: the value of a metric over its launches, with a confidence interval, for showing (not for judging)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from pytest_slmperf.statistics.launch_summary import summarise
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, moderate

COVERAGE = 0.95


def interval(
    launches: Sequence[Sequence[float]], prior: VariancePrior | None = None
) -> tuple[float, tuple[float, float] | None]:
    """Value and 95 % interval. The value is the geometric mean over launches of each launch's robust centre.

    The interval is Student's t on the logarithm with the launch variance moderated toward the prior; None from a single
    launch, which tells no variance, and where a value is not positive (then the value is the plain mean).
    """
    flat = [value for rounds in launches for value in rounds]
    if not flat:
        raise ValueError("an interval needs at least one round")
    if min(flat) <= 0:
        means = [math.fsum(rounds) / len(rounds) for rounds in launches if rounds]
        return math.fsum(means) / len(means), None
    centres = np.array([summarise(rounds).log_centre for rounds in launches if rounds])
    middle = float(centres.mean())
    if len(centres) < 2:
        return math.exp(middle), None
    known = prior or STATED_PRIOR
    spread = moderate(centres.var(ddof=1), np.asarray(len(centres) - 1.0), known.launch_var, known.launch_df)
    half = float(stdtrit(spread.df, (1 + COVERAGE) / 2) * np.sqrt(spread.var / len(centres)))
    return math.exp(middle), (math.exp(middle - half), math.exp(middle + half))
