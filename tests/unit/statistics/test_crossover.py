import numpy as np
import pytest

from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.crossover import (
    adjust_for_order,
    candidate_goes_first,
    order_of_pairs,
    residuals_of_order,
)
from pytest_slmperf.statistics.estimate import paired
from pytest_slmperf.statistics.variance import STATED_PRIOR, estimate_prior

NONE = np.zeros(1)


def test_the_sides_take_turns():
    assert [candidate_goes_first(pair) for pair in range(4)] == [False, True, False, True]
    assert order_of_pairs([0, 1, 4]).tolist() == [-1, 1, -1]
    assert order_of_pairs([0, None]) is None


@pytest.mark.parametrize("pairs", [[0, 1, 2], [0, 1, 2, 3], [1, 3, 4, 6, 8]])
def test_what_going_first_is_worth_goes_out_of_the_change_and_its_scatter(pairs):
    turn = order_of_pairs(pairs)
    exact = (0.03 + 0.02 * turn)[None, :]  # 3 % slower, and going first is worth another 2 %
    found = paired(exact, STATED_PRIOR, NONE, NONE, None, turn)
    assert found.delta[0] == pytest.approx(0.03)
    assert found.own_se[0] == pytest.approx(0, abs=1e-12)
    assert found.own_df[0] == len(pairs) - 2
    plain = paired(exact, STATED_PRIOR, NONE, NONE)
    assert plain.own_se[0] > 0.004


def test_agrees_with_least_squares():
    rng = np.random.default_rng(5)
    turn, values = order_of_pairs([0, 1, 2, 4, 5, 7, 8]), rng.normal(size=7)
    design = np.column_stack([np.ones(7), turn])
    solution, (square,), *_ = np.linalg.lstsq(design, values, rcond=None)
    found = adjust_for_order(values[None, :], turn, np.ones((1, 7), dtype=bool))
    assert (found.mean[0], found.effect[0]) == pytest.approx(tuple(solution))
    assert found.var[0] == pytest.approx(square / 5)
    assert found.factor[0] == pytest.approx(np.linalg.inv(design.T @ design)[0, 0])


def test_the_confirming_pairs_mean_has_the_variance_that_it_says():
    rng = np.random.default_rng(6)
    turn, chosen = order_of_pairs(range(9)), np.arange(9) >= 6
    values = rng.normal(size=(20000, 9))
    found = adjust_for_order(values, turn, np.broadcast_to(chosen, values.shape))
    assert found.mean.var() == pytest.approx(found.factor[0], rel=0.05)


def test_pairs_of_one_turn_tell_nothing_about_it():
    one = np.array([[0.01, 0.02]])
    assert adjust_for_order(one, order_of_pairs([0, 2]), np.ones((1, 2), dtype=bool)) is None
    assert paired(one, STATED_PRIOR, NONE, NONE, None, order_of_pairs([0, 2])).own_df[0] == 1


def test_a_history_of_duets_learns_the_scatter_without_it():
    rng = np.random.default_rng(7)
    pairs = []
    for _ in range(40):
        logs = rng.normal(0, 0.004, (2, 6))
        logs[0] += 0.02 * order_of_pairs(range(6))
        base, candidate = ([LaunchSample([100 * np.exp(v)], pair=n) for n, v in enumerate(side)] for side in logs)
        pairs.append((base, candidate))
    prior = estimate_prior({}, pairs)
    assert np.sqrt(prior.pair_var) == pytest.approx(0.004 * np.sqrt(2), rel=0.15)
    assert prior.correlation == 0
    rest, lost = residuals_of_order([0.0, 0.1, 0.0, 0.1], order_of_pairs(range(4)))
    assert lost == 2
    assert rest == pytest.approx(np.zeros(4))
