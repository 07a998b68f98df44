"""The NVIDIA GPUs of this machine and their MIG slices, as NVML lists them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pytest_slmperf.devices import amd, nvml
from pytest_slmperf.devices.nvml import Nvml, NvmlFailure, words


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU. ``mig``: it is cut into slices, and a reading of it covers the whole GPU.

    ``closed``: why it cannot be opened (lost, no permission); ``handle`` is then None, and only the index is known.
    """

    handle: Any
    index: int
    name: str
    uuid: str | None
    pci: str | None
    mig: bool = False
    notes: tuple[str, ...] = ()
    closed: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG slice: ``uuid`` is its entry of CUDA_VISIBLE_DEVICES; ``memory_bytes`` None where NVML does not report it."""

    uuid: str
    memory_bytes: int | None = None


def describe(nvml: Nvml, handle: Any, index: int) -> Gpu:
    """Facts of one GPU; what the driver refuses is None."""
    mode = nvml.ask("nvmlDeviceGetMigMode", handle)
    pci = nvml.ask("nvmlDeviceGetPciInfo", handle)
    bus = getattr(pci, "busId", None)
    name = nvml.ask("nvmlDeviceGetName", handle)
    return Gpu(
        handle,
        index,
        str(name) if name else f"GPU {index}",
        nvml.ask("nvmlDeviceGetUUID", handle),
        bus.decode() if isinstance(bus, bytes) else bus,
        mig=bool(mode and mode[0]),
    )


def all_gpus(nvml: Nvml) -> list[Gpu]:
    """Every GPU of this machine in NVML's order (by PCI bus), including GPUs that cannot be opened.

    NvmlFailure where NVML does not count them.
    """
    return [_opened(nvml, index) for index in range(nvml.call("nvmlDeviceGetCount"))]


def _opened(nvml: Nvml, index: int) -> Gpu:
    try:
        return describe(nvml, nvml.call("nvmlDeviceGetHandleByIndex", index), index)
    except NvmlFailure as error:  # kept as unreadable: skipping it would understate the total
        return Gpu(None, index, f"GPU {index}", None, None, closed=words(error.code))


def slices_of(nvml: Nvml, gpu: Gpu) -> list[Slice]:
    """The MIG slices of a GPU; empty where it is not partitioned or NVML does not list them."""
    slices = []
    for place in range(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu.handle) or 0):
        handle = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, place)
        uuid = None if handle is None else nvml.ask("nvmlDeviceGetUUID", handle)
        if not uuid:
            continue  # a place without a slice
        memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        slices.append(Slice(str(uuid), None if memory is None else int(memory.total)))
    return slices


# How many devices a process started now would see; asks the driver, imports no engine.


def cuda_device_count() -> int:
    """CUDA devices that a process started now would see; 0 without a driver. Asks NVML, not torch."""
    present = nvidia_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or present == 0:
        return present
    if visible.strip().startswith("-") or visible.strip() == "NoDevFiles":
        return 0
    return len([entry for entry in visible.split(",") if entry.strip()])


def rocm_device_count() -> int:
    """AMD devices that a ROCm program started now would see, where there is no NVIDIA GPU; torch calls them "cuda" too."""
    return 0 if nvidia_devices() else len(amd.visible())


def default_device() -> str:
    """``cuda:0`` where a GPU is visible, else ``cpu``: the device of an engine that does not choose for itself."""
    return "cuda:0" if cuda_device_count() or rocm_device_count() else "cpu"


def visible_variable(environ: Mapping[str, str] = os.environ) -> str:
    """The variable by which the GPUs of this process are chosen: HIP's for AMD GPUs where it is set, else CUDA's."""
    hip = amd.VISIBLE[0]
    return hip if environ.get(hip) and not nvidia_devices() and amd.present() else "CUDA_VISIBLE_DEVICES"


@cache
def nvidia_devices() -> int:
    """GPUs by NVML, which also knows GPUs without a device file (WSL2); by their device files where NVML cannot be asked.

    /proc/driver/nvidia does not count: a container shows it without having been given the GPU.
    """
    with nvml.opened() as library:
        count = None if library is None else library.ask("nvmlDeviceGetCount")
    return device_files() if count is None else int(count)


def device_files(folder: Path = Path("/dev")) -> int:
    return sum(1 for path in folder.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit())
