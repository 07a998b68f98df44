"""The launch host as a level of its own: its share of a mean, its variance, and what intervals are worth with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from pytest_slmperf.engines.pool import host_number
from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.crossover import order_of_pairs
from pytest_slmperf.statistics.estimate import Hosts, against_stored, host_share, host_spread, paired
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, estimate_prior

SIZE = 4000
PRIOR = VariancePrior(0.01**2, 60, 2 * 0.01**2, 60, 0.0025**2, 30, "known", host_var=0.02**2, host_df=20)
NUMBERS = np.array([host_number(launch) for launch in range(8)])


@pytest.mark.parametrize(
    ("hosts", "chosen", "share"),
    [
        ([0, 1, 1, 0], [1, 1, 1, 1], 0.5),
        ([0, 0, 0, 0], [1, 1, 1, 1], 1.0),
        ([0, 1, 1, 0], [0, 0, 1, 1], 0.5),
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),
        ([-1, -1, -1, -1], [1, 1, 1, 1], 0.0),
        ([-1, 0, 0, -1], [1, 1, 1, 1], 0.25),
    ],
)
def test_a_hosts_share_of_a_mean(hosts, chosen, share) -> None:
    assert host_share(np.array(hosts), np.array([chosen], dtype=bool))[0] == pytest.approx(share)


def drawn(rng: np.random.Generator, numbers: np.ndarray, host: float, launch: float = 0.01) -> np.ndarray:
    """Launches (SIZE, launches) with the effects of their hosts."""
    return rng.normal(0, host, (SIZE, numbers.max() + 1))[:, numbers] + rng.normal(0, launch, (SIZE, len(numbers)))


@pytest.mark.parametrize("host", [0.0, 0.02])
def test_the_variance_between_hosts_is_that_of_their_means_without_their_launches(host) -> None:
    values = drawn(np.random.default_rng(3), NUMBERS, host)
    unit = np.full(SIZE, 0.01**2)
    var, df = host_spread([values, values], [NUMBERS, NUMBERS], unit, 0.0, 0.0)
    assert df == 6
    # an estimate below 0 counts as 0, so that no variance is a little above none
    assert np.mean(var) == pytest.approx(host**2, abs=0.15 * host**2 + 0.3 * 0.01**2)


def covers(found, level: float = 0.025) -> float:
    return float((np.abs(found.delta) <= -stdtrit(found.df, level) * found.se).mean())


def test_intervals_hold_with_the_hosts_and_would_not_without_them() -> None:
    rng = np.random.default_rng(4)
    candidate = drawn(rng, NUMBERS, 0.02)
    sessions = [drawn(rng, NUMBERS[:4], 0.02) for _ in range(4)]
    nothing = np.zeros(SIZE)
    hosts = Hosts(NUMBERS, [NUMBERS[:4]] * 4)
    assert covers(against_stored(candidate, sessions, PRIOR, nothing, nothing, None, hosts)) > 0.94
    assert covers(against_stored(candidate, sessions, PRIOR, nothing, nothing)) < 0.9
    apart = candidate - drawn(rng, NUMBERS, 0.02)
    turn = order_of_pairs(range(8))
    assert covers(paired(apart, PRIOR, nothing, nothing, None, turn, Hosts(NUMBERS))) > 0.94
    assert covers(paired(apart, PRIOR, nothing, nothing, None, turn)) < 0.93


def test_without_forked_launches_everything_is_as_it_was() -> None:
    rng = np.random.default_rng(5)
    own = np.full(8, -1)
    values, nothing = drawn(rng, NUMBERS, 0.0), np.zeros(SIZE)
    for plain, hosted in (
        (paired(values, PRIOR, nothing, nothing), paired(values, PRIOR, nothing, nothing, hosts=Hosts(own))),
        (
            against_stored(values, [values[:, :4]], PRIOR, nothing, nothing),
            against_stored(values, [values[:, :4]], PRIOR, nothing, nothing, hosts=Hosts(own, [own[:4]])),
        ),
    ):
        for before, now in zip(plain, hosted, strict=True):
            assert np.array_equal(before, now)


def test_a_history_teaches_what_hosts_differ_by_and_counts_each_host_once_however_many_tests_it_served() -> None:
    rng = np.random.default_rng(6)
    history: dict[str, list[LaunchSample]] = {f"test {test}": [] for test in range(10)}
    for session in range(12):
        off = rng.normal(0, 0.03, 4)
        for samples in history.values():
            for launch in range(8):
                level = off[host_number(launch)] + rng.normal(0, 0.005)
                samples.append(
                    LaunchSample([float(np.exp(level))] * 3, str(session), host=f"{session}/{host_number(launch)}")
                )
    prior = estimate_prior(history)
    assert prior.host_df == STATED_PRIOR.host_df + 12 * 3
    assert np.sqrt(prior.host_var) == pytest.approx(0.03, rel=0.3)
    assert "launch hosts" in prior.source
    # one launch a host says nothing of hosts
    pairs = {name: [sample for number, sample in enumerate(each) if number % 8 < 2] for name, each in history.items()}
    assert estimate_prior(pairs).host_var == STATED_PRIOR.host_var
    fresh = {name: [LaunchSample(sample.rounds, sample.session) for sample in each] for name, each in history.items()}
    assert estimate_prior(fresh).host_var == STATED_PRIOR.host_var
