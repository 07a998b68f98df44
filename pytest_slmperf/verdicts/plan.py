"""How many launches, rounds and seconds: planning, so that a session ends in time and spends it where it counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.verdicts.rule import MISS
from pytest_slmperf.verdicts.summary import centres

if TYPE_CHECKING:
    from pytest_slmperf.verdicts.series import Series

FIRST_LOOK = 2  # launches; one alone tells no variance
EVERY_ONE_UNTIL = 8  # from there on a look every two launches


def next_look(done: int, max_launches: int) -> int:
    """Launches there should be at the next look, after ``done``: each one up to 8, then every second one.

    The looks do not depend on what was seen, so the error paid for them is the one that was planned.
    """
    ahead = FIRST_LOOK if done < FIRST_LOOK else done + (1 if done < EVERY_ONE_UNTIL else 2)
    return max(done + 1, min(ahead, max_launches))


def launches_needed(series: Series) -> int | None:
    """How many more launches a verdict would take if Δ stayed where it is; None when no number of them would do
    (what sessions differ by is then larger than the margin: more baseline sessions, or a duet, would)."""
    estimate = series.estimate
    if estimate is None:
        return None
    delta, unit, fixed = float(estimate.delta[0]), float(estimate.unit_var[0]), float(estimate.fixed_var[0])
    done = len(series.candidate)
    df = max(float(estimate.df[0]), 1.0)
    # 0.25: about what looking several times adds to the critical value
    gate, interval, miss = (-float(stdtrit(df, a)) + 0.25 for a in (series.alpha, series.interval_alpha / 2, MISS))
    middling = 0.5 * (series.tau + series.lam)
    ways = [
        _launches(delta - series.tau, gate, unit, fixed),
        _launches(-series.tau - delta, gate, unit, fixed),
        max(
            _launches(series.lam - delta, interval, unit, fixed),
            _launches(middling - delta, miss, unit, fixed),
        ),
    ]
    best = min(ways)
    return None if math.isinf(best) else max(1, math.ceil(best) - done)


def _launches(distance: float, z: float, unit: float, fixed: float) -> float:
    """Launches n with z·sqrt(fixed + unit/n) = distance."""
    if distance <= 0:
        return math.inf
    room = (distance / z) ** 2 - fixed
    return unit / room if room > 0 else math.inf


def rounds_wanted(rounds: Sequence[float], *, precision: float = 0.005, least: int = 10, most: int = 40) -> int:
    """Rounds a launch should have, all told, for its centre to be known to ``precision`` (relative standard error).

    Noisy rounds are cheap to repeat, launches are not; beyond ``precision`` only more launches help.  Ask again as
    rounds come in; fewer than five say nothing yet, and ``least`` is the answer.
    """
    if not 0 < precision < 1 or least < 1 or most < least:
        raise InvalidInput(f"rounds_wanted: precision in (0, 1) and 1 ≤ least ≤ most, not {precision}, {least}, {most}")
    if len(rounds) < 5:
        return least
    _, se, _ = centres(np.log(np.asarray(rounds, dtype=float)))
    return min(most, max(least, math.ceil(len(rounds) * (float(se) / precision) ** 2)))


def seconds_for(
    remaining_s: float, this_cost_s: float, others_cost_s: Sequence[float], *, least_launches: int = 2
) -> float:
    """Seconds that this test may use now, so that all tests still to come can have their least launches.

    ``remaining_s``: what is left of the session's time; ``this_cost_s`` and ``others_cost_s``: estimated seconds of one
    launch (a pair in a duet) of this test and of each test still to come.  First everybody's least is set aside; what
    is left over is shared in proportion to cost.  Ask again before each batch: time that an early verdict freed is in
    ``remaining_s`` and goes to those still open.  0 when not even the least fits.
    """
    costs = [this_cost_s, *others_cost_s]
    if any(not math.isfinite(c) or c < 0 for c in costs) or not math.isfinite(remaining_s):
        raise InvalidInput("seconds_for: times must be finite and not negative")
    need = least_launches * sum(costs)
    if remaining_s <= 0:
        return 0.0
    if need >= remaining_s or not sum(costs):
        share = 1 / len(costs) if not sum(costs) else this_cost_s / sum(costs)
        return remaining_s * share
    return least_launches * this_cost_s + (remaining_s - need) * this_cost_s / sum(costs)
