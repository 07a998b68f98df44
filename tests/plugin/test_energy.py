"""The main job under fake GPUs: energy in terminal, JSON and report, an energy regression, a meter that is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.fake_nvml import DRIVER, FakeGpu, FakeNvml

from pytest_slmperf.energy.counter.calibration import FILE, Calibration, Profile

SUITE = """
def test_batch(slmperf):
    slmperf.offline(batch=8, input_len=16, output_len=64)

def test_wide(slmperf):
    slmperf.offline(batch=16, input_len=16, output_len=64)
"""

# Other work on the machine that runs these tests must not disturb rounds of an engine that only sleeps.  Ten ticks of rest
# tell the power of a steady device as well as fifty do.
CALM = """
from pytest_slmperf.environment import evidence
from pytest_slmperf.measuring import context, launch

evidence.delta = lambda before, after: {}
context.SECONDS = launch.IDLE_S = 0.1
"""

DEAD = [f"fail {symbol} 3 after 0" for symbol in ("nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption")]
DEAD.append("fail nvmlDeviceGetPowerUsage 3 after 0")


# Saved without a comparison: what a first run finds of a second one is no matter of these tests.
SAVED = ("--slmperf-save", "main", "--slmperf-reason", "first", "--slmperf-baseline", "nothing-yet")
ONCE = ("--slmperf-max-launches", "2")  # where no verdict rests on the number of launches
STATE = ".slmperf"
UUIDS = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab"]


def card(watts: float, number: int = 0, tick: float = 0.01) -> FakeGpu:
    return FakeGpu([(0.0, watts)], uuid=UUIDS[number], tick=tick, phase=0.003 + 0.001 * number)


@pytest.fixture
def gpu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """One GPU at 300 W whose counter ticks every 10 ms, seen by every process that the test starts.

    Its tick is known from before; the test of the whole way from counter to verdict forgets that.
    """
    fake = FakeNvml(pytester.path, [card(300.0)])
    for uuid in UUIDS:
        Profile(pytester.path / STATE).put(uuid, DRIVER, Calibration(0.01, 0.001))
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pytester.makeconftest(CALM)
    return fake


@pytest.fixture
def measured(perf, gpu):
    """A run on the simulated engine in real time: rounds of 0.16 s, two launches."""

    def run(*args: str, suite: str = SUITE) -> pytest.RunResult:
        engine = ("--slmperf-set", "clock=real", "--slmperf-set", "step_ms=2.5", "--slmperf-set", "overhead_ms=0")
        effort = ("--slmperf-launches", "2", "--slmperf-rounds", "3", "--slmperf-energy-bound", "0.02")
        return perf(*engine, *effort, *args, suite=suite)

    return run


def window(energy: dict) -> float:
    """Seconds between the ticks that the window was matched to."""
    return sum(b - a for a, b in energy["devices"][0]["edges"])


def verdicts(found: dict, test: str) -> dict[str, str]:
    result = next(result for result in found["results"] if result["id"].endswith(test))
    return {verdict["metric"]: verdict["verdict"] for verdict in result["verdicts"]}


def test_energy_from_the_counter_to_the_verdict(measured, results, gpu, pytester):
    """Joules with bound and source everywhere; 8 % more power at unchanged throughput is an energy regression."""
    calibrated = Path(pytester.path, STATE, FILE)
    calibrated.unlink()

    def three_sessions() -> pytest.RunResult:
        shutil.rmtree(pytester.path / "baselines", ignore_errors=True)
        for _ in range(3):
            kept = measured(*SAVED, "--slmperf-price-per-kwh", "0.3", "-k", "batch")
            assert kept.ret == 0, kept.outlines
        return kept

    kept = three_sessions()
    found = results()["results"][0]
    energy = found["energy"]
    assert (energy["source"], energy["scope"], energy["gain"]) == ("nvml-counter", "gpu", 0.05)
    assert abs(energy["joules"] - 300 * energy["window_s"]) <= energy["bound_j"] <= 0.021 * energy["joules"]
    assert energy["tick_s"] == pytest.approx(0.01, rel=0.1)
    assert energy["idle_w_before"] == pytest.approx(300, rel=0.02)
    assert energy["idle_w_after"] == pytest.approx(300, rel=0.02)
    assert energy["witness"]["source"] == "nvml-power"
    assert energy["devices"][0]["uuid"].startswith("GPU-")
    series = energy["trace"]["watts"]["Fake H100 80GB HBM3"]
    assert len(series) == len(energy["trace"]["t_s"]) > 20
    assert max(series) == pytest.approx(300)
    metrics = found["metrics"]
    tokens = sum(len(launch) for launch in metrics["output_throughput"]["launches"]) * 8 * 64
    whole = energy["rounds"]
    speed = metrics["output_throughput"]["value"]
    assert metrics["energy_per_output_token"]["value"] * speed == pytest.approx(300, rel=0.01)
    inside = whole["joules"] * (
        1 - whole["gaps_s"] / whole["window_s"]
    )  # what a busy host puts between rounds is no token's
    assert metrics["energy_per_output_token"]["value"] * tokens == pytest.approx(inside, rel=0.01)
    assert abs(whole["joules"] - 300 * whole["window_s"]) <= whole["bound_j"]
    assert energy["edges"] == "ticks"  # sharper than the whole rounds, of which they leave out little
    assert 0.8 * whole["window_s"] <= energy["window_s"] <= whole["window_s"]
    assert 0 < window(energy) <= energy["window_s"] * 1.001  # a launch on a busy host may be read over its rounds
    assert energy["bound_j"] / energy["joules"] < whole["bound_j"] / whole["joules"]
    assert "bound reached" in energy["repeats"]
    assert energy["idle_w_bare"] == pytest.approx(300, rel=0.02)
    assert metrics["mean_power"]["value"] == pytest.approx(300, rel=0.02)
    assert all(metrics[name]["value"] > 0 for name in ("energy_per_request", "energy_delay_product"))
    assert json.loads(calibrated.read_text())  # the calibration is kept
    kept.stdout.fnmatch_lines(["*energy_per_* J/tok*", "energy: nvml-counter, gpu; bound *; idle *"])
    kept.stdout.fnmatch_lines(["cost of a million output tokens: * (at 0.3 a kWh)"])
    assert energy["cost"]["cost"] == pytest.approx(energy["joules"] / 3.6e6 * 0.3)
    assert "carbon_g" not in energy["cost"]  # no figure of the grid was given: none is guessed
    page = Path(pytester.path, ".slmperf/report.html").read_text()
    for text in (
        "idle before",
        "gross energy",
        "nvml-counter",
        "net of idle",
        "gain uncertainty",
        "idle, bare",
        "at 0.3 a kWh",
    ):
        assert text in page

    wanted = {"energy_per_output_token": "regressed", "output_throughput": "same"}
    for _ in range(3):  # a busy host may leave a verdict open, but makes none wrong: then both sides are measured again
        gpu.gpus[0].steps = [(0.0, 324.0)]
        gpu.write()
        after = measured("-k", "batch")
        told = verdicts(results(), "test_batch")
        if told == wanted:
            break
        assert all(told[name] in (wanted[name], "inconclusive") for name in wanted)
        gpu.gpus[0].steps = [(0.0, 300.0)]
        gpu.write()
        three_sessions()
    assert told == wanted
    after.assert_outcomes(failed=1)
    after.stdout.fnmatch_lines(["regressed: *energy_per_output_token*"])

    gpu.gpus[0].steps, gpu.gpus[0].lines = [(0.0, 300.0)], DEAD
    gpu.write()
    unplugged = measured("-k", "batch", *ONCE)
    found = results()["results"][0]
    assert found["energy"]["joules"] is None
    assert "not supported by this device" in found["energy"]["reason"]
    assert found["metrics"]["output_throughput"]["value"] > 0
    told = verdicts(results(), "test_batch")
    assert told["output_throughput"] in ("same", "inconclusive")
    assert told["energy_per_output_token"] not in ("same", "improved")
    assert "unavailable" in unplugged.stdout.str() or "not supported" in unplugged.stdout.str()


def test_a_gpu_lost_in_the_middle_leaves_throughput_and_the_machine_as_they_were(measured, results, gpu, pytester):
    """The device falls off the bus in the first test: energy says so, nothing reads 0, and the tests still end.

    The machine's name and memory were asked before anything ran: asked afterwards, the run would be one of another machine.
    """
    lost = """
