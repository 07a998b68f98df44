"""The NVML meter on devices that are many, cut, old, refused, reset or gone."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import types
from importlib import metadata
from importlib.machinery import ModuleSpec

import pytest
from support.fake_nvml import FakeGpu

from pytest_slmperf.devices.nvml import foreign_package
from pytest_slmperf.energy import registry
from pytest_slmperf.energy.counter import calibration
from pytest_slmperf.energy.counter.calibration import GAPS_S, HARDLY, MOST_S, Calibration
from pytest_slmperf.energy.idle_power import rest
from pytest_slmperf.energy.meters import nvml
from pytest_slmperf.energy.meters.nvml import NvmlMeter
from pytest_slmperf.environment import fingerprint as environment_gpus
from pytest_slmperf.model.engine_spec import EngineSpec

UUIDS = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab"]


def meter_of(fake, **more) -> NvmlMeter:
    return NvmlMeter(fake.clock, threaded=False, **({"calibrated": False, "visible": None} | more))


def one_window(fake, meter, seconds=1.0, lead=0.5):
    watch = meter.watch()
    watch.run_until(fake.now() + lead)
    begun = fake.now()
    watch.run_until(begun + seconds)
    return watch.reading(begun, begun + seconds), watch, begun


def test_two_gpus_add_up_with_their_bounds(gpus):
    fake = gpus(FakeGpu([(0, 100.0)]), FakeGpu([(0, 300.0)], tick=0.05, phase=0.01))
    reading, watch, begun = one_window(fake, meter_of(fake))
    assert [device.name for device in reading.devices] == ["Fake H100 80GB HBM3 [0]", "Fake H100 80GB HBM3 [1]"]
    assert reading.joules == pytest.approx(400, rel=0.01)
    assert reading.bound_j == pytest.approx(sum(device.bound_j for device in reading.devices))
    assert abs(reading.joules - fake.joules(begun, begun + 1) - fake.joules(begun, begun + 1, 1)) <= reading.bound_j
    trace = watch.trace()
    assert set(trace["watts"]) == {device.name for device in reading.devices}
    assert {len(series) for series in trace["watts"].values()} == {len(trace["t_s"])}


@pytest.mark.parametrize(
    ("wish", "seen"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (UUIDS[1], [1]),
        ("GPU-bbbb", [1]),
        ("0,7,1", [0]),
        ("MIG-cccc", [0]),
        (f"MIG-{UUIDS[1]}/3/0", [1]),
        ("0,²", [0]),
    ],
)
def test_only_visible_gpus_are_metered(gpus, wish, seen):
    fake = gpus(FakeGpu(uuid=UUIDS[0], lines=["slice MIG-cccccccc-1111"]), FakeGpu(uuid=UUIDS[1]))
    meter = meter_of(fake, visible=wish)
    assert [device["index"] for device in meter.devices()] == seen
    assert meter.available


def test_a_list_of_devices_that_ends_early_is_said(gpus):
    fake = gpus(FakeGpu(), FakeGpu())
    (device,) = meter_of(fake, visible="0,7,1").devices()
    assert "'7' names no GPU" in device["notes"][0]
    assert one_window(fake, meter_of(fake, visible="0,7,1"))[0].devices[0].warnings == tuple(device["notes"])
    assert meter_of(fake, visible="0,-1,1").devices()[0]["notes"] == []


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("", "hides every GPU"),
        ("-1", "hides every GPU"),
        ("9", "'9' names no GPU"),
        ("²", "'²' names no GPU"),
        ("9" * 5000, "names no GPU"),
        ("0,0", "twice: CUDA then shows no device"),
        ("MIG-", "'MIG-' names no GPU"),
        ("GPU-", "'GPU-' names no GPU"),
    ],
)
def test_hidden_gpus_are_said(gpus, wish, told):
    meter = meter_of(gpus(FakeGpu(lines=["slice MIG-1111"])), visible=wish)
    assert not meter.available
    assert told in meter.reason


def test_a_short_uuid_that_begins_several_is_said_and_not_called_unknown(gpus):
    meter = meter_of(gpus(FakeGpu(uuid="GPU-aa11"), FakeGpu(uuid="GPU-aa22")), visible="GPU-aa")
    assert not meter.available
    assert "'GPU-aa' begins the UUIDs of 2 GPUs (GPU-aa11, GPU-aa22, …); write more of it" in meter.reason


def test_visible_devices_come_from_the_environment(gpus, monkeypatch):
    fake = gpus(FakeGpu(), FakeGpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [device["index"] for device in NvmlMeter(fake.clock).devices()] == [1]


def test_indices_among_different_gpus_are_warned_of(gpus):
    fake = gpus(FakeGpu(name="Fake A100"), FakeGpu(name="Fake H100"))
    assert "use UUIDs" in meter_of(fake, visible="0").devices()[0]["notes"][0]
    assert meter_of(fake, visible=None).devices()[0]["notes"] == []


def test_a_mig_slice_is_read_as_its_whole_gpu_and_said(gpus):
    fake = gpus(FakeGpu(lines=["slice MIG-1111"]))
    reading, _, _ = one_window(fake, meter_of(fake, visible="MIG-1111"))
    (device,) = reading.devices
    assert device.scope == "parent gpu of a MIG slice"
    assert device.joules == pytest.approx(100, rel=0.02)  # whole, not divided
    assert any("other slices included" in text for text in device.warnings)


def test_two_slices_of_one_gpu_are_one_reading_and_an_ambiguous_one_is_none(gpus):
    fake = gpus(FakeGpu(lines=["slice MIG-1111", "slice MIG-1122"]))
    assert len(meter_of(fake, visible="MIG-1111,MIG-1122").devices()) == 1
    assert meter_of(fake, visible="MIG-11").available is False


def test_gh200_counts_its_module(gpus):
    fake = gpus(FakeGpu(name="NVIDIA GH200 480GB"))
    assert meter_of(fake).devices()[0]["scope"] == "module"


def test_without_a_counter_power_is_integrated(gpus):
    lines = ["fail field:83 3 after 0", "fail nvmlDeviceGetTotalEnergyConsumption 3 after 0"]
    fake = gpus(FakeGpu(lines=lines))
    reading, _, _ = one_window(fake, meter_of(fake))
    (device,) = reading.devices
    assert device.source == "nvml-power"
    assert device.joules == pytest.approx(100, rel=0.01)
    counted = gpus(FakeGpu())
    assert device.bound_j >= one_window(counted, meter_of(counted))[0].bound_j * 0.5  # no sharper than the counter
    assert device.bound_j >= 5
    assert device.detail["missing"] == {"energy counter": "not supported by this device"}
    assert any("a burst between two samples" in text for text in device.warnings)


def test_a_power_sensor_is_waited_for_at_the_windows_end(gpus):
    """As ``slmperf energy`` reads, right at the end: the load began between the sensor's last update and that moment."""
    lines = ["fail field:83 3 after 0", "fail nvmlDeviceGetTotalEnergyConsumption 3 after 0"]
    for on in (3.05, 3.2, 3.4):
        noise = [(0.5 * k, 60.0 + k % 3) for k in range(20) if 0.5 * k < on]
        fake = gpus(FakeGpu([*noise, (on, 600.0)], words={"update": 0.5, "avg": 0.1}, lines=lines))
        watch = meter_of(fake).watch()
        begin, end = fake.zero + 2.3, fake.zero + 3.45
        watch.run_until(end)
        reading = watch.reading(begin, end)
        assert fake.now() >= fake.zero + 3.5
        assert abs(reading.joules - fake.joules(begin, end)) <= reading.bound_j


