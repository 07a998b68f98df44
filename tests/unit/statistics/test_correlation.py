"""Launches that resemble the one before: seen in the history, and paid for in the standard error."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.correlation import mean_factor, scatter_share, shown_correlation
from pytest_slmperf.statistics.estimate import paired
from pytest_slmperf.statistics.variance import STATED_PRIOR, estimate_prior


def ar1(rng: np.random.Generator, correlation: float, groups: int, launches: int) -> np.ndarray:
    found = np.empty((groups, launches))
    found[:, 0] = rng.standard_normal(groups)
    for number in range(1, launches):
        fresh = rng.standard_normal(groups)
        found[:, number] = correlation * found[:, number - 1] + np.sqrt(1 - correlation**2) * fresh
    return found


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("launches", [3, 8])
def test_factors_are_those_of_simulated_launches(correlation, launches):
    drawn = ar1(np.random.default_rng(1), correlation, 40_000, launches)
    count = np.array([float(launches)])
    assert drawn.mean(axis=1).var() * launches == pytest.approx(mean_factor(correlation, count)[0], rel=0.03)
    assert drawn.var(axis=1, ddof=1).mean() == pytest.approx(scatter_share(correlation, count)[0], rel=0.03)


def test_independent_launches_show_none():
    rng = np.random.default_rng(2)
    shown = [shown_correlation(list(rng.standard_normal((40, 4)) * 0.01)) for _ in range(200)]
    assert sum(value > 0 for value in shown) <= 6  # one in a hundred by design


def test_correlated_launches_show_it_whatever_each_test_scatters():
    rng = np.random.default_rng(3)
    groups = ar1(rng, 0.6, 400, 6) * np.exp(rng.normal(0, 0.5, 400))[:, None]
    assert shown_correlation(list(groups)) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("groups", [[], [[1.0]], [[1.0, 2.0]], [[1.0, 1.0, 1.0]]])
def test_what_tells_nothing_shows_none(groups):
    assert shown_correlation(list(groups)) == 0.0


def test_history_brings_it_into_the_prior_and_the_prior_into_the_standard_error():
    logs = 0.01 * ar1(np.random.default_rng(4), 0.7, 100, 5)
    history = {f"t{n}": [LaunchSample([100 * np.exp(v)], session="a") for v in row] for n, row in enumerate(logs)}
    prior = estimate_prior(history)
    assert 0.5 < prior.correlation < 0.9
    assert "resemble the one before" in prior.source
    assert np.sqrt(prior.launch_var) == pytest.approx(0.01, rel=0.15)
    pairs = np.array([[0.01, 0.012, 0.009, 0.011]])
    zero = np.zeros(1)
    alone = paired(pairs, STATED_PRIOR, zero, zero)
    alike = paired(pairs, prior, zero, zero)
    assert alike.own_se[0] > 2 * alone.own_se[0]
    assert alike.own_df[0] < alone.own_df[0]


def test_a_course_that_tests_share_with_their_processes_is_one_course() -> None:
    """The first engine of a session is a slow one, in every test that it serves."""
    rng = np.random.default_rng(4)
    course = np.array([-0.06, -0.02, 0.01, 0.02])
    hosts = ("a", "b", "b", "a")

    def tests(forked: bool) -> dict[str, list[LaunchSample]]:
        return {
            f"test {number}": [
                LaunchSample([100 * float(np.exp(off + rng.normal(0, 0.003)))], "today", host=host if forked else None)
                for off, host in zip(course, hosts, strict=True)
            ]
            for number in range(6)
        }

    assert estimate_prior(tests(forked=False)).correlation > 0.5
    assert estimate_prior(tests(forked=True)).correlation == 0.0
