"""One test's comparison with its baseline, metric by metric, launch by launch. ``measuring.judge`` drives it.

After each batch of launches ``decide`` takes all samples so far, in the order of measuring, and says which verdicts are
reached and how many launches to measure next. In a duet the baseline grows with the candidate: both sides are given, the
launches of a pair tied by ``LaunchSample.pair``, and ``next_launches`` counts pairs.

A sample without clean rounds is left out by the caller. A metric without any sample is judged ``incomparable``. Nothing
here does I/O or takes the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging.explain import judgement_of
from pytest_slmperf.judging.launch_planning import FIRST_LOOK
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
    """The error share of one comparison when a session makes so many (gated metrics × tests), by Bonferroni.

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
    """InvalidInput unless 0 ≤ tolerance < limit < 1; ``name`` says whose margins they are."""
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
    """What is known now and what to do next.

    ``judgements``: one per gate, in the order of the gates; those still open read ``inconclusive`` with the launches
    it would take.  ``next_launches``: launches (pairs of them in a duet) to measure before asking again, 0 when done.
    ``fresh``: they must be new processes, because they confirm what the earlier ones made suspicious.
    ``hopeless``: no number of further launches would bring any of the open verdicts; ask once more with ``final``.
    """

    judgements: tuple[Judgement, ...]
    done: bool
    next_launches: int
    phase: Literal["measure", "confirm"]
    fresh: bool
    hopeless: bool = False


class Comparison:
    """One test's comparison over several gated metrics; sequential; pure.

    ``alpha`` is the error share of each of these comparisons (see session_alpha); ``interval_alpha`` is one minus the
    coverage of the reported intervals, which hold at every look.  ``prior``: one for all metrics or one for each,
    since start-up times scatter unlike throughputs; where there is none the stated one stands in, for a machine without
    history.  ``baseline`` may be empty in a duet.  InvalidInput for margins, alpha or readings out of range.
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
        """Judge all samples so far.  ``final``: time is up, what is open becomes ``inconclusive``.

        Call it after each batch of launches with everything measured so far, in order of measuring.
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


# A change that nearly all tests of a session share: its cause lies in what they have in common, not in one test.

CHANCE = 0.02  # two-sided sign test: probability that tests move the same way by chance
LEAST = TOLERANCE  # least median change; a smaller change is negligible


@dataclass(frozen=True, slots=True)
class Shift:
    """``agree`` of ``tests`` tests moved in the direction of ``median``, the median of their changes (> 0: worse)."""

    tests: int
    agree: int
    median: float


def common_shift(changes: Sequence[float]) -> Shift | None:
    """The change that the tests share, or None. ``changes``: one relative change per test, > 0 where it got worse.

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
