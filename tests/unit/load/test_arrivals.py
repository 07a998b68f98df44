import math

import pytest
from scipy import stats

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.arrivals import Constant, Gamma, Ramp, Recorded, poisson


def gaps(times):
    return [b - a for a, b in zip([0.0, *times], times, strict=False)]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_pass_a_kolmogorov_smirnov_test(burstiness):
    times = Gamma(50.0, burstiness).times(100, seed=7)
    asked = stats.gamma(burstiness, scale=1 / (50.0 * burstiness))
    assert stats.kstest(gaps(times), asked.cdf).pvalue > 0.01


def test_poisson_gaps_are_exponential_and_not_rescaled():
    processes = [poisson(20.0).times(50, seed=seed) for seed in range(200)]
    pooled = [gap for times in processes for gap in gaps(times)[:500]]
    assert stats.kstest(pooled, stats.expon(scale=1 / 20).cdf).pvalue > 0.01
    # trap: gaps rescaled so that n requests take n/rate would give the same count every time; a Poisson count varies
    counts = [len(times) for times in processes]
    variance_to_mean = stats.tvar(counts) / stats.tmean(counts)
    assert 0.75 < variance_to_mean < 1.3


def test_constant_times_do_not_drift():
    times = Constant(3.0).times(10_000, seed=0)
    assert len(times) == 30_000
    assert times[-1] == 29_999 / 3.0  # exactly, not a sum of thirty thousand rounded gaps


def test_ramp_rate_grows_in_a_line():
    times = Ramp(0.0, 100.0).times(100, seed=3)
    assert len(times) == pytest.approx(5000, abs=4 * math.sqrt(5000))
    share_before_half = sum(t < 50 for t in times) / len(times)
    assert share_before_half == pytest.approx(0.25, abs=0.03)
    assert times == sorted(times)
    assert len(Ramp(50.0, 50.0).times(10, seed=1)) == pytest.approx(500, abs=100)


def test_same_seed_same_schedule():
    assert poisson(5).times(20, 1) == poisson(5).times(20, 1)
    assert poisson(5).times(20, 1) != poisson(5).times(20, 2)


def test_recorded_times_and_speed():
    trace = Recorded((0.0, 1.0, 5.0), speed=2.0)
    assert trace.times(2.0, 0) == [0.0, 0.5]
    assert trace.times(10.0, 0) == [0.0, 0.5, 2.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: poisson(0),
        lambda: poisson(math.inf),
        lambda: poisson(math.nan),
        lambda: Gamma(1, 0),
        lambda: Constant(-1),
        lambda: Ramp(-1, 5),
        lambda: Recorded(()),
        lambda: Recorded((2.0, 1.0)),
        lambda: Recorded((0.0, math.nan)),
        lambda: Recorded((0.0,), speed=0),
        lambda: poisson(1).times(0, 0),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize("arrivals", [Gamma(1e9), Constant(1e9), Ramp(1.0, 1e9)])
def test_a_rate_that_no_memory_holds_is_refused_at_once(arrivals):
    with pytest.raises(InvalidInput, match="lower the rate or the duration"):
        arrivals.times(1.0, 0)
