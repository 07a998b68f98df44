"""MIG slices of a GPU, as NVML tells them."""

from __future__ import annotations

from typing import Any

from pytest_slmperf.errors import InvalidInput


class TooFewSlices(InvalidInput):
    """More replicas are asked for than the GPU has MIG slices."""


def mig_slices(index: int) -> list[str]:
    """UUIDs of the slices of GPU ``index`` (as NVML counts); empty where it is not partitioned or there is no NVML."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return _slices(pynvml, index)
    finally:
        pynvml.nvmlShutdown()


def _slices(nvml: Any, index: int) -> list[str]:
    found = []
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)
    except nvml.NVMLError:
        return []
    for number in range(count):
        try:
            uuid = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number))
        except nvml.NVMLError:
            continue  # places without a slice
        found.append(uuid.decode() if isinstance(uuid, bytes) else uuid)
    return found
