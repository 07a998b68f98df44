"""What was written for version 0.1 still works: its documented engine and meter, word for word, its results and baselines.

``tests/compat`` holds the two pages of its documentation, and what a session of it wrote on the simulated engine.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

KEPT = Path(__file__).parents[1] / "compat"
SUITE = """
def test_batch(slmperf):
    slmperf.offline(batch=8, input_len=16, output_len=16)


def test_load(slmperf):
    slmperf.serving(rate=50.0, input_len=16, output_len=8, num_requests=20, slo={"ttft": 1000})
"""
# a machine that runs other tests meanwhile is no reason to discard a round here
BUSY = ("cpu_wait_share", "cpu_wait_above_usual", "nivcsw_per_s", "steal_share", "psi_cpu_some", "others_share")
FLAT = '''
from pytest_slmperf.energy.base import DeviceReading, EnergyReading


class FlatWatch:
    """50 W, always; nothing but what the Protocol of 0.1 had."""

    def reading(self, t_start, t_end):
        seconds = t_end - t_start
        device = DeviceReading("board", None, "flat", "board", 50.0 * seconds, 0.01 * seconds, seconds)
        return EnergyReading((device,), t_start, t_end)

    def trace(self):
        return {"t_s": [], "watts": {}}

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class FlatMeter:
    name, available, reason = "flat", True, None

    def devices(self):
        return [{"name": "board"}]

    def watch(self):
        return FlatWatch()

    def idle_power_w(self, seconds):
        return 20.0

    def close(self):
        pass


def pytest_slmperf_meters(config):
    return [FlatMeter()]
'''


def blocks(page: str) -> dict[str, str]:
    """The files of a page of the documentation, by name."""
    text = (KEPT / page).read_text("utf-8")
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL))


def slmperf(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.run(sys.executable, "-m", "pytest_slmperf.cli.main", *args)


def test_the_engine_and_a_meter_of_the_old_documentation_measure(perf, pytester, results, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(pytester.path))  # nobody else measures on a device of this folder
    files = blocks("add-an-engine-0.1.md")
    pytester.makepyfile(sleepy_worker=files["sleepy_worker.py"])
    pytester.makeconftest(files["conftest.py"] + FLAT)
    busy = [f"--slmperf-evidence-limit={name}=off" for name in BUSY]
    options = ("--slmperf-launches=1", "--slmperf-rounds=2", "--slmperf-meter=flat", *busy)
    done = perf(*options, engine="sleepy", suite=files["test_sleepy.py"])
    assert done.ret == 0, done.stdout.str()
    (result,) = results()["results"]
    assert result["engine"]["name"] == "sleepy"
    assert result["metrics"]["output_throughput"]["value"] > 0
    assert result["energy"]["source"] == "flat"
    assert result["energy"]["joules"] > 0


def test_the_counter_of_the_old_documentation_is_a_meter(pytester):
    files = blocks("energy-own-meter-0.1.md")
    pytester.makeconftest(files["conftest.py"])
    counter = pytester.path / "hwmon/board/energy1_input"
    counter.parent.mkdir(parents=True)
    counter.write_text("5000000")
    pytester.makepyfile(
        """
        from pathlib import Path

        from conftest import HwmonMeter
        from pytest_slmperf.energy.registry import choose


        def test_meter():
            meter = choose([HwmonMeter(Path("hwmon"))], "hwmon")
            assert meter.available
            assert [device["name"] for device in meter.devices()] == ["board"]
            absent = choose([HwmonMeter(Path("nowhere"))], "hwmon")
            assert "no energy1_input" in absent.reason
        """
    )
    done = pytester.runpytest_subprocess("-W", "default")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*DeprecationWarning: pytest_slmperf.energy.polled is now *"])


def test_results_of_the_old_version_are_compared_and_reported(pytester):
    base, slow = str(KEPT / "results-base.json"), str(KEPT / "results-slow.json")
    assert slmperf(pytester, "compare", base, base).ret == 2  # two launches tell nothing of 0.0 %, as in 0.1
    compared = slmperf(pytester, "compare", base, slow)
    assert compared.ret == 1
    compared.stdout.fnmatch_lines(["*output_throughput*regressed*"])
    assert slmperf(pytester, "report", slow, "-o", "report.html").ret == 0
    assert "test_batch" in Path(pytester.path, "report.html").read_text()


def test_baselines_of_the_old_version_are_listed_and_judge_a_session(perf, pytester, results):
    shutil.copytree(KEPT / "baselines", pytester.path / "baselines")
    listed = slmperf(pytester, "baselines", "list")
    assert listed.ret == 0
    listed.stdout.fnmatch_lines(["*test_perf.py::test_batch*"])
    options = ("--slmperf-model=opt-125m", "--slmperf-launches=2", "--slmperf-rounds=2")
    assert perf(*options, suite=SUITE).ret == 0
    verdicts = {one["metric"]: one["verdict"] for one in results()["results"][0]["verdicts"]}
    assert verdicts["output_throughput"] == "same"
    assert perf(*options, "--slmperf-set=slowdown=0.5", suite=SUITE).ret == 1
