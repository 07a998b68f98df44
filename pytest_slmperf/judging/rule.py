"""The rule that decides on a verdict or on further launches.  Vectorised over comparisons.

Alpha spending (``spending.py``) accounts for the number of looks.  Δ > 0 is worse, τ is the tolerance and λ the limit:

- *suspicion*: the 97.5 % lower bound of Δ at this look alone is above log(1+τ).  Nothing fails yet; the following launches
  are fresh processes and form the confirmation.
- ``regressed``: the lower bound over all launches, at this comparison's share of the session's error, is above log(1+τ).
  So are the lower bounds by the launches' own scatter, without the machine's history: over all launches at level OWN, over
  the confirmation at level AGREEMENT.  History sharpens a verdict but must not decide it, since today's machine may be
  noisier.  Forked launches must come from at least two hosts per side, and from a new host in the confirmation.
- ``improved``: the upper bound at the same share is below −log(1+τ).
- ``same``: the upper end of the reported interval is below log(1+λ), and a slowdown halfway between tolerance and limit is
  ruled out at level MISS, so that measuring does not end before a real slowdown could be detected (not required if the
  noise is too large to detect it within the largest number of launches).  While an improvement is likely (the 97.5 % upper
  bound at this look alone is below −log(1+τ)) measuring continues until the time is up.  At the last look it suffices to
  rule out a slowdown of the limit at level MISS: with a stored baseline of a single session, whose variance between
  sessions is unknown, every verdict would otherwise be ``inconclusive``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.statistics.estimate import Estimate
from pytest_slmperf.statistics.spending import nominal_levels

Array = NDArray[np.float64]

SUSPICION = 0.025
AGREEMENT = 0.05
OWN = 0.002
MISS = 0.05
LEAST_CONFIRMING = 3

OPEN, REGRESSED, IMPROVED, SAME, INCONCLUSIVE = range(5)
Standing = Verdict | Literal["open"]
VERDICTS: tuple[Standing, ...] = (
    "open",
    Verdict.REGRESSED,
    Verdict.IMPROVED,
    Verdict.SAME,
    Verdict.INCONCLUSIVE,
)


@dataclass
class Rule:
    """The state of ``size`` comparisons with common looks.

    ``tolerance`` and ``limit`` are logs, shape (size,) or scalar.  ``alpha``: error share of one comparison;
    ``interval_alpha``: one minus the coverage of the reported interval.
    """

    size: int
    tolerance: float | Array
    limit: float | Array
    alpha: float
    interval_alpha: float
    max_launches: int
    confirm: bool = True
    looks: list[int] = field(default_factory=list)
    verdict: NDArray[np.int_] = field(init=False)
    suspected_at: NDArray[np.int_] = field(init=False)  # launches before the confirmation; 0: no suspicion
    lower: Array = field(init=False)  # the reported interval of Δ
    upper: Array = field(init=False)
    gate_lower: Array = field(init=False)  # the interval that decides on regressed and improved
    gate_upper: Array = field(init=False)
    confirm_lower: Array = field(init=False)
    last_lower: Array = field(init=False)  # the interval whose upper end decides on same at the last look
    last_upper: Array = field(init=False)

    def __post_init__(self) -> None:
        self.verdict = np.zeros(self.size, dtype=int)
        self.suspected_at = np.zeros(self.size, dtype=int)
        for name in ("lower", "upper", "gate_lower", "gate_upper", "confirm_lower", "last_lower", "last_upper"):
            setattr(self, name, np.full(self.size, math.nan))

    def levels(self, launches: int, *, last: bool = False) -> tuple[float, float, float]:
        """Nominal one-sided levels of this look for the gate, for the reported interval and for ruling out a slowdown.

        ``last``: the third level spends the whole rest of MISS, at whatever number of launches.
        """
        if not self.looks or launches > self.looks[-1]:
            self.looks.append(launches)
        looks = [min(n / self.max_launches, 1.0) for n in self.looks]
        fractions = tuple(looks)
        at_the_end = (*fractions[:-1], 1.0) if last else fractions
        # In a session of few comparisons, the gate would have the looser level, and verdicts could contradict intervals.
        alpha = min(self.alpha, self.interval_alpha / 2)
        return (
            nominal_levels(alpha, fractions)[-1],
            nominal_levels(self.interval_alpha / 2, fractions)[-1],
            nominal_levels(MISS, at_the_end)[-1],
        )

    def look(
        self,
        launches: int,
        whole: Estimate,
        confirmation: Estimate,
        *,
        final: bool = False,
        hosts_suffice: NDArray[np.bool_] | bool = True,
    ) -> None:
        """Judge the comparisons that are still open after ``launches`` launches.

        whole:         estimate over all launches
        confirmation:  estimate over the launches after the suspicion; ignored without a suspicion
        final:         there are no further launches, and open verdicts become inconclusive
        hosts_suffice: whether forked launches come from enough hosts for ``regressed``
        """
        active = self.verdict == OPEN
        last = final or launches >= self.max_launches
        gate, interval, miss = self.levels(launches, last=last)
        delta, se, df = whole.delta, whole.se, whole.df
        tau, lam = self.tolerance, self.limit

        def bound(level: float) -> Array:
            return _bound(se, level, df)

        width = bound(interval)
        gate_width = bound(gate)
        new = {
            "lower": delta - width,
            "upper": delta + width,
            "gate_lower": delta - gate_width,
            "gate_upper": delta + gate_width,
            "last_lower": delta - bound(miss),
            "last_upper": delta + bound(miss),
        }
        own_lower = delta - _bound(whole.own_se, OWN, whole.own_df)
        agreed = confirmation.delta - _bound(confirmation.own_se, AGREEMENT, confirmation.own_df)
        confirm_lower = np.where(confirmation.launches >= LEAST_CONFIRMING, agreed, -math.inf)
        new["confirm_lower"] = np.where(self.suspected_at > 0, confirm_lower, math.nan)
        for name, value in new.items():
            setattr(self, name, np.where(active, value, getattr(self, name)))

        suspected = self.suspected_at > 0
        confirmed = (suspected & (confirm_lower > tau)) if self.confirm else np.ones(self.size, dtype=bool)
        regressed = active & (new["gate_lower"] > tau) & (own_lower > tau) & confirmed & hosts_suffice
        improved = active & (new["gate_upper"] < -np.asarray(tau))
        middling = 0.5 * (np.asarray(tau) + np.asarray(lam))
        best_se = np.sqrt(whole.fixed_var + whole.unit_var / self.max_launches)
        hopeless = middling - tau < _quantile(self.alpha, df) * best_se
        with np.errstate(divide="ignore", invalid="ignore"):
            p_worse = stdtr(np.maximum(df, 1e-9), -(delta - tau) / se)
            p_better = stdtr(np.maximum(df, 1e-9), (delta + tau) / se)
        same = active & (new["upper"] < lam) & ~regressed & ~improved
        same &= hopeless | (new["last_upper"] < middling)
        if last:
            # Without further launches, it suffices to rule out a slowdown of the limit at level MISS.
            same |= active & (new["last_upper"] < lam) & ~regressed & ~improved
        else:
            same &= ~(p_better < SUSPICION)
        self.verdict = np.where(regressed, REGRESSED, self.verdict)
        self.verdict = np.where(improved, IMPROVED, self.verdict)
        self.verdict = np.where(same, SAME, self.verdict)
        suspicious = (self.verdict == OPEN) & active & ~suspected & (p_worse < SUSPICION)
        if self.confirm:
            self.suspected_at = np.where(suspicious, launches, self.suspected_at)
        if last:
            self.verdict = np.where(self.verdict == OPEN, INCONCLUSIVE, self.verdict)


def _bound(estimate_se: Array, level: float, df: Array) -> Array:
    """Half width of a one-sided bound; infinite without degrees of freedom, whatever the standard error."""
    return np.where(df > 0, _quantile(level, df) * np.maximum(estimate_se, 1e-12), math.inf)


def _quantile(level: float, df: Array) -> Array:
    """Half width of a one-sided bound in standard errors; infinite without degrees of freedom."""
    if level <= 0:
        return np.full(df.shape, math.inf)
    quantile: Array = np.where(df > 0, -stdtrit(np.maximum(df, 1e-9), level), math.inf)
    return quantile
