"""The AMD meter against a module that answers as amdsmi 7.0 does (the real one needs ROCm to be imported)."""

from __future__ import annotations

import pytest

from pytest_slmperf.energy.amd import AmdMeter
from pytest_slmperf.energy.clock import Clock


class Smi:
    """Two GPUs at 250 and 400 W; the accumulator steps by 15.3 µJ."""

    def __init__(self) -> None:
        self.t, self.lost_at, self.open = 1000.0, float("inf"), False
        self.clock = Clock(now=lambda: self.t, wall=lambda: self.t, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.t += max(seconds, 1e-6)

    def amdsmi_init(self) -> None:
        self.open = True

    def amdsmi_shut_down(self) -> None:
        self.open = False

    def amdsmi_get_processor_handles(self) -> list[int]:
        return [250, 400]

    def amdsmi_get_energy_count(self, handle: int) -> dict[str, float]:
        if self.t >= self.lost_at:
            raise RuntimeError("AMDSMI_STATUS_NO_DATA")
        return {"energy_accumulator": int(handle * self.t / 15.3e-6), "counter_resolution": 15.3, "timestamp": 0}

    def amdsmi_get_gpu_asic_info(self, handle: int) -> dict[str, str]:
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        return f"uuid-{handle}"


@pytest.fixture
def smi(monkeypatch) -> Smi:
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return Smi()


def test_joules_within_the_bound(smi):
    meter = AmdMeter(smi.clock, lib=smi, threaded=False)
    assert meter.available
    watch = meter.watch()
    watch.run_until(smi.t + 0.1)
    begun = smi.t
    watch.run_until(begun + 1.037)
    reading = watch.reading(begun, begun + 1.037)
    assert abs(reading.joules - 650 * 1.037) <= reading.bound_j <= 0.03 * reading.joules
    assert reading.joules == pytest.approx(650 * 1.037, rel=0.002)
    assert [device.uuid for device in reading.devices] == ["uuid-250", "uuid-400"]
    assert meter.idle_power_w(0.3) == pytest.approx(650, rel=0.01)
    meter.close()
    assert not smi.open


def test_a_lost_gpu_gives_no_joules(smi):
    watch = AmdMeter(smi.clock, lib=smi, threaded=False).watch()
    begun = smi.t
    smi.lost_at = begun + 0.5
    watch.run_until(begun + 1.1)
    reading = watch.reading(begun, begun + 1)
    assert reading.joules is None
    assert "AMDSMI_STATUS_NO_DATA" in reading.reason


def test_visible_devices(smi, monkeypatch):
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert [device["index"] for device in AmdMeter(smi.clock, lib=smi).devices()] == [1]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "GPU-abc")
    assert "reads GPU indices" in AmdMeter(smi.clock, lib=smi).reason


def test_a_package_that_cannot_be_imported_is_a_reason():
    class Broken:
        def amdsmi_init(self):
            raise KeyError("libamd_smi.so")

    meter = AmdMeter(lib=Broken())
    assert not meter.available
    assert "AMD SMI does not start: KeyError" in meter.reason


def test_a_gpu_without_an_energy_counter_is_a_reason(smi):
    smi.lost_at = 0.0
    assert "no energy counter" in AmdMeter(smi.clock, lib=smi).reason