def test_without_a_counter_no_tick_is_waited_for(gpus):
    fake = gpus(FakeGpu(lines=["fail field:83 3 after 0", "fail nvmlDeviceGetTotalEnergyConsumption 3 after 0"]))
    watch = meter_of(fake).watch()
    begun = fake.now()
    assert watch.next_tick() == begun


def test_a_counter_that_stands_still_leaves_the_power_samples(gpus):
    noise = [(0.1 * k, 99.0 + k % 3) for k in range(200)]  # a value that never moves would not show when it is renewed
    fake = gpus(FakeGpu(noise, tick=1e6, phase=0.0, words={"update": 0.1}))
    reading, _, begun = one_window(fake, meter_of(fake), 3.0)
    (device,) = reading.devices
    assert device.source == "nvml-power"
    assert abs(device.joules - fake.joules(begun, begun + 3)) <= device.bound_j <= 0.1 * device.joules
    assert any(text.startswith("the energy counter stood still") for text in device.warnings)
    assert "witness" not in device.detail


def test_the_old_call_serves_where_the_field_is_missing(gpus):
    fake = gpus(FakeGpu(lines=["fail field:83 3 after 0", "fail field:186 3 after 0"]))
    reading, _, _ = one_window(fake, meter_of(fake))
    (device,) = reading.devices
    assert device.source == "nvml-counter"
    assert device.joules == pytest.approx(100, rel=0.02)
    assert device.detail["missing"] == {"instant power": "not supported by this device"}