from pathlib import Path

from pytest_slmperf.measuring.launch import LaunchRun


def lose(self, finish=LaunchRun._finish):
    path = Path("gpus.txt")
    part = path.with_suffix(".gone")
    part.write_text(path.read_text() + "fail * 15 after 0\\n")
    part.replace(path)
    finish(self)


LaunchRun._finish = lose
"""
    pytester.makeconftest(CALM + lost)
    done = measured(*ONCE)
    found = results()
    for result in found["results"]:
        assert result["metrics"]["output_throughput"]["value"] > 0
    second = found["results"][1]
    assert second["energy"]["joules"] is None
    assert "lost" in second["energy"]["reason"]
    assert second["metrics"]["energy_per_output_token"]["value"] is None
    (card,) = found["machine"]["gpus"]
    assert card["name"] == "Fake H100 80GB HBM3"
    assert "memory_bytes" in card
    assert done.ret == 0


def test_only_the_gpus_that_the_engine_uses_are_counted(measured, results, gpu, pytester):
    """An engine on the second of two GPUs, by its own variable; the other one is not in the sum."""
    gpu.gpus = [card(500.0), card(300.0, 1)]
    gpu.write()
    # the simulated engine knows no device: let it say that it is on a GPU
    placed = (
        CALM
        + """
from dataclasses import replace
from pytest_slmperf.measuring import launch

def on_second(meter, spec, counted=launch.meter_of_engine):
    return counted(meter, replace(spec, device="cuda:1"))

