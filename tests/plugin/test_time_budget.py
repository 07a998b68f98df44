"""A session's time is shared so that every test of it is measured, on a clock that moves by what engines say they took."""

from __future__ import annotations

import re

from support.virtual_clock import virtual_clock

SUITE = """
import pytest

NOISE = {"step_ms": 50.0, "noise_session": 0.04, "noise_round": 0.03}


@pytest.mark.parametrize("number", range(8))
@pytest.mark.slmperf(settings=NOISE, rounds=4)
def test_one_of_many(slmperf, number):
    slmperf.offline(batch=1 + number, input_len=16, output_len=16)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.slmperf(settings=NOISE | {"seed": 1}, rounds=4)
def test_with_an_engine_of_its_own(slmperf, number):
    slmperf.offline(batch=1 + number, input_len=16, output_len=64)
"""


def test_every_test_is_measured_against_a_young_baseline(perf, pytester, results, monkeypatch):
    """One stored session, sessions that differ by 4 %: most verdicts stay open, and that must not starve the last tests,
    which take four times as long."""
    pytester.makeconftest(virtual_clock(start_s=6))
    monkeypatch.setenv("SLMPERF_SIMULATED_SEED", "first")
    perf("--slmperf-approve", "--slmperf-max-time", "1000", suite=SUITE)
    monkeypatch.setenv("SLMPERF_SIMULATED_SEED", "second")
    result = perf("--slmperf-max-time", "215", suite=SUITE)
    found = results()["results"]
    assert len(found) == 10
    launches = [len(one["metrics"]["output_throughput"]["launches"]) for one in found]
    assert min(launches) >= 1, launches
    assert min(launches) >= 2, launches
    assert max(launches) > 2, launches  # what early tests left was used
    result.stdout.no_fnmatch_line("*not measured*")
    result.stdout.no_fnmatch_line("*the time ended before every test*")

    # Not enough for all: the cheap tests have their launches all the same, and the time that is enough is told and right.
    result = perf("--slmperf-max-time", "150", suite=SUITE)
    launches = [len(one["metrics"]["output_throughput"]["launches"]) for one in results()["results"]]
    assert min(launches[:8]) >= 2, launches
    assert launches[-1] < 2, launches
    said = " ".join(result.stdout.str().split())
    enough = re.search(
        r"the time ended before every test had its fewest launches \(.*own.*\); --slmperf-max-time (\d+)", said
    )
    assert enough, said
    result = perf("--slmperf-max-time", enough[1], suite=SUITE)
    launches = [len(one["metrics"]["output_throughput"]["launches"]) for one in results()["results"]]
    assert min(launches) >= 2, launches