@pytest.mark.parametrize(("code", "told"), [(3, "not supported"), (4, "no permission"), (999, "NVML error 999")])
def test_a_device_that_tells_nothing_leaves_the_meter_unavailable(gpus, code, told):
    symbols = ["nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"]
    fake = gpus(FakeGpu(name="Orin", lines=[f"fail {symbol} {code} after 0" for symbol in symbols]))
    meter = meter_of(fake)
    assert not meter.available
    assert meter.reason.count(told) == 1
    assert meter.reason.startswith("Orin: field values, energy counter, power")


def test_a_gpu_that_tells_nothing_does_not_take_the_others_with_it(gpus):
    """Its own reading says why, and there is no sum; the meter for the other GPU alone has one."""
    symbols = ["nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"]
    fake = gpus(FakeGpu(), FakeGpu(name="Orin", lines=[f"fail {symbol} 3 after 0" for symbol in symbols]))
    meter = meter_of(fake)
    reading, _, _ = one_window(fake, meter)
    assert meter.available
    assert reading.devices[0].joules == pytest.approx(100, rel=0.01)
    assert reading.joules is None
    assert reading.reason.startswith("Orin: ")
    assert one_window(fake, meter.only(["0"]))[0].joules == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("code", "told"), [(15, "is lost"), (4, "no permission")])
def test_a_gpu_that_cannot_be_opened_is_shown_and_leaves_no_sum(gpus, code, told):
    """Left out, the one GPU's joules would pass for those of both."""
    fake = gpus(FakeGpu(), FakeGpu(lines=[f"fail nvmlDeviceGetHandleByIndex_v2 {code} after 0"]))
    meter = meter_of(fake)
    shut = meter.devices()[1]
    assert (shut["name"], shut["index"], shut["source"]) == ("GPU 1", 1, None)
    assert told in shut["reason"]
    reading, _, _ = one_window(fake, meter)
    assert reading.joules is None
    assert reading.reason.startswith("GPU 1: opening it: ")
    assert reading.devices[0].joules == pytest.approx(100, rel=0.01)
    assert one_window(fake, meter.only(["0"]))[0].joules == pytest.approx(100, rel=0.01)
    assert "cannot be opened" in meter_of(fake, visible="GPU-bbbb").reason


def test_gpus_that_cannot_be_counted_are_not_said_to_be_none(gpus):
    meter = meter_of(gpus(FakeGpu(), lines=("fail nvmlDeviceGetCount_v2 3 after 0",)))
    assert meter.reason == "NVML works but does not count GPUs: not supported by this device"


