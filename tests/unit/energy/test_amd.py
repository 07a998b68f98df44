"""The AMD meter against a module that answers as amdsmi 7.0 does (the real one needs ROCm to be imported)."""

from __future__ import annotations

import pytest

from pytest_slmperf.energy.counter.tick_schedule import Clock
from pytest_slmperf.energy.meters.amd import AmdMeter
from pytest_slmperf.energy.registry import meter_of_engine
from pytest_slmperf.model.engine_spec import EngineSpec


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
        return {"market_name": "AMD Instinct MI300X", "asic_serial": f"0xDEADBEEF{handle:08X}"}

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        return f"uuid-{handle}"


@pytest.fixture
def smi(monkeypatch) -> Smi:
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return Smi()


def test_joules_within_the_bound(smi):
    meter = AmdMeter(smi.clock, lib=smi, threaded=False)
    assert meter.available
    watch = meter.watch()
    watch.run_until(smi.t + 0.1)  # type: ignore[attr-defined]
    begun = smi.t
    watch.run_until(begun + 1.037)  # type: ignore[attr-defined]
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
    watch.run_until(begun + 1.1)  # type: ignore[attr-defined]
    reading = watch.reading(begun, begun + 1)
    assert reading.joules is None
    assert "AMDSMI_STATUS_NO_DATA" in reading.reason


class Eight(Smi):
    """Eight GPUs that ROCm counts the other way round than AMD SMI does."""

    def amdsmi_get_processor_handles(self) -> list[int]:
        return [100 + k for k in range(8)]

    def amdsmi_get_gpu_enumeration_info(self, handle: int) -> dict[str, object]:
        return {"hip_id": 107 - handle, "hip_uuid": f"GPU-0123456789abcd{handle - 100:02x}"}


@pytest.mark.parametrize(
    ("environ", "handles"),
    [
        ({}, [107, 106, 105, 104, 103, 102, 101, 100]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [106]),
        ({"CUDA_VISIBLE_DEVICES": "3,0"}, [104, 107]),
        ({"HIP_VISIBLE_DEVICES": "2", "CUDA_VISIBLE_DEVICES": "3"}, [105]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "3"}, [104]),
        ({"ROCR_VISIBLE_DEVICES": "4,5,6"}, [103, 102, 101]),
        ({"ROCR_VISIBLE_DEVICES": "4,5,6", "HIP_VISIBLE_DEVICES": "1"}, [102]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0123456789ABCD03,0"}, [103, 107]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-deadbeef00000064"}, [100]),
        ({"ROCR_VISIBLE_DEVICES": "0,99,1"}, [107]),
        ({"HIP_VISIBLE_DEVICES": "0,-1,1"}, [107]),
        ({"HIP_VISIBLE_DEVICES": "1,1"}, [106]),
    ],
)
def test_gpus_are_those_that_rocm_leaves_visible(environ, handles):
    smi = Eight()
    meter = AmdMeter(smi.clock, lib=smi, threaded=False, environ=environ)
    assert [device["uuid"] for device in meter.devices()] == [f"uuid-{handle}" for handle in handles]
    assert [device["index"] for device in meter.devices()] == [107 - handle for handle in handles]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"ROCR_VISIBLE_DEVICES": ""}, "ROCR_VISIBLE_DEVICES='' names none of the 8 GPUs"),
        ({"HIP_VISIBLE_DEVICES": "GPU-abc"}, "HIP_VISIBLE_DEVICES='GPU-abc' names none of the 8 GPUs"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES='-1' names none"),
        ({"ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "5"}, "HIP_VISIBLE_DEVICES='5' names none of the 2"),
    ],
)
def test_hidden_gpus_are_a_reason(environ, told):
    smi = Eight()
    meter = AmdMeter(smi.clock, lib=smi, environ=environ)
    assert not meter.available
    assert told in meter.reason


def test_only_the_engines_gpus_are_counted(monkeypatch):
    """What the engine's own variable names counts among what ROCR_VISIBLE_DEVICES leaves."""
    smi = Eight()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    meter = AmdMeter(smi.clock, lib=smi, threaded=False, environ={"ROCR_VISIBLE_DEVICES": "4,5,6"})
    spec = EngineSpec("vllm", "m", device="cuda:0", env=(("CUDA_VISIBLE_DEVICES", "2"),))
    narrowed, told = meter_of_engine(meter, spec)
    assert [device["uuid"] for device in narrowed.devices()] == ["uuid-101"]
    assert told.startswith("1 of 3 GPUs")
    watch = narrowed.watch()
    watch.run_until(smi.t + 0.1)  # type: ignore[attr-defined]
    begun = smi.t
    watch.run_until(begun + 1.0)  # type: ignore[attr-defined]
    assert watch.reading(begun, begun + 1.0).joules == pytest.approx(101, rel=0.02)
    two = EngineSpec("vllm", "m", device="cuda:1", settings=(("tensor_parallel_size", 2),))
    assert [device["uuid"] for device in meter_of_engine(meter, two)[0].devices()] == ["uuid-102", "uuid-101"]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1,2")
    assert [device["uuid"] for device in meter_of_engine(meter, two)[0].devices()] == ["uuid-101"]


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


class Coarse(Smi):
    """An accumulator in whole joules."""

    step_uj: float = 1e6

    def amdsmi_get_energy_count(self, handle: int) -> dict[str, float]:
        return {"energy_accumulator": int(handle * self.t * 1e6 / 1e6), "counter_resolution": self.step_uj}


def test_a_coarse_accumulator_is_bounded_by_its_own_step():
    smi = Coarse()
    watch = AmdMeter(smi.clock, lib=smi, threaded=False, environ={}).watch()
    watch.run_until(smi.t + 0.1)  # type: ignore[attr-defined]
    for number in range(40):
        begun = smi.t
        ended = begun + 0.05 + 0.0013 * number
        watch.run_until(ended)  # type: ignore[attr-defined]
        (device, _) = watch.reading(begun, ended).devices
        assert device.bound_j >= 1.0
        assert abs(device.joules - 250 * (ended - begun)) <= device.bound_j


@pytest.mark.parametrize("step", [0.0, "N/A", None])
def test_an_accumulator_without_a_step_is_a_reason_and_no_zero(step):
    smi = Coarse()
    smi.step_uj = step
    meter = AmdMeter(smi.clock, lib=smi, threaded=False, environ={})
    assert not meter.available
    assert f"no energy counter: AMD SMI tells {step!r} µJ as the step" in meter.reason
