"""Comparison of one test with its baseline, metric by metric and launch by launch; and a change that tests share.

``measuring.judge`` drives the comparison: after each batch of launches it passes all samples so far to ``decide``, in the
order of measuring, and receives the verdicts and the number of launches to measure next. In a duet the baseline grows with
the candidate: ``decide`` takes both sides, ``LaunchSample.pair`` joins the launches of a pair, and ``next_launches`` counts
pairs.

The caller leaves out samples without clean rounds. A metric without samples is ``incomparable``. No function here does I/O
or reads the clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median
from typing import Literal

from scipy.special import stdtrit

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging.explain import judgement_of
from pytest_slmperf.judging.launch_planning import FIRST_LOOK
from pytest_slmperf.judging.rule import LEAST_CONFIRMING, OWN
from pytest_slmperf.judging.series import Series
from pytest_slmperf.model.defaults import ALPHA, TOLERANCE
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior
from pytest_slmperf.util.checks import is_number
from pytest_slmperf.util.formatting import portion

Mode = Literal["stored", "duet"]
Samples = Mapping[str, Sequence[LaunchSample]]

MAX_LAUNCHES = 16


def session_alpha(alpha: float, comparisons: int) -> float:
    """The error share of one comparison in a session of ``comparisons`` (gated metrics × tests), by Bonferroni.

    >>> session_alpha(0.01, 40)
    0.00025
    """
    check_alpha(alpha)
    if comparisons < 1:
        raise InvalidInput(f"a session makes at least one comparison, not {comparisons}")
    return alpha / comparisons


def check_alpha(alpha: float, name: str = "alpha") -> None:
    """InvalidInput unless 0 < alpha < 0.5."""
    if not is_number(alpha) or not 0 < alpha < 0.5:
        raise InvalidInput(f"{name} must lie between 0 and 0.5 (0.01 is usual), not {alpha!r}")


def _prior_of(prior: VariancePrior | Mapping[str, VariancePrior] | None, metric: str) -> VariancePrior:
    known = prior.get(metric) if isinstance(prior, Mapping) else prior
    return known or STATED_PRIOR


def check_margins(tolerance: float, limit: float, name: str) -> None:
    """InvalidInput unless 0 ≤ tolerance < limit < 1. ``name``: the owner of the margins, for the message."""
    for kind, value in (("tolerance", tolerance), ("limit", limit)):
        if not is_number(value) or not math.isfinite(value):
            raise InvalidInput(f"{name}: {kind} must be a number such as 0.05 for 5 %, not {value!r}")
        if value >= 1:
            raise InvalidInput(f"{name}: {kind} {value:g} is {portion(value)}; write 0.05 for 5 %")
    if tolerance < 0:
        raise InvalidInput(f"{name}: tolerance must not be negative, and is {tolerance:g}")
    if limit <= tolerance:
        raise InvalidInput(
            f"{name}: the limit ({portion(limit)}) must be above the tolerance ({portion(tolerance)}): up to the tolerance "
            "nothing is flagged, and a slowdown of the limit must not pass"
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The state of a comparison and what to do next.

    judgements:    one per gate, in the order of the gates; an open verdict reads ``inconclusive`` with the number of
                   launches that it needs
    next_launches: launches (in a duet: pairs) to measure before the next call, 0 when done
    fresh:         the next launches must be new processes, because they confirm a suspicion
    hopeless:      no number of further launches reaches any of the open verdicts; call once more with ``final``
    """

    judgements: tuple[Judgement, ...]
    done: bool
    next_launches: int
    phase: Literal["measure", "confirm"]
    fresh: bool
    hopeless: bool = False