def test_a_counter_that_ticks_once_a_second_is_calibrated(gpus):
    fake = gpus(FakeGpu(tick=1.0, phase=0.3))
    meter = meter_of(fake, calibrated=True)
    reading, _, _ = one_window(fake, meter, 3.0)
    assert meter.devices()[0]["tick_s"] == pytest.approx(1.0, rel=0.02)
    assert abs(reading.joules - 300) <= reading.bound_j <= 110


@pytest.mark.parametrize(
    ("code", "told"), [(9, "driver is not loaded"), (18, "differ in version"), (4, "no permission")]
)
def test_nvml_that_does_not_start_is_explained(gpus, code, told):
    meter = meter_of(gpus(FakeGpu(), lines=(f"fail nvmlInitWithFlags {code} after 0",)))
    assert not meter.available
    assert told in meter.reason
    assert meter.idle_power_w(1.0) is None


def test_a_gpu_lost_in_the_middle_gives_no_joules_but_earlier_windows_stay(gpus):
    fake = gpus(FakeGpu(lines=["fail * 15 at 2.0"]))
    meter = meter_of(fake)
    early, watch, begun = one_window(fake, meter)
    assert early.joules == pytest.approx(100, rel=0.02)
    watch.run_until(begun + 3)
    late = watch.reading(begun, begun + 2)
    assert late.joules is None
    assert "fallen off the bus" in late.reason
    assert late.reason.endswith("s into the window")
    assert watch.reading(begun + 2, begun + 3).reason.endswith("s before the window")
    assert watch.reading(begun, begun + 1).joules == pytest.approx(early.joules, rel=1e-3)


def test_a_counter_reset_spoils_only_windows_that_hold_it(gpus):
    fake = gpus(FakeGpu([(0, 200.0)], words={"offset": 5000}, lines=["reset 1.75"]))
    meter = meter_of(fake)
    before, watch, begun = one_window(fake, meter)
    watch.run_until(begun + 3)
    across, after = watch.reading(begun + 0.9, begun + 2.0), watch.reading(begun + 1.7, begun + 2.7)
    assert before.joules == pytest.approx(200, rel=0.02)
    assert across.joules is None
    assert "fell back" in across.reason
    assert after.joules == pytest.approx(200, rel=0.02)


def test_a_cap_is_no_ceiling_where_the_highest_limit_is_not_told(gpus):
    """100 W in force and bursts of 650 W between the looks at a tick: the cap's double would be a bound too small."""
    steps = [(0.02 * k + part, w) for k in range(250) for part, w in ((0.0, 30.0), (0.013, 650.0))]
    hidden = ["fail nvmlDeviceGetPowerManagementLimitConstraints 3 after 0"]
    fake = gpus(FakeGpu(steps, phase=0.0133, words={"limit": 100}, lines=hidden))
    meter = meter_of(fake)
    meter.gap_s = 0.004
    _, watch, begun = one_window(fake, meter, 1.5)
    for k in range(40):
        matched = watch.matched([(begun + 0.01 * k, begun + 1.0 + 0.01 * k)], covered=0.0)
        ((a, b),) = matched.devices[0].detail["edges"]
        assert abs(matched.joules - fake.joules(a, b)) <= matched.bound_j
    loose = one_window(again := gpus(FakeGpu(steps, words={"limit": 100}, lines=hidden)), meter_of(again), 1.5)[0]
    told = gpus(FakeGpu(steps, words={"limit": 100, "default_limit": 700}, lines=hidden))
    assert one_window(told, meter_of(told), 1.5)[0].bound_j < loose.bound_j


def test_calls_that_fail_now_and_then_only_widen_the_bound(gpus):
    fake = gpus(FakeGpu(lines=["fail nvmlDeviceGetFieldValues 10 after 60 40"]))
    reading, _, begun = one_window(fake, meter_of(fake))
    assert abs(reading.joules - fake.joules(begun, begun + 1)) <= reading.bound_j


