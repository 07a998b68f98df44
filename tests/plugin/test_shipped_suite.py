"""The suite this project ships, as a GPU runs it: the simulated engine set from published figures, on a virtual clock.

No GPU is needed to see whether the quick profile fits into its time there; what it measures does not matter here.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.published_engine import ARGS
from support.virtual_clock import virtual_clock

SUITE = Path(__file__).parents[2] / "perf_tests"
START_S = 30  # of vLLM on a GPU: importing, compiling, capturing graphs
GPU = ("perf_tests", "--slmperf-device", "cuda:0", "--slmperf-model", "opt-1.3b", *ARGS)
NOISE = ("--slmperf-set", "noise_launch=0.004", "--slmperf-set", "noise_round=0.005")


@pytest.fixture
def shipped(pytester):
    shutil.copytree(SUITE, pytester.path / "perf_tests", ignore=shutil.ignore_patterns("__pycache__"))
    pytester.makeconftest(virtual_clock(START_S))


def test_the_quick_profile_fits_into_its_time_on_a_gpu(perf, results, shipped, monkeypatch):
    """The first run measures every test as often as a verdict takes, the second judges every one."""
    monkeypatch.setenv("SLMPERF_SIMULATED_SEED", "first")
    first = perf(*GPU, *NOISE, "--slmperf-approve", suite="")
    found = results()["results"]
    assert len(found) >= 11, first.stdout.str()
    for result in found:
        assert result["launches"], result["id"]
        assert max(len(metric["launches"]) for metric in result["metrics"].values()) >= 2, result["id"]
        assert judged(result) == {"new"}, result["id"]
    assert seconds(first) < 0.8 * 900  # engines may take longer to start than here

    monkeypatch.setenv("SLMPERF_SIMULATED_SEED", "second")
    second = perf(*GPU, *NOISE, suite="")
    assert second.ret == 0, second.stdout.str()
    found = results()["results"]
    verdicts = {result["id"]: judged(result) for result in found}
    assert all(found <= {"same", "improved"} for found in verdicts.values()), verdicts
    assert seconds(second) < 900
    for run in (first, second):
        run.stdout.no_fnmatch_line("*the time ended*")


def judged(result: dict) -> set[str]:
    """The verdicts on what a virtual clock can show: there is no meter on it."""
    return {verdict["verdict"] for verdict in result["verdicts"] if not verdict["metric"].startswith("energy")}


def seconds(run: pytest.RunResult) -> float:
    """What went by on the virtual clock."""
    told = re.search(r"virtual seconds: (\d+)", run.stdout.str())
    assert told is not None, run.stdout.str()
    return float(told[1])