class Comparison:
    """Sequential comparison of one test over several gated metrics.

    alpha:          error share of each metric's comparison (see ``session_alpha``)
    interval_alpha: one minus the coverage of the reported intervals, which hold at every look
    prior:          one for all metrics, or one per metric (start-up times scatter unlike throughputs);
                    ``STATED_PRIOR``, for a machine without history, where there is none
    baseline:       may be empty in a duet

    InvalidInput for margins, alpha or readings out of range.
    """

    first_launches = FIRST_LOOK

    def __init__(
        self,
        gates: Sequence[Gate],
        baseline: Samples,
        *,
        alpha: float,
        mode: Mode,
        prior: VariancePrior | Mapping[str, VariancePrior] | None = None,
        max_launches: int = MAX_LAUNCHES,
        confirm: bool = True,
        interval_alpha: float = ALPHA,
    ) -> None:
        check_alpha(alpha)
        check_alpha(interval_alpha, "interval_alpha")
        if not isinstance(max_launches, int):
            raise InvalidInput(f"max_launches must be a whole number, not {max_launches!r}")
        if max_launches < FIRST_LOOK:
            raise InvalidInput(f"max_launches must be at least {FIRST_LOOK}: one launch alone tells no variance")
        if mode not in ("stored", "duet"):
            raise InvalidInput(f"mode must be 'stored' or 'duet', not {mode!r}")
        for gate in gates:
            check_margins(gate.tolerance, gate.limit, gate.metric)
            if gate.better not in ("higher", "lower"):
                raise InvalidInput(f"{gate.metric}: better must be 'higher' or 'lower', not {gate.better!r}")
        if len({gate.metric for gate in gates}) < len(gates):
            raise InvalidInput("each metric can be gated only once in a test")
        self.mode = mode
        self.max_launches = max_launches
        self._baseline = baseline
        self._series = [
            Series(
                gate,
                alpha=alpha,
                interval_alpha=interval_alpha,
                mode=mode,
                prior=_prior_of(prior, gate.metric),
                max_launches=max_launches,
                confirm=confirm,
            )
            for gate in gates
        ]

    @property
    def fresh(self) -> bool:
        """Whether the next launches must be new processes."""
        return any(series.confirming for series in self._series)

    def decide(self, candidate: Samples, baseline: Samples | None = None, *, final: bool = False) -> Decision:
        """Judge all samples so far, given in the order of measuring; called after each batch of launches.

        ``final``: time is up, and an open verdict becomes ``inconclusive``.
        """
        if self.mode == "duet" and baseline is None:
            raise InvalidInput("a duet is decided on both sides: pass the baseline's samples of this session too")
        base = self._baseline if baseline is None else baseline
        for series in self._series:
            metric = series.gate.metric
            series.look(candidate.get(metric, ()), base.get(metric, ()), final=final)
        judgements = tuple(judgement_of(series) for series in self._series)
        still = [series for series in self._series if series.open]
        if not still:
            return Decision(judgements, True, 0, "measure", False)
        fresh = self.fresh
        ahead = max(1, max(series.launches_ahead for series in still))
        hopeless = all(series.hopeless for series in still)
        return Decision(judgements, False, ahead, "confirm" if fresh else "measure", fresh, hopeless)


# What a comparison can find, before it is made.

POWER = 0.8  # share of sessions that find a slowdown of the named size


def smallest_found(
    gate: Gate,
    baseline: Sequence[LaunchSample],
    prior: VariancePrior,
    *,
    alpha: float,
    mode: Mode,
    launches: int,
) -> float | None:
    """The slowdown, as a share, that ``launches`` launches (in a duet: pairs) find in four sessions of five.

    It is foreseen with the noise of the baseline's newest session: today's launches are taken to scatter as its launches do.
    None if so few launches find none: the first two raise a suspicion, which ``LEAST_CONFIRMING`` others confirm.
    """
    if launches < FIRST_LOOK + LEAST_CONFIRMING or not baseline:
        return None
    newest = [sample for sample in baseline if sample.session == baseline[-1].session]
    candidate = [replace(sample, session="planned", pair=None) for sample in islice(cycle(newest), launches)]
    series = Series(
        gate, alpha=alpha, interval_alpha=ALPHA, mode="stored", prior=prior, max_launches=launches, confirm=True
    )
    series.look(candidate, baseline, final=False)
    estimate = series.estimate
    if estimate is None:
        return None
    se, df, own_se, own_df = (float(x[0]) for x in (estimate.se, estimate.df, estimate.own_se, estimate.own_df))
    if mode == "duet":  # sessions do not enter, and a pair has a variance of its own
        se, df, own_df = math.sqrt(prior.pair_var / launches), prior.pair_df + launches - 1, launches - 1.0
        own_se = se
    lucky = float(stdtrit(max(df, 1.0), POWER))
    by_history = (-float(stdtrit(max(df, 1.0), min(alpha, ALPHA / 2))) + lucky) * se
    by_its_own = (-float(stdtrit(max(own_df, 1.0), OWN)) + lucky) * own_se
    return math.expm1(math.log1p(gate.tolerance) + max(by_history, by_its_own))


# A change that nearly all tests of a session share: its cause lies in what the tests have in common.

CHANCE = 0.02  # two-sided sign test: probability that tests move the same way by chance
LEAST = TOLERANCE  # least median change; a smaller change is negligible


@dataclass(frozen=True, slots=True)
class Shift:
    """``agree`` of ``tests`` tests moved in the direction of ``median``, the median of their changes (> 0: worse)."""

    tests: int
    agree: int
    median: float


def common_shift(changes: Sequence[float]) -> Shift | None:
    """The change that the tests share, or None. ``changes``: one relative change per test, > 0 is worse.

    A sign test: it ignores the size of the changes and needs at least seven tests.
    """
    moved = [change for change in changes if math.isfinite(change) and change != 0]
    if not moved:
        return None
    middle = median(moved)
    agree = sum((change > 0) == (middle > 0) for change in moved)
    against = len(moved) - agree
    chance = 2 * sum(math.comb(len(moved), k) for k in range(against + 1)) / 2 ** len(moved)
    return Shift(len(moved), agree, middle) if chance <= CHANCE and abs(middle) >= LEAST else None