def test_a_device_that_stops_answering_gives_no_joules(gpus):
    fake = gpus(FakeGpu(lines=["fail nvmlDeviceGetFieldValues 10 at 1.0"]))
    reading, _, _ = one_window(fake, meter_of(fake))
    assert reading.joules is None
    assert "stopped answering" in reading.reason


def test_throttling_clocks_heat_and_other_processes_are_evidence(gpus):
    lines = ["throttle 270 1.2 9 0.5", "sm_clock 0 1980", "sm_clock 1.3 1200", "temp 71", "util 37", "process 1"]
    fake = gpus(FakeGpu(lines=lines))
    reading, watch, begun = one_window(fake, meter_of(fake))
    detail = reading.devices[0].detail
    assert detail["throttle_ns"] == pytest.approx(0.5e9 * (begun + 1 - fake.zero - 1.2), rel=0.3)
    assert set(detail["throttle_reasons"]) == {"hw_thermal"}
    assert (detail["sm_clock_mhz_min"], detail["sm_clock_mhz_max"]) == (1200, 1980)
    assert detail["temperature_c_max"] == 71
    assert detail["utilization_percent_mean"] == 37
    assert detail["other_gpu_processes"] == [1]
    assert watch.details(begun, begun + 0.1)[0][1]["throttle_ns"] == 0


def test_own_children_are_not_other_processes(gpus):
    import os
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        fake = gpus(FakeGpu(lines=[f"process {child.pid}", f"process {os.getpid()}", "process 4194000"]))
        detail = one_window(fake, meter_of(fake))[0].devices[0].detail
    finally:
        child.communicate(b"\n")
    assert detail["other_gpu_processes"] == []
    assert detail["unplaced_gpu_processes"] == 1  # shown by NVML, not in this process namespace


def test_an_adopted_daemon_is_not_another_process(gpus):
    import os
    import signal
    import subprocess

    from pytest_slmperf.devices.selection import adopt, release

    command = ["sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"]  # the shell ends, so the sleep is nobody's child
    orphan = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    fake = gpus(FakeGpu(lines=[f"process {orphan}"]))
    try:
        assert one_window(fake, meter_of(fake))[0].devices[0].detail["other_gpu_processes"] == [orphan]
        adopt("SLMPERF_TEST_NONE=1", orphan)
        assert one_window(fake, meter_of(fake))[0].devices[0].detail["other_gpu_processes"] == []
    finally:
        release("SLMPERF_TEST_NONE=1")
        os.kill(orphan, signal.SIGKILL)


def test_throttle_counters_that_are_missing_are_absent_not_zero(gpus):
    lines = [f"fail field:{number} 3 after 0" for number in (74, 269, 270, 271)]
    detail = one_window(gpus_fake := gpus(FakeGpu(lines=lines)), meter_of(gpus_fake))[0].devices[0].detail
    assert "throttle_ns" not in detail
    assert detail["missing"]["throttle counters"] == "not supported by this device"


def test_counter_and_power_samples_that_disagree_are_warned_of(gpus):
    noise = [(0.1 * k, 99.0 + k % 3) for k in range(40)]  # as of any real sensor, whose updates are seen by it
    fake = gpus(FakeGpu(noise, words={"perturb": "1 60"}))  # every poll makes the counter count 60 W more
    reading, _, _ = one_window(fake, meter_of(fake))
    assert any("disagree" in text for text in reading.devices[0].warnings)
    assert one_window(again := gpus(FakeGpu()), meter_of(again))[0].devices[0].warnings == ()


