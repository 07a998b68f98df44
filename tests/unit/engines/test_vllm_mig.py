"""How vLLM's platform finds the GPU of a MIG slice; without vLLM. NVML is the fake library, through its real binding."""

from __future__ import annotations

import os

import pynvml
import pytest
from support.fake_nvml import FakeGpu

from pytest_slmperf.engines.vllm import mig_slice

UUID = "MIG-{}1111111-0000-0000-0000-000000000000"


def platform(modern: bool):
    """The two methods as vLLM 0.26 has them, or the one of older versions."""

    class Old:
        @classmethod
        def device_id_to_physical_device_id(cls, device_id):
            return int(os.environ["CUDA_VISIBLE_DEVICES"].split(",")[device_id])

    class Modern(Old):
        @classmethod
        def device_control_id_to_physical_device_id(cls, device_id):
            try:
                return int(device_id)
            except ValueError:
                pynvml.nvmlInit()
                return pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(device_id))

        @classmethod
        def device_id_to_physical_device_id(cls, device_id):
            entry = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[device_id]
            return cls.device_control_id_to_physical_device_id(entry)

    return Modern if modern else Old


@pytest.fixture
def two_gpus(gpus, monkeypatch):
    gpus(FakeGpu(), FakeGpu(lines=[f"slice {UUID.format(number)}" for number in range(3)]))


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_slice_is_part_of_its_gpu_whichever_it_is(two_gpus, monkeypatch, modern, number):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUID.format(number))
    here = platform(modern)
    assert mig_slice.teach(here, pynvml)
    assert here.device_id_to_physical_device_id(0) == 1


@pytest.mark.parametrize("modern", [True, False])
def test_a_whole_gpu_stays_as_vllm_counts_it(two_gpus, monkeypatch, modern):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    here = platform(modern)
    mig_slice.teach(here, pynvml)
    assert here.device_id_to_physical_device_id(0) == 1
    assert not mig_slice.count_as_its_gpu()  # nothing is replaced where no slice is seen


def test_a_platform_of_another_layout_is_left_alone():
    assert not mig_slice.teach(object, pynvml)
