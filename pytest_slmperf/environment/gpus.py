"""GPUs and driver, as NVML tells them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.devices.nvml import Nvml, opened
from pytest_slmperf.devices.selection import select


def describe_gpus(environ: Mapping[str, str] = os.environ) -> tuple[list[dict[str, Any]], str | None]:
    """Facts of every GPU that ``CUDA_VISIBLE_DEVICES`` leaves visible, and the driver version.

    Each GPU: name, uuid, index, memory_bytes, power_limit_w, max_sm_clock_mhz, mig; one that cannot be opened (lost, no
    permission) has index, name and ``closed``, which says why. Where a MIG slice is named, name and memory are the slice's,
    because that is what an engine runs on. Without NVML, or without a GPU: an empty list and None.
    """
    with opened() as nvml:
        if nvml is None:
            return [], None
        wish = environ.get("CUDA_VISIBLE_DEVICES")
        driver = nvml.ask("nvmlSystemGetDriverVersion")
        slices = _slices(nvml, wish or "")
        if slices:
            return [_facts(nvml, handle, {"mig": True}) for handle in slices], driver
        return [
            {"index": gpu.index, "name": gpu.name, "closed": gpu.closed}
            if gpu.closed is not None
            else _facts(nvml, gpu.handle, {"index": gpu.index, "name": gpu.name, "mig": gpu.mig})
            for gpu in select(nvml, wish).gpus
        ], driver


def _slices(nvml: Nvml, wish: str) -> list[Any]:
    """Handles of the MIG slices that the wish names."""
    entries = (entry.strip() for entry in wish.split(","))
    handles = [nvml.ask("nvmlDeviceGetHandleByUUID", entry) for entry in entries if entry.startswith("MIG-")]
    return [handle for handle in handles if handle is not None]


def _facts(nvml: Nvml, handle: Any, known: dict[str, Any]) -> dict[str, Any]:
    """What NVML says of one device; what it refuses is left out."""
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
    limit_mw = nvml.ask("nvmlDeviceGetEnforcedPowerLimit", handle)
    facts = {
        "name": nvml.ask("nvmlDeviceGetName", handle),
        "uuid": nvml.ask("nvmlDeviceGetUUID", handle),
        "memory_bytes": None if memory is None else int(memory.total),
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "max_sm_clock_mhz": nvml.ask("nvmlDeviceGetMaxClockInfo", handle, 1),  # 1: the SM clock
    }
    return known | {key: value for key, value in facts.items() if value is not None}