def test_the_tick_is_calibrated_and_kept_for_the_next_session(gpus, tmp_path):
    fake = gpus(FakeGpu(tick=0.02, phase=0.007, uuid=UUIDS[0]))
    meter = meter_of(fake, calibrated=True, state_dir=tmp_path)
    assert meter.devices()[0]["tick_s"] is None
    meter.calibrate()
    assert meter.devices()[0]["tick_s"] == pytest.approx(0.02, rel=0.02)
    kept = json.loads((tmp_path / "energy-meters.json").read_text())
    assert kept[UUIDS[0]]["driver"] == "570.00.fake"
    begun = fake.now()
    meter_of(fake, calibrated=True, state_dir=tmp_path).calibrate()
    assert fake.now() == begun  # from the profile: no time passed
    (tmp_path / "energy-meters.json").write_text('{"cut')
    again = meter_of(fake, calibrated=True, state_dir=tmp_path)
    again.calibrate()
    assert fake.now() > begun
    assert again.devices()[0]["tick_s"] == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("card", [FakeGpu(tick=tick) for tick in (0.02, 0.1, 0.25, 0.5, 1.0)] + [FakeGpu([(0, 0.0)])])
def test_a_calibration_is_short_and_one_without_ticks_is_kept_too(gpus, tmp_path, card, monkeypatch):
    card.uuid = UUIDS[0]
    fake = gpus(card)
    begun = fake.now()
    meter_of(fake, calibrated=True, state_dir=tmp_path).calibrate()
    assert fake.now() - begun < MOST_S + 0.2  # of its own clock
    begun = fake.now()
    again = meter_of(fake, calibrated=True, state_dir=tmp_path)
    again.calibrate()
    assert fake.now() == begun
    if card.steps[0][1] == 0:
        assert again.devices()[0]["notes"] == [HARDLY]
        monkeypatch.setattr(calibration, "TICKLESS_S", 0.0)
        meter_of(fake, calibrated=True, state_dir=tmp_path).calibrate()
        assert fake.now() > begun


@pytest.mark.parametrize(("true", "stored"), [(0.1, 0.5), (0.02, 0.1), (0.1, 0.02), (0.5, 0.1), (0.1, None)])
def test_a_stored_tick_that_is_wrong_is_put_right(gpus, tmp_path, true, stored):
    """Who looks only where the stored tick is due never sees those in between, and states their bound for ever."""
    fake = gpus(FakeGpu(tick=true, phase=0.3 * true, uuid=UUIDS[0]))
    keep = calibration.Profile(tmp_path)
    keep.put(UUIDS[0], "570.00.fake", Calibration(stored, GAPS_S[0], HARDLY if stored is None else None))
    meter = meter_of(fake, calibrated=True, state_dir=tmp_path)
    reading, watch, _ = one_window(fake, meter, 6.0 * max(true, 0.1) + 0.013, lead=12 * true)
    watch.close()
    (device,) = reading.devices
    assert device.tick_s == pytest.approx(true, rel=0.05)
    assert abs(reading.joules - fake.joules(reading.t_start, reading.t_end)) <= reading.bound_j <= 2 * 100 * true + 1
    assert keep.get(UUIDS[0], "570.00.fake").tick_s == pytest.approx(true, rel=0.05)
    assert meter.devices()[0]["notes"] == []


def test_devices_are_calibrated_at_the_same_time(gpus, monkeypatch):
    together = threading.Barrier(2, timeout=30)

    def calibrate(look):
        together.wait()
        return Calibration(0.1, 0.001)

    monkeypatch.setattr(nvml, "calibrate", calibrate)
    fake = gpus(FakeGpu(), FakeGpu(), virtual=False)
    meter = NvmlMeter(fake.clock, visible=None)
    meter.calibrate()
    assert [device["tick_s"] for device in meter.devices()] == [0.1, 0.1]


