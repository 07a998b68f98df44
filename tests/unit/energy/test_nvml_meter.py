"""The NVML meter on devices that are many, cut, old, refused, reset or gone."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest
from support.fake_nvml import FakeGpu

from pytest_slmperf.energy.nvml import NvmlMeter
from pytest_slmperf.energy.nvml_lib import foreign_package

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
    ("wish", "told"), [("", "hides every GPU"), ("-1", "hides every GPU"), ("9", "'9' names no GPU")]
)
def test_hidden_gpus_are_said(gpus, wish, told):
    meter = meter_of(gpus(FakeGpu()), visible=wish)
    assert not meter.available
    assert told in meter.reason


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

    from pytest_slmperf.environment.kin import adopt, release

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
    fake = gpus(FakeGpu([(0, 100.0)], words={"perturb": "1 60"}))  # every poll makes the counter count 60 W more
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


def test_a_counter_that_polling_disturbs_is_polled_less(gpus):
    fake = gpus(FakeGpu(words={"perturb": "0.002 50"}))  # polls closer than 2 ms make it count 50 W more
    meter = meter_of(fake, calibrated=True)
    reading, _, _ = one_window(fake, meter)
    assert reading.joules == pytest.approx(100, rel=0.02)
    quiet = gpus(FakeGpu())
    assert one_window(quiet, meter_of(quiet, calibrated=True))[0].bound_j <= reading.bound_j


def test_idle_power_is_read(gpus):
    fake = gpus(FakeGpu([(0, 72.0)]))
    assert meter_of(fake).idle_power_w(0.5) == pytest.approx(72, rel=0.01)


def test_the_inactive_pynvml_project_is_named(monkeypatch):
    assert foreign_package() is None
    monkeypatch.setattr(metadata, "version", lambda name: {"pynvml": "13.0.1"}[name])
    assert "pip uninstall -y pynvml" in foreign_package()
