"""Planning: how many launches, rounds and seconds a test gets, so that a session ends in time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging.rule import MISS, Rule
from pytest_slmperf.statistics.estimate import Estimate

_FAR = 6.0  # median absolute deviations: four standard deviations of normal rounds
FIRST_LOOK = 2  # launches; a single launch has no variance
EVERY_ONE_UNTIL = 8  # launches after which a look is taken at every second launch only
_STRAY = 2.0  # standard errors by which the launches so far may misplace Δ


def next_look(done: int, max_launches: int) -> int:
    """Number of launches at the next look, after ``done`` launches: up to 8 each launch has a look, then each second.

    Looks do not depend on the readings, so that the spent error is the planned error.
    """
    ahead = FIRST_LOOK if done < FIRST_LOOK else done + (1 if done < EVERY_ONE_UNTIL else 2)
    return max(done + 1, min(ahead, max_launches))


def launches_needed(rule: Rule, estimate: Estimate, done: int) -> int | None:
    """Number of launches beyond ``done`` that a verdict would take if Δ stayed at its estimate.

    Only the first comparison of rule and estimate counts. None if no number of launches suffices: sessions then differ by
    more than the margin, and more baseline sessions, or a duet, would help.
    """
    tolerance, limit = float(rule.tolerance), float(rule.limit)
    delta, unit, fixed = float(estimate.delta[0]), float(estimate.unit_var[0]), float(estimate.fixed_var[0])
    df = max(float(estimate.df[0]), 1.0)
    # 0.25: about the addition of several looks to the critical value
    gate, interval, miss = (-float(stdtrit(df, a)) + 0.25 for a in (rule.alpha, rule.interval_alpha / 2, MISS))
    middling = 0.5 * (tolerance + limit)
    ways = [
        _launches(delta - tolerance, gate, unit, fixed),
        _launches(-tolerance - delta, gate, unit, fixed),
        max(
            _launches(limit - delta, interval, unit, fixed),
            _launches(middling - delta, miss, unit, fixed),
        ),
    ]
    best = min(ways)
    return None if math.isinf(best) else max(1, math.ceil(best) - done)


def beyond_reach(rule: Rule, estimate: Estimate, done: int) -> bool:
    """Whether no number of launches beyond ``done`` would reach a verdict, wherever Δ may still move.

    Further launches average out the error of the launches so far (up to ``_STRAY`` of its standard errors), but not the
    difference between sessions.  Never true while a slowdown is suspected: launches alone confirm or refute it.
    """
    if int(rule.suspected_at[0]):
        return False
    tolerance, limit = float(rule.tolerance), float(rule.limit)
    delta, unit, fixed = float(estimate.delta[0]), float(estimate.unit_var[0]), float(estimate.fixed_var[0])
    stray = _STRAY * math.sqrt(unit / done)
    df = max(float(estimate.df[0]), 1.0)
    gate, interval = (-float(stdtrit(df, a)) for a in (rule.alpha, rule.interval_alpha / 2))
    ways = (
        _launches(delta + stray - tolerance, gate, unit, fixed),
        _launches(-tolerance - (delta - stray), gate, unit, fixed),
        _launches(limit - (delta - stray), interval, unit, fixed),
    )
    return math.isinf(min(ways))


def _launches(distance: float, z: float, unit: float, fixed: float) -> float:
    """The number of launches n that solves z·sqrt(fixed + unit/n) = distance."""
    if distance <= 0:
        return math.inf
    room = (distance / z) ** 2 - fixed
    return unit / room if room > 0 else math.inf


def rounds_wanted(rounds: Sequence[float], *, precision: float = 0.005, least: int = 10, most: int = 40) -> int:
    """Number of rounds in a launch at which its centre has the relative standard error ``precision``.

    Noisy rounds are cheap to repeat, launches are not; beyond ``precision`` only more launches help.  Call it again as
    rounds come in; with fewer than five rounds the answer is ``least``.
    """
    if not 0 < precision < 1 or least < 1 or most < least:
        raise InvalidInput(f"rounds_wanted: precision in (0, 1) and 1 ≤ least ≤ most, not {precision}, {least}, {most}")
    if len(rounds) < 5:
        return least
    logs = np.log(np.asarray(rounds, dtype=float))
    off = np.abs(logs - np.median(logs))
    # Bursts do not count, as in a launch's centre; few rounds estimate the standard deviation of the rest better than
    # the MAD
    usual = logs[off <= _FAR * float(np.median(off))]
    spread = float(usual.std(ddof=1)) if len(usual) > 1 else 0.0
    return min(most, max(least, math.ceil((spread / precision) ** 2)))


def seconds_for(remaining_s: float, total_s: float, tests: int, own_s: float, others_s: Sequence[float]) -> float:
    """Seconds that the next of a session's ``tests`` may use.

    own_s, others_s: least duration of this test and of each later test (start of the engine and the requested launches),
                     0 where unknown

    At most twice the even share of the remaining time: most verdicts come early and leave time for the open verdicts.
    Later tests keep at least max(half an even share of ``total_s``, their least duration).  0 when time is up.
    """
    waiting = _checked(remaining_s, own_s, others_s)
    if not math.isfinite(total_s) or tests < waiting:
        raise InvalidInput(f"seconds_for: {total_s} s, {tests} tests, {waiting} waiting is no plan")
    least = seconds_for_the_fewest(remaining_s, own_s, others_s)
    if least <= own_s:
        return least
    even = remaining_s / waiting
    kept = math.fsum(max(0.5 * total_s / tests, other) for other in others_s)
    share = min(2 * even, max(remaining_s - kept, even))
    return min(max(share, own_s), least)


def seconds_for_the_fewest(remaining_s: float, own_s: float, others_s: Sequence[float]) -> float:
    """Seconds in which the next test may have its requested launches: all that the later tests' least durations leave.

    Where the least durations do not all fit, the cheapest tests get theirs and the others share the rest evenly.
    """
    _checked(remaining_s, own_s, others_s)
    if remaining_s <= 0:
        return 0.0
    spare = remaining_s - math.fsum(others_s)
    return spare if spare >= own_s else min(own_s, _level(remaining_s, [own_s, *others_s]))


def _checked(remaining_s: float, own_s: float, others_s: Sequence[float]) -> int:
    """Number of waiting tests; InvalidInput for values that are no durations."""
    if not math.isfinite(remaining_s) or not all(math.isfinite(least) and least >= 0 for least in (own_s, *others_s)):
        raise InvalidInput(f"plan of time: the least must be seconds, not {remaining_s}, {own_s}, {others_s}")
    return 1 + len(others_s)


def _level(amount: float, wants: Sequence[float]) -> float:
    """The level up to which ``amount`` fills all ``wants``, whose sum is larger."""
    for number, want in enumerate(ordered := sorted(wants)):
        level = amount / (len(ordered) - number)
        if want >= level:
            break
        amount -= want
    return level


def alpha_share(alpha: float, tests: int, scenario: int) -> float:
    """Error share of one scenario of one test, such that the shares of a session never add up to more than ``alpha``.

    ``scenario`` numbers the scenarios of one test from 0.  Their number is not known beforehand: the first takes nine tenths
    of the test's share, each later one half of the rest.  The gated metrics of a scenario divide its share.
    """
    if tests < 1 or scenario < 0:
        raise InvalidInput(f"alpha_share: {tests} tests, scenario {scenario} is no plan")
    return alpha / tests * (0.9 if scenario == 0 else 0.1 / 2**scenario)