def test_a_counter_that_polling_disturbs_is_polled_less(gpus):
    fake = gpus(FakeGpu(words={"perturb": "0.002 50"}))  # polls closer than 2 ms make it count 50 W more
    meter = meter_of(fake, calibrated=True)
    reading, _, _ = one_window(fake, meter)
    assert reading.joules == pytest.approx(100, rel=0.02)
    quiet = gpus(FakeGpu())
    assert one_window(quiet, meter_of(quiet, calibrated=True))[0].bound_j <= reading.bound_j


@pytest.mark.parametrize("tick", [0.35, 0.5, 0.59])
@pytest.mark.parametrize(("disturbed", "gap_s"), [(None, 0.003), ("0.005 50", 0.01)])
def test_a_slow_counter_is_tried_for_disturbance_too(gpus, tick, disturbed, gap_s):
    """As of some boards' newer drivers, which tick every 0.5 s: four stretches of it would take too long, two do not."""
    fake = gpus(FakeGpu(tick=tick, words={"perturb": disturbed} if disturbed else {}))
    begun, meter = fake.now(), meter_of(fake, calibrated=True)
    meter.calibrate()
    assert fake.now() - begun < MOST_S + 0.2
    (found,) = meter.calibrations.values()
    assert found.gap_s == gap_s
    assert (found.note is not None) == (disturbed is not None)
    if disturbed:
        assert "polling every 3 ms" in meter.devices()[0]["notes"][0]


def test_idle_power_is_read(gpus):
    fake = gpus(FakeGpu([(0, 72.0)]))
    assert meter_of(fake).idle_power_w(0.5) == pytest.approx(72, rel=0.01)


@pytest.mark.parametrize("tick", [0.1, 1.0])
def test_the_bound_that_doctor_shows_is_no_matter_of_luck(gpus, tick):
    """A second is ten ticks: the bound of one such window is anything from a tenth of the worst one's up to it."""
    shown, single = [], []
    for number in range(8):
        fake = gpus(FakeGpu(tick=tick, phase=tick * number / 8))
        found = rest(meter_of(fake, calibrated=True), 1.0, fake.clock)
        shown.append(found.worst_j["Fake H100 80GB HBM3"])
        single.append(found.reading.bound_j)
    assert 100 * tick <= min(shown) <= max(shown) <= 2.05 * 100 * tick
    assert max(shown) <= 1.15 * min(shown)
    assert max(single) <= max(shown)


@pytest.mark.parametrize(("tick", "words"), [(1.0, {}), (0.5, {}), (0.1, {"perturb": "0.005 50"})])
def test_a_window_begins_at_a_tick_where_the_board_bears_no_close_looks(gpus, tick, words):
    """Looks 3 or 10 ms apart see no tick more closely than that: waiting for one that is would be in vain."""
    fake = gpus(FakeGpu(tick=tick, phase=tick / 3, words=words))
    meter = meter_of(fake, calibrated=True)
    meter.calibrate()
    watch = meter.watch()
    asked = fake.now()
    begun = watch.next_tick()
    since = begun - fake.zero - fake.gpus[0].ticks_around(begun - fake.zero)[0]
    assert 0 <= since <= 0.011
    assert begun - asked <= tick + 0.011


@pytest.mark.parametrize("tick", [0.02, 0.1, 0.5])
def test_a_command_has_no_wider_bound_than_doctor_shows_for_one(gpus, tick):
    """Commands as slmperf energy measures them, of any length: the widest of their bounds is the one that was shown."""
    fake = gpus(FakeGpu(tick=tick, phase=tick / 3))
    shown = rest(meter_of(fake, calibrated=True), 1.0, fake.clock)
    most = shown.begun_at_tick_j["Fake H100 80GB HBM3"]
    bounds = []
    for number in range(12):
        watch = meter_of(fake, calibrated=True).watch()
        begun = watch.next_tick()
        ended = begun + 1.0 + tick * number / 12
        watch.run_until(ended)
        bounds.append(watch.reading(begun, ended).bound_j)
    assert 0.8 * most <= max(bounds) <= 1.1 * most
    assert most < 0.75 * shown.worst_j["Fake H100 80GB HBM3"]


