"""How far the cost model is from each published figure. The bounds are the residuals, rounded up: a change of the model that
makes one worse shows here. The figures and their source: benchmarks/published_fit.py."""

import functools
import importlib.util
import statistics
from pathlib import Path

import pytest

from pytest_slmperf.frontier.advisor import largest_batch
from pytest_slmperf.frontier.knee import share_knee
from pytest_slmperf.frontier.points import MetricBound, Point

_SPEC = importlib.util.spec_from_file_location(
    "published_fit", Path(__file__).parents[3] / "benchmarks" / "published_fit.py"
)
fit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fit)
run = functools.cache(fit.run)  # several tests look at one run


@pytest.fixture(scope="module")
def sweep():
    """max_num_seqs → point of the cost model, at every published batch limit."""
    points = []
    for batch in fit.PUBLISHED:
        (outcome,), rate, _ = run(batch)
        itl = 1e3 * statistics.fmean(outcome.gaps)
        points.append(Point(batch, {"rate": rate, "itl": itl, "kv": 100 * outcome.kv_peak}))
    return points


def test_saturated_sweep(sweep):
    for point in sweep:
        rate, itl, kv = fit.PUBLISHED[point.key]
        assert point.values["rate"] == pytest.approx(rate, rel=0.025)
        assert point.values["itl"] == pytest.approx(itl, rel=0.02)
        assert point.values["kv"] == pytest.approx(kv, abs=2)


def test_knee_and_advice_are_the_published_ones(sweep):
    knee = share_knee(sweep, "rate")
    assert knee.key == 256
    assert knee.share_of_peak == pytest.approx(0.957, abs=0.007)
    itl = {point.key: point.values["itl"] for point in sweep}
    picks = [largest_batch(sweep, "rate", [MetricBound("itl", factor * itl[32])]).key for factor in (2, 3, 4)]
    assert picks == [96, 128, 256]


def test_replicas():
    outcomes, rates = {}, {}
    for replicas in (1, 2, 4):
        outcomes[replicas], _, rates[replicas] = run(256, replicas=replicas) if replicas > 1 else run(256)
    told = fit.PUBLISHED_REPLICAS
    assert rates[2] == pytest.approx(told[2, 256], rel=0.005)
    assert rates[4] == pytest.approx(told[4, 256], rel=0.005)
    assert rates[4] / rates[2] - 1 == pytest.approx(told[4, 256] / told[2, 256] - 1, abs=0.005)
    assert 1.3 < rates[2] / rates[1] < 1.45  # published 14669 / 10810 = 1.357
    assert sum(one.preemptions for one in outcomes[2]) == 0
    assert sum(one.preemptions for one in outcomes[4]) > 0
    assert max(one.kv_peak for one in outcomes[4]) > 0.99


def test_one_engine_with_all_the_memory():
    _, _, apart = run(768)
    _, _, chunked = fit.run(768, mixed=True)
    assert chunked == pytest.approx(fit.PUBLISHED_CHUNKED, rel=0.035)  # a prediction: nothing was fitted to it
    assert apart == pytest.approx(fit.PUBLISHED_REPLICAS[1, 768], rel=0.025)


def test_without_mps_four_replicas_of_96_are_worse_than_one_of_768():
    assert fit.run(96, replicas=4, sharing="time-slice")[2] < run(768)[2]


@pytest.mark.parametrize(
    ("spread", "runtime_gb", "gain"), [(True, 2, 0.0), (True, 0, 0.046), (False, 2, 0.12), (False, 0, 0.151)]
)
def test_the_fourth_replica_stops_paying_where_lengths_differ_and_engines_take_memory(
    spread, runtime_gb, gain, monkeypatch
):
    """docs/explanation/frontier.md tells these figures, and why a dry run with fixed lengths shows no stop."""
    monkeypatch.setattr(fit, "REPLICA_TOKENS", 13_300 + 5_100 * runtime_gb)  # 192 KiB each
    if not spread:
        monkeypatch.setattr(fit, "lengths", lambda count: [(0.0, 111, 292)] * count)
    _, _, two = fit.run(256, replicas=2)
    four, _, rate = fit.run(256, replicas=4)
    assert rate / two - 1 == pytest.approx(gain, abs=0.003)
    assert max(one.kv_peak for one in four) > 0.99
