"""A test that asserts on a reading which a disturbed machine left out ends as inconclusive, as its verdict says."""

from __future__ import annotations

import pytest

DISTURBED = """
from pytest_slmperf.measuring import launch

launch.judge_rounds = lambda evidence, *rest: ["a neighbour took the CPU"] * len(evidence)
"""
SUITE = """
def test_load(slmperf):
    found = slmperf.serving(rate=5.0, num_requests=4, input_len=8, output_len=4, slo={"ttft": 100})
    assert found["slo_attainment"] > 0.9

def test_sweep(slmperf):
    sweep = slmperf.sweep(batch=[1, 8, 64], input_len=8, output_len=8)
    assert sweep.knee().share_of_peak >= 0.95
    assert sweep.at(64, "output_throughput") > sweep.at(1, "output_throughput")

def test_batch(slmperf):
    assert slmperf.offline(batch=1, input_len=8, output_len=8)["output_throughput"] > 0

def test_replicas(slmperf):
    found = slmperf.replication([1, 2], batch=2, requests=4, input_len=8, output_len=8, fair=False)
    assert found.useful.replicas == 2

def test_throughput_of_replicas(slmperf):
    found = slmperf.replication([1, 2], batch=2, requests=4, input_len=8, output_len=8, fair=False)
    assert found.throughput(2) > found.throughput(1)
"""


@pytest.mark.parametrize(("fail_on", "code"), [("regressed", 0), ("inconclusive", 1)])
def test_a_disturbed_machine_fails_no_assertion(perf, pytester, results, fail_on, code):
    pytester.makeconftest(DISTURBED)
    done = perf("--slmperf-fail-on", fail_on, suite=SUITE)
    assert done.ret == code, done.stdout.str()
    assert "LookupError" not in done.stdout.str()
    for result in results()["results"]:
        assert result["verdicts"][0]["verdict"] == "inconclusive"
        assert "a neighbour took the CPU" in result["verdicts"][0]["reason"]
    assert results()["session"]["failed_tests"] == []


def test_a_wrong_name_is_still_an_error(perf):
    done = perf(suite='def test_x(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)["speed"]\n')
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*LookupError: *has no metric 'speed'*"])


@pytest.mark.parametrize("option", ["--slmperf-approve", "--slmperf-save=v1"])
def test_a_baseline_that_was_asked_for_and_not_measured_fails_the_session(perf, pytester, option):
    pytester.makeconftest(DISTURBED)
    one = "def test_one(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n"
    done = perf(option, suite=one)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["slmperf: baseline not written: no result could be saved as '*'"])
    assert not list(pytester.path.glob("baselines/*/*/*/*.json"))