launch.meter_of_engine = on_second
"""
    )
    pytester.makeconftest(placed)
    measured("-k", "batch", *ONCE)
    energy = results()["results"][0]["energy"]
    assert energy["counted"].startswith("1 of 2 GPUs, which the engine uses")
    assert [device["name"][-3:] for device in energy["devices"]] == ["[1]"]
    assert abs(energy["joules"] - 300 * energy["window_s"]) <= energy["bound_j"]
    assert energy["idle_w_bare"] == pytest.approx(300, rel=0.05)


def test_a_bound_out_of_reach_is_said(measured, results, gpu):
    """An end to the session's time before a bound that no tick allows: measured, and the record says what was missed."""
    gpu.gpus[0].tick = 0.3
    gpu.write()
    measured("--slmperf-energy-bound", "0.0001", "--slmperf-max-time", "5s", "--slmperf-launches", "1", "-k", "batch")
    energy = results()["results"][0]["energy"]
    assert energy["joules"] is not None, energy
    assert abs(energy["joules"] - 300 * energy["window_s"]) <= energy["bound_j"]
    assert "the time ended" in energy["repeats"] or "given up" in energy["repeats"]
    assert "asked for 0.01 %" in energy["repeats"]


def test_energy_can_be_switched_off(perf, gpu, results):
    perf("--slmperf-meter", "none", "-k", "batch", suite=SUITE)
    energy = results()["results"][0]["energy"]
    assert energy["joules"] is None
    assert "switched off" in energy["reason"]


def test_energy_of_a_load_whose_last_answer_comes_before_the_window_ends(measured, results):
    """Open loop on an engine that is quick: the usual case."""
    arrivals = "[0.01 * k for k in range(20)]"
    suite = f"""
def test_load(slmperf):
    slmperf.serving(arrivals={arrivals}, duration_s=0.5, input_len=16, output_len=4)
"""
    measured("--slmperf-launches", "1", suite=suite)
    found = results()["results"][0]
    assert found["energy"]["reason"] is None
    assert found["energy"]["joules"] == pytest.approx(300 * window(found["energy"]), rel=0.02)
    assert found["energy"]["window_s"] == pytest.approx(1.0, rel=0.1)  # of two rounds
    assert found["metrics"]["output_throughput"]["value"] == pytest.approx(20 * 4 / 0.5, rel=0.05)


def test_the_fixture_measures_any_window(perf, gpu, results):
    suite = """
import time

def test_window(energy_meter):
    with energy_meter.watch() as watch:
        begun = time.monotonic()
        time.sleep(0.5)
        reading = watch.reading(begun, time.monotonic())
    assert abs(reading.joules - 300 * reading.window_s) <= reading.bound_j
"""
    perf(suite=suite).assert_outcomes(passed=1)


def test_joules_of_other_devices_are_not_compared(measured, results, gpu, monkeypatch):
    """Two GPUs in the baseline and one now would read as a saving of half the energy, in a batch and in a sweep."""
    gpu.gpus = [card(200.0), card(200.0, 1)]
    gpu.write()
    suite = """
def test_batch(slmperf):
    slmperf.offline(batch=8, input_len=16, output_len=64)

def test_frontier(slmperf):
    slmperf.sweep(batch=[2, 8], input_len=8, output_len=32)
"""
    short = (*ONCE, "--slmperf-rounds", "2")
    measured(*SAVED, *short, suite=suite)
    assert results()["results"][0]["energy"]["metered"]["devices"] == {"Fake H100 80GB HBM3": 2}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    done = measured(*short, suite=suite)
    found = results()
    told = verdicts(found, "test_batch")
    assert told["energy_per_output_token"] == "incomparable"
    assert told["output_throughput"] in ("same", "inconclusive")
    reason = next(v["reason"] for v in found["results"][0]["verdicts"] if v["metric"] == "energy_per_output_token")
    assert "2 × Fake H100 80GB HBM3 → 1 × Fake H100 80GB HBM3" in reason
    told = verdicts(found, "test_frontier")
    assert told["energy_per_output_token"] == "incomparable", done.outlines
    assert told["hypervolume"] in ("same", "inconclusive", "improved")
    point = found["results"][1]["points"][0]["verdicts"]
    assert point["energy_per_output_token"]["verdict"] == "incomparable"
    assert "other devices" in point["energy_per_output_token"]["reason"]


def test_energy_of_a_served_load_is_judged_too(measured, results, gpu):
    """At a rate that both sides keep up with throughput says nothing: nearly twice the power must not read as same."""
    suite = """
def test_load(slmperf):
    slmperf.serving(concurrency=4, num_requests=16, input_len=16, output_len=16)
"""
    for _ in range(2):
        measured(*SAVED, suite=suite)
    gpu.gpus[0].steps = [(0.0, 540.0)]
    gpu.write()
    measured(suite=suite)
    told = verdicts(results(), "test_load")
    assert told["energy_per_output_token"] == "regressed", told
    assert {"output_throughput", "ttft_p50", "tpot_p50"} <= told.keys()
