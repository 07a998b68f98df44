"""The parts below the verdict: launch centre, spending, moderation, zeros, planning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.judging.launch_planning import (
    alpha_share,
    next_look,
    rounds_wanted,
    seconds_for,
    seconds_for_the_fewest,
)
from pytest_slmperf.model.verdict import Gate, LaunchSample
from pytest_slmperf.statistics.launch_centre import centre_of, centres, log_centre
from pytest_slmperf.statistics.spending import nominal_levels
from pytest_slmperf.statistics.variance import STATED_PRIOR, estimate_prior, fit_prior, moderate


def test_centre_is_nearly_as_sharp_as_the_mean_and_bursts_do_not_move_it():
    rng = np.random.default_rng(1)
    calm = rng.normal(0, 0.02, (20_000, 20))
    centre, se, outlying = centres(calm)
    assert centre.std() < 1.08 * calm.mean(axis=1).std()
    assert np.mean(se) == pytest.approx(centre.std(), rel=0.1)
    assert outlying.mean() < 0.5
    burst = calm + np.where(rng.random(calm.shape) < 0.05, math.log(3), 0)
    moved, _, found = centres(burst)
    assert moved.mean() == pytest.approx(0, abs=0.0005)
    assert moved.std() < 1.15 * centre.std()
    assert found.mean() > 0.9


def test_centre_of_few_or_equal_rounds():
    assert log_centre([100.0]) == pytest.approx(math.log(100))
    assert log_centre([100.0, 100.0, 300.0]) == pytest.approx(math.log(100))
    assert centre_of([7.0] * 10) == (pytest.approx(math.log(7)), 0, 0)
    with pytest.raises(InvalidInput, match="no clean round"):
        log_centre([])


@pytest.mark.parametrize("alpha", [0.00025, 0.05])
def test_spending_keeps_its_error_over_any_looks(alpha):
    """Simulated Brownian paths, importance-sampled with a drift so that 0.025 % can be seen at all."""
    looks = (2 / 16, 3 / 16, 5 / 16, 8 / 16, 12 / 16, 1.0)
    levels = nominal_levels(alpha, looks)
    bounds = stats.norm.isf(levels)
    rng = np.random.default_rng(2)
    drift = 3.0
    steps = np.diff((0.0, *looks))
    score = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (200_000, len(looks))), axis=1)
    over = score / np.sqrt(looks) > bounds
    crossed = over.any(axis=1)
    at = over.argmax(axis=1)
    when = np.asarray(looks)[at]
    weight = np.exp(-drift * score[np.arange(len(score)), at] + drift**2 * when / 2)
    assert (weight * crossed).mean() == pytest.approx(alpha, rel=0.04)


def test_spending_of_one_look_is_the_plain_test_and_repeats_spend_nothing():
    assert nominal_levels(0.01, (1.0,)) == pytest.approx((0.01,))
    assert nominal_levels(0.01, (0.5, 0.5, 1.0))[1] == 0.0
    assert all(a < b for a, b in zip(nominal_levels(0.01, (0.2, 1.0)), (0.01, 0.01), strict=True))
    with pytest.raises(ValueError):
        nominal_levels(0.7, (1.0,))


def test_prior_is_recovered_from_many_small_groups():
    rng = np.random.default_rng(3)
    true_df, true_var = 8.0, 0.01**2
    variances = true_var * true_df / rng.chisquare(true_df, 4000) * rng.chisquare(3, 4000) / 3
    var, df = fit_prior(list(variances), [3.0] * 4000)
    assert var == pytest.approx(true_var, rel=0.1)
    assert df == pytest.approx(true_df, rel=0.25)


def test_moderated_interval_covers_as_it_says():
    """Variances that differ from test to test: the moderated t is right on average, with three launches each."""
    rng = np.random.default_rng(4)
    d0, s0, n, tests = 6.0, 0.01**2, 3, 40_000
    sigma = np.sqrt(s0 * d0 / rng.chisquare(d0, tests))
    sample = rng.normal(0, 1, (tests, n)) * sigma[:, None]
    known = moderate(sample.var(axis=1, ddof=1), np.full(tests, n - 1.0), s0, d0)
    t = sample.mean(axis=1) / np.sqrt(known.var / n)
    assert np.mean(np.abs(t) < stats.t.isf(0.025, known.df)) == pytest.approx(0.95, abs=0.01)


def test_a_test_far_noisier_than_the_history_does_not_use_it():
    known = moderate(np.array([1e-4, 40e-4]), np.array([5.0, 5.0]), 1e-4, 50.0)
    assert list(known.conflict) == [False, True]
    assert known.var[1] == pytest.approx(40e-4)
    assert known.df[1] == 5


def test_prior_from_history_and_duets():
    rng = np.random.default_rng(5)

    def launch(session, centre, pair=None):
        return LaunchSample([float(v) for v in 50 * np.exp(centre + rng.normal(0, 0.01, 10))], session, pair)

    history = {
        f"test{t}": [
            launch(f"s{s}", shift + rng.normal(0, 0.012))
            for s, shift in enumerate((0.02, -0.02, 0.0))
            for _ in range(3)
        ]
        for t in range(20)
    }
    prior = estimate_prior(history)
    assert math.sqrt(prior.launch_var) == pytest.approx(math.hypot(0.012, 0.01 / math.sqrt(10)), rel=0.15)
    assert prior.launch_df > 2 * STATED_PRIOR.launch_df
    assert prior.session_df == STATED_PRIOR.session_df + 2  # all tests share the sessions: three of them, not sixty
    assert prior.session_var > STATED_PRIOR.session_var
    pairs = [
        ([launch("d", 0.3, i) for i in range(5)], [launch("d", 0.3 + shift, i) for i in range(5)])
        for shift in rng.normal(0, 0.1, 12)
    ]
    assert math.sqrt(estimate_prior({}, pairs).pair_var) == pytest.approx(0.01 * math.sqrt(0.2), rel=0.3)
    assert estimate_prior({}) == STATED_PRIOR


def zeros(values, metric="preemptions", better="lower", baseline=(0, 0, 0, 0, 0, 0, 0, 0)):
    comparison = Comparison(
        [Gate(metric, better)], {metric: [LaunchSample([v]) for v in baseline]}, alpha=0.001, mode="stored"
    )
    return comparison.decide({metric: [LaunchSample([float(v)]) for v in values]}, final=True).judgements[0]


def test_metrics_that_can_be_zero():
    assert zeros([0] * 3).verdict == "same"
    assert zeros([5] * 8).verdict == "regressed"
    few = zeros([5] * 2)
    assert few.verdict == "inconclusive"
    assert "too few" in few.reason
    assert zeros([0] * 8, "goodput", "higher", [3] * 8).verdict == "regressed"
    assert zeros([0, 0, 0], "preemptions", "lower", [0, 4, 0, 2]).verdict == "same"
    with pytest.raises(InvalidInput, match="0 has no ratio"):
        zeros([0, 0], "output_throughput", "higher", [3] * 4)


def test_rounds_follow_their_noise():
    rng = np.random.default_rng(6)
    assert rounds_wanted(np.exp(rng.normal(0, 0.003, 10)).tolist()) == 10
    noisy = [rounds_wanted(np.exp(rng.normal(0, 0.03, 20)).tolist()) for _ in range(50)]
    assert 30 <= float(np.mean(noisy)) <= 40
    assert rounds_wanted([1.0] * 3, least=7) == 7
    with pytest.raises(InvalidInput):
        rounds_wanted([1.0] * 9, precision=0)


def test_time_is_shared_and_what_is_freed_goes_to_open_tests():
    assert seconds_for(100, 100, 5, 0, [0] * 4) == pytest.approx(40)  # twice the even share
    assert seconds_for(95, 100, 5, 0, [0] * 3) == pytest.approx(47.5)  # the first used little
    assert seconds_for(30, 100, 5, 0, []) == pytest.approx(30)
    assert seconds_for(0, 100, 5, 0, [0] * 2) == 0
    assert seconds_for(100, 100, 5, 18, [18] * 4) == pytest.approx(28)  # 18 for each of the four to come
    assert seconds_for(100, 100, 5, 40, [40] * 4) == pytest.approx(20)  # not enough for all: the even share
    with pytest.raises(InvalidInput):
        seconds_for(math.nan, 100, 1, 0, [])
    with pytest.raises(InvalidInput):
        seconds_for(10, 100, 1, 0, [0])
    with pytest.raises(InvalidInput, match="least must be seconds"):
        seconds_for(100, 100, 5, 0, [-1])


def test_dear_tests_to_come_are_left_what_they_take_at_the_least():
    assert seconds_for(100, 100, 4, 5, [5, 40, 40]) == pytest.approx(15)  # below its even share of 25
    assert seconds_for(95, 100, 4, 40, [5, 40]) == pytest.approx(42.5)
    assert seconds_for(90, 100, 4, 40, [40]) == pytest.approx(50)
    assert seconds_for_the_fewest(90, 40, [40]) == pytest.approx(50)
    assert seconds_for(60, 100, 4, 5, [5, 40, 40]) == pytest.approx(5)  # not for all: the cheap ones have it …
    assert seconds_for(50, 100, 4, 40, [40]) == pytest.approx(25)  # … and the dear ones share what is left


@pytest.mark.parametrize("tests", [1, 2, 7, 40])
def test_greedy_tests_leave_half_an_even_share_to_each_and_end_in_time(tests):
    left, used = 600.0, []
    for waiting in range(tests, 0, -1):
        used.append(seconds_for(left, 600.0, tests, 0.0, [0.0] * (waiting - 1)))
        left -= used[-1]
    assert sum(used) == pytest.approx(600)
    assert min(used) >= 0.5 * 600 / tests * 0.999


@given(
    needs=st.lists(st.floats(0.1, 100), min_size=1, max_size=12),
    spare=st.floats(1.0, 5.0),
)
def test_greedy_tests_leave_each_its_least_wherever_all_of_them_fit(needs, spare):
    total = spare * sum(needs)
    left = total
    for place, own in enumerate(needs):
        used = seconds_for(left, total, len(needs), own, needs[place + 1 :])
        assert used >= own * (1 - 1e-9) - 1e-9
        left -= used
    assert left >= -1e-6


def test_shares_of_alpha_add_up_to_no_more_than_alpha():
    total = sum(alpha_share(0.01, 20, scenario) for _ in range(20) for scenario in range(30))
    assert total == pytest.approx(0.01)
    assert alpha_share(0.01, 20, 0) == pytest.approx(0.9 * 0.01 / 20)
    with pytest.raises(InvalidInput):
        alpha_share(0.01, 0, 0)


def test_looks_are_planned():
    looks = [2]
    while looks[-1] < 16:
        looks.append(next_look(looks[-1], 16))
    assert looks == [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]
    assert next_look(0, 16) == 2
    assert next_look(8, 9) == 9
