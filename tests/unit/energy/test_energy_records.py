"""Choosing a meter, summing readings into a record, cost and emissions."""

from __future__ import annotations

import random

import pytest
from support.fake_nvml import FakeGpu

from pytest_slmperf.energy import round_energy
from pytest_slmperf.energy.base import DeviceReading, EnergyReading, Watch
from pytest_slmperf.energy.meters.nvml import NvmlMeter
from pytest_slmperf.energy.registry import UnavailableMeter, builtin_meters, choose
from pytest_slmperf.energy.round_energy import summarise
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.energy import PowerTrace
from pytest_slmperf.reports.wording import rows


class Good(UnavailableMeter):
    available = True


def reading(joules: float | None, bound: float | None = 2.0, seconds: float = 1.0, **more) -> EnergyReading:
    device = DeviceReading("GPU", "GPU-1", "nvml-counter", "gpu", joules, bound, seconds, tick_s=0.1, gain=0.05, **more)
    return EnergyReading((device,), 0.0, seconds, reason=None if joules is not None else "GPU: gone")


def test_the_first_available_meter_is_chosen_and_reasons_are_kept():
    bad, good = UnavailableMeter("no driver", "nvml"), Good("", "rapl")
    assert choose([bad, good]) is good
    none = choose([bad, UnavailableMeter("no tree", "rapl")])
    assert not none.available
    assert none.reason == "nvml: no driver; rapl: no tree"
    assert choose([]).reason == "no meter is registered"


def test_a_meter_asked_for_by_name_is_not_replaced_by_another():
    bad, good = UnavailableMeter("no driver", "nvml"), Good("", "rapl")
    assert choose([bad, good], "rapl") is good
    assert choose([bad, good], "nvml").reason == "nvml: no driver"
    assert not choose([good], "none").available
    with pytest.raises(InvalidInput, match="known are nvml, rapl, none"):
        choose([bad, good], "tesla")


def test_without_hardware_every_builtin_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("SLMPERF_FAKE_NVML", "")
    for meter in builtin_meters(tmp_path):
        if not meter.available:
            assert meter.reason
            with meter.watch() as watch:
                assert watch.trace() == {"t_s": [], "watts": {}} or meter.devices()


def test_an_unavailable_meter_never_reads_zero():
    with UnavailableMeter("no driver").watch() as watch:
        found = summarise([watch.reading(0.0, 1.0)])
    assert found.source is None
    assert found.joules is None
    assert found.reason == "no driver"


def test_readings_become_a_record():
    found = summarise([reading(100), reading(110)], 50.0, 54.0, 30.0, PowerTrace(t_s=[0.0], watts={"GPU": [1.0]}))
    assert (found.joules, found.bound_j, found.window_s, found.tick_s, found.gain) == (210, 4, 2, 0.1, 0.05)
    assert found.net_joules == 210 - 52 * 2
    assert (found.source, found.scope) == ("nvml-counter", "gpu")
    assert (found.idle_w_before, found.idle_w_after, found.idle_w_bare) == (50, 54, 30)
    assert found.devices[0].joules == 210
    assert found.trace is not None


def test_one_missing_reading_leaves_no_sum():
    found = summarise([reading(100), reading(None, None, reason="gone")], 50.0)
    assert found.joules is None
    assert found.reason == "GPU: gone"
    assert summarise([]).reason == "no round was measured"


def test_the_witness_is_summed_and_its_disagreement_said():
    parts = [reading(100, detail={"witness": {"source": "nvml-power", "joules": 95.0, "bound_j": 1.0}})] * 2
    witness = summarise(parts).witness
    assert witness is not None
    assert (witness.source, witness.joules, witness.bound_j) == ("nvml-power", 190.0, 2.0)
    assert witness.disagreement == pytest.approx(-0.05)


class Plain(Watch):
    """A watch with nothing but the method that must be written."""

    def reading(self, t_start, t_end):
        return reading(100 * (t_end - t_start), 2.0, t_end - t_start, detail={"a": 1})


def test_a_watch_of_another_package_needs_only_a_reading():
    windows = [(0.0, 1.0), (1.5, 3.5)]
    found = Plain().total(windows)
    assert (found.joules, found.bound_j, found.window_s) == (300, 4, 3)
    assert Plain().details(0, 1) == [("GPU", {"a": 1})]
    assert round_energy.relative_bound(Plain(), windows) == pytest.approx(2 / 300)


def test_rounds_that_follow_closely_are_one_window():
    assert round_energy.runs([(0.0, 1.0), (1.01, 2.0), (2.09, 3.0), (3.5, 4.0)]) == [(0.0, 3.0), (3.5, 4.0)]
    assert round_energy.runs([]) == []


