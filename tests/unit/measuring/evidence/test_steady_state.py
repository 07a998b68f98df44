"""Where the warm-up ends."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.measuring.evidence_checks import steady_state


def rounds(seed, count, noise, lead=(), slope=0.0):
    logs = np.random.default_rng(seed).normal(0, noise, count) + slope * np.arange(count)
    logs[: len(lead)] += lead
    return [float(value) for value in 1.3 * np.exp(logs)]


def judged(count, noise, lead=(), slope=0.0, draws=100):
    return [steady_state(rounds(seed, count, noise, lead, slope)) for seed in range(draws)]


def test_calm_rounds_need_no_warmup():
    found = judged(12, 0.01)
    assert sum(s.steady for s in found) >= 95
    assert sum(s.warmup == 0 for s in found) >= 80


@pytest.mark.parametrize("sign", [1, -1], ids=["seconds", "throughput"])
def test_first_rounds_of_a_fresh_engine_are_left_out(sign):
    """As measured on vLLM's CPU engine: the first three or four rounds are 25 … 2 % slow."""
    found = judged(15, 0.005, [sign * x for x in (0.25, 0.10, 0.05, 0.02)])
    assert sum(s.steady for s in found) >= 95
    assert sum(s.warmup >= 3 for s in found) >= 97
    assert sum(s.warmup for s in found) / len(found) < 5


def test_a_lasting_drift_is_not_steady():
    assert sum(s.steady for s in judged(20, 0.01, slope=0.02)) <= 2


def test_a_burst_in_the_middle_is_no_warmup():
    values = rounds(3, 14, 0.01)
    values[8] *= 3
    found = steady_state(values)
    assert (found.steady, found.warmup) == (True, steady_state(rounds(3, 14, 0.01)).warmup)


def test_constant_rounds_are_steady():
    assert steady_state([2.0] * 6).steady


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_rounds_tell_nothing(count):
    found = steady_state([1.0] * count)
    assert not found.steady
    assert "too few" in found.reason


def test_bad_rounds_are_refused():
    with pytest.raises(InvalidInput):
        steady_state([1.0, 0.0, 1.0])


@pytest.mark.parametrize("rounds", [5, 8, 10])
@pytest.mark.parametrize("per_round", [0.01, 0.03, -0.02])
def test_a_drift_from_round_to_round_is_not_steady(rounds, per_round):
    rng = np.random.default_rng(rounds)
    found = [
        steady_state(list(np.exp(rng.normal(0, 0.003, rounds) + per_round * np.arange(rounds)))).steady
        for _ in range(40)
    ]
    assert sum(found) <= 3


@pytest.mark.parametrize("rounds", [[1.0, 1.5], [1.0, 1.5, 2.5]])
def test_few_rounds_that_differ_are_told_as_not_steady(rounds):
    """A user may ask for two rounds a launch."""
    found = steady_state(rounds, least=2)
    assert not found.steady
    assert found.drift is not None
    assert found.drift > 0.4