def test_the_inactive_pynvml_project_is_named(monkeypatch):
    assert foreign_package() is None
    monkeypatch.setattr(metadata, "version", lambda name: {"pynvml": "13.0.1"}[name])
    assert "pip uninstall -y pynvml" in foreign_package()


def test_a_device_number_that_is_none_names_no_entry():
    assert registry.entries(EngineSpec("vllm", "opt-125m", device="cuda:²"), {}) is None
    assert registry.entries(EngineSpec("vllm", "opt-125m", device="cuda:1"), {"CUDA_VISIBLE_DEVICES": "²,3"}) == ["3"]


def test_an_empty_variable_of_hip_leaves_the_choice_to_that_of_cuda():
    """As HIP itself reads them: GPU 2 was served on, and all that are visible were counted."""
    environ = {"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "2,3"}
    spec = EngineSpec("vllm", "opt-125m", device="cuda:0")
    assert registry.entries(spec, environ, ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")) == ["2"]


@pytest.fixture
def old_package(monkeypatch):
    """The inactive project's package in place of nvidia-ml-py: text as bytes, no fields, no function of a later NVML."""
    import pynvml

    def made(**changes) -> types.ModuleType:
        old = types.ModuleType("pynvml")
        lacking = ("c_nvmlFieldValue_t", "_nvmlGetFunctionPointer", "nvmlDeviceGetMigMode")
        vars(old).update({name: value for name, value in vars(pynvml).items() if name not in lacking})
        for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion"):
            setattr(old, name, lambda *args, name=name: getattr(pynvml, name)(*args).encode())
        old.__spec__ = ModuleSpec("pynvml", None, is_package=True)
        vars(old).update(changes)
        monkeypatch.setitem(sys.modules, "pynvml", old)
        return old

    return made


def test_an_old_package_measures_by_what_it_knows_and_is_named(gpus, old_package):
    fake = gpus(FakeGpu(uuid=UUIDS[0]))
    old_package()
    meter = meter_of(fake)
    (device,) = meter.devices()
    assert (device["name"], device["uuid"], device["driver"]) == ("Fake H100 80GB HBM3", UUIDS[0], "570.00.fake")
    assert "too old" in device["missing"]["field values"]
    assert "upgrade the driver" not in str(device)
    assert any("stands in the place of nvidia-ml-py" in note for note in device["notes"])
    reading, _, _ = one_window(fake, meter)
    assert reading.joules == pytest.approx(100, rel=0.02)
    assert reading.devices[0].source == "nvml-counter"
    cards, driver = environment_gpus.describe_gpus({})
    assert json.loads(json.dumps([cards, driver]))[0][0]["uuid"] == UUIDS[0]


def test_a_package_that_shows_only_a_part_is_asked_where_it_keeps_the_rest(gpus, old_package):
    import pynvml as real

    fake = gpus(FakeGpu())
    old_package(__path__=[], nvml=real)
    assert meter_of(fake).devices()[0]["missing"] == {}


def test_fields_without_a_scope_are_not_asked_for(gpus, old_package):
    """An old structure takes the scope without a word and asks for another one."""

    class Old(ctypes.Structure):
        _fields_ = [("fieldId", ctypes.c_uint), ("unused", ctypes.c_uint), ("rest", ctypes.c_char * 32)]

    fake = gpus(FakeGpu())
    old_package(c_nvmlFieldValue_t=Old)
    assert "too old" in meter_of(fake).devices()[0]["missing"]["field values"]


def test_a_package_that_does_not_load_is_explained(gpus, monkeypatch, tmp_path):
    gpus(FakeGpu())
    (tmp_path / "pynvml.py").write_text("raise SystemError('made for another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml")
    assert "does not load: SystemError: made for another Python" in NvmlMeter(visible=None).reason
    assert environment_gpus.describe_gpus({}) == ([], None)
