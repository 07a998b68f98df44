"""How much memory the host and its GPUs have."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.devices import amd
from pytest_slmperf.devices.detection import rocm_device_count
from pytest_slmperf.devices.nvml import opened
from pytest_slmperf.devices.selection import cuda_entry
from pytest_slmperf.errors import InvalidInput


def host_memory_bytes() -> int:
    """Memory of this machine, or of this container where that is less."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue  # no such file, or "max"
    return total


def device_memory_bytes(device: str) -> int | None:
    """Memory of "cuda:N", N as CUDA counts in this process; None where the driver (NVML, or AMD's) does not report it."""
    if rocm_device_count():
        gpus, number = amd.visible(), device.partition(":")[2] or "0"
        return gpus[int(number)].memory_bytes if number.isdecimal() and int(number) < len(gpus) else None
    try:
        entry = cuda_entry(device)
    except InvalidInput:
        return None
    with opened() as nvml:
        if nvml is None:
            return None
        by = ("nvmlDeviceGetHandleByIndex", int(entry)) if entry.isdecimal() else ("nvmlDeviceGetHandleByUUID", entry)
        handle = nvml.ask(*by)
        memory = None if handle is None else nvml.ask("nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.total)
