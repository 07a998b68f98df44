"""How much memory engines may take together, on the host and on a GPU."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.devices import amd
from pytest_slmperf.model.engine_spec import EngineSpec

SHARE = 0.85  # of what is there; the rest is for the system, the parent, and what an engine does not declare
# What one engine takes beside weights and KV cache: torch, vLLM, activations, on a GPU its context and graphs too
RUNTIME_BYTES = {"cpu": 1 * 2**30, "cuda": 3 * 2**30}


def replica_bytes(spec: EngineSpec) -> int:
    """What a further engine on the device takes beside its weights and KV cache. On a host nothing: the cores run out long
    before the memory does, and the budgets are small beside it."""
    if spec.engine == "simulated":
        return int(float(dict(spec.settings).get("runtime_gb") or 0.0) * 1e9)
    return RUNTIME_BYTES["cuda"] if (spec.device or "cpu").startswith("cuda") else 0


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
    """Memory of a CUDA device ("cuda:0", an index as CUDA counts), or None where NVML, or the driver of AMD's, does not
    tell."""
    import os

    from pytest_slmperf.devices.detection import rocm_device_count

    if rocm_device_count():
        gpus, number = amd.visible(), device.partition(":")[2] or "0"
        return gpus[int(number)].memory_bytes if number.isdecimal() and int(number) < len(gpus) else None
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver
        return None
    try:
        index = int(device.partition(":")[2] or 0)
        visible = [e.strip() for e in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if e.strip()]
        entry = visible[index] if index < len(visible) else str(index)
        if entry.isdecimal():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(entry))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(entry)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except Exception:
        return None
    finally:
        pynvml.nvmlShutdown()


def budget_bytes(device: str) -> int | None:
    """What the engines resident on a device may take together; None where nothing bounds them."""
    if device.startswith("cuda"):
        total = device_memory_bytes(device)
        return None if total is None else int(total * SHARE)
    return int(host_memory_bytes() * SHARE)