def short_rounds(draw, gap_w, long_gaps):
    """Rounds of 35 to 45 ms at 300 W back to back, some of them behind a gap that is too long to be counted in."""
    steps, windows, t = [], [], 0.5
    longer = set(draw.sample(range(1, 120), long_gaps))
    for number in range(120):
        if number in longer:
            steps.append((t, gap_w))
            t += draw.uniform(0.021, 0.035)
        steps.append((t, 300.0))
        windows.append((t, t + draw.uniform(0.035, 0.045)))
        t = windows[-1][1]
    return [(0.0, 120.0), *steps, (t, 120.0)], windows


@pytest.mark.parametrize("long_gaps", [1, 6, 30])
@pytest.mark.parametrize("gap_w", [0.5, 120.0, 300.0, 590.0])
@pytest.mark.parametrize("phase", [0.0, 0.033, 0.08])
def test_short_rounds_with_some_long_gaps_have_a_bound_that_holds_and_is_of_use(gpus, long_gaps, gap_w, phase):
    steps, windows = short_rounds(random.Random(long_gaps), gap_w, long_gaps)
    fake = gpus(FakeGpu(steps, tick=0.1, phase=phase))
    windows = [(fake.zero + a, fake.zero + b) for a, b in windows]
    with NvmlMeter(fake.clock, threaded=False, calibrated=False, visible=None).watch() as watch:
        watch.run_until(windows[-1][1] + 0.005)
        soon = round_energy.relative_bound(watch, windows)
        watch.run_until(windows[-1][1] + 0.3)
        found = round_energy.of_rounds(watch, windows)
    assert abs(found.joules / found.window_s - 300.0) <= found.bound_j / found.window_s
    # Rounds end once it is small enough: the last tick, which has not been seen then, only makes it smaller.
    assert found.bound_j / found.joules <= soon + 0.005
    assert found.bound_j / found.joules < {1: 0.03, 6: 0.06, 30: 0.25}[long_gaps]
    assert abs(found.whole.joules - sum(fake.joules(*window) for window in windows)) <= found.whole.bound_j


def test_gaps_that_are_most_of_the_time_are_not_read_over(gpus):
    fake = gpus(FakeGpu([(0.0, 300.0)]))
    windows = [(fake.zero + 0.5 + 0.1 * k, fake.zero + 0.55 + 0.1 * k) for k in range(30)]
    with NvmlMeter(fake.clock, threaded=False, calibrated=False, visible=None).watch() as watch:
        watch.run_until(windows[-1][1] + 0.3)
        assert round_energy.over_gaps(watch, windows) is None


def test_the_time_between_rounds_stands_apart_from_the_bound(gpus):
    """Rounds of 40 ms with 10 ms between them are one window: what is drawn there is taken to be as in the rounds."""
    fake = gpus(FakeGpu([(0.0, 300.0)]))
    windows = [(fake.zero + 0.5 + 0.05 * k, fake.zero + 0.54 + 0.05 * k) for k in range(40)]
    with NvmlMeter(fake.clock, threaded=False, calibrated=False, visible=None).watch() as watch:
        watch.run_until(windows[-1][1] + 0.3)
        found = summarise([round_energy.of_rounds(watch, windows)])
        (warning,) = found.warnings
        alone = summarise([round_energy.of_rounds(watch, [(windows[0][0], windows[-1][1])])])
    assert found.rounds is not None
    assert alone.rounds is not None
    assert found.rounds.gaps_s == pytest.approx(39 * 0.01)
    assert found.rounds.window_s == pytest.approx(40 * 0.05 - 0.01)
    assert warning.startswith("19.6 % of the time lies between rounds")
    assert dict(rows(found))["between the rounds"].startswith("20 % of that time")
    assert (alone.rounds.gaps_s, alone.warnings) == (0, [])
    assert "between the rounds" not in dict(rows(alone))


def test_cost_and_emissions():
    assert round_energy.cost(3.6e6, 0.3) == 0.3
    assert round_energy.carbon_g(3.6e6, 380) == 380
    assert round_energy.costs(3.6e6, 0.36, 0.5, 400) == {
        "price_per_kwh": 0.5,
        "cost": 0.5,
        "cost_per_million_output_tokens": 0.05,
        "carbon_g_per_kwh": 400,
        "carbon_g": 400,
        "carbon_g_per_million_output_tokens": 40,
    }
    assert round_energy.costs(3.6e6, None, None, 400) == {"carbon_g_per_kwh": 400, "carbon_g": 400}


def test_nothing_missing_becomes_zero():
    assert round_energy.cost(10.0, None) is None
    assert round_energy.carbon_g(None, 300) is None
    assert round_energy.costs(3.6e6, 0.36, None, None) is None  # no figure of the user's: nothing is guessed
    assert round_energy.costs(None, None, 0.5, None) == {"price_per_kwh": 0.5}
