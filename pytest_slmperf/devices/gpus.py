"""The NVIDIA GPUs of this machine and their MIG slices by NVML, and the number of visible devices."""

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
    """One physical GPU. ``mig``: it is partitioned into slices, and its readings cover the whole GPU.

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
    """One MIG slice. ``uuid``: its entry in CUDA_VISIBLE_DEVICES; ``memory_bytes``: None if NVML does not report it."""

    uuid: str
    memory_bytes: int | None = None


def describe(nvml: Nvml, handle: Any, index: int) -> Gpu:
    """Facts of one GPU; None for a fact that the driver does not report."""
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

    NvmlFailure if NVML does not report their number.
    """
    return [_opened(nvml, index) for index in range(nvml.call("nvmlDeviceGetCount"))]


def _opened(nvml: Nvml, index: int) -> Gpu:
    try:
        return describe(nvml, nvml.call("nvmlDeviceGetHandleByIndex", index), index)
    except NvmlFailure as error:  # kept as unreadable: skipping it would understate the total
        return Gpu(None, index, f"GPU {index}", None, None, closed=words(error.code))


def slices_of(nvml: Nvml, gpu: Gpu) -> list[Slice]:
    """The MIG slices of a GPU; empty if it is not partitioned or NVML does not list them."""
    slices = []
    for place in range(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu.handle) or 0):
        handle = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, place)
        uuid = None if handle is None else nvml.ask("nvmlDeviceGetUUID", handle)
        if not uuid:
            continue  # a place without a slice
        memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        slices.append(Slice(str(uuid), None if memory is None else int(memory.total)))
    return slices


# The devices that a new process would see, by the driver: no engine is imported.


def cuda_device_count() -> int:
    """Number of CUDA devices that a new process would see, by NVML; 0 without a driver."""
    present = nvidia_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or present == 0:
        return present
    if visible.strip().startswith("-") or visible.strip() == "NoDevFiles":
        return 0
    return len([entry for entry in visible.split(",") if entry.strip()])


def rocm_device_count() -> int:
    """Number of AMD devices that a new ROCm program would see, without an NVIDIA GPU; torch calls them "cuda" too."""
    return 0 if nvidia_devices() else len(amd.visible())


def default_device() -> str:
    """``cuda:0`` if a GPU is visible, else ``cpu``: the device of an engine without a choice of its own."""
    return "cuda:0" if cuda_device_count() or rocm_device_count() else "cpu"


def visible_variable(environ: Mapping[str, str] = os.environ) -> str:
    """The variable that selects the GPUs of this process: HIP's if it is set and the GPUs are AMD's, else CUDA's."""
    hip = amd.VISIBLE[0]
    return hip if environ.get(hip) and not nvidia_devices() and amd.present() else "CUDA_VISIBLE_DEVICES"


@cache
def nvidia_devices() -> int:
    """Number of GPUs by NVML, which also finds GPUs without a device file (WSL2), or else by their device files.

    /proc/driver/nvidia does not count: a container shows it even for GPUs that it may not use.
    """
    with nvml.opened() as library:
        count = None if library is None else library.ask("nvmlDeviceGetCount")
    return device_files() if count is None else int(count)


def device_files(folder: Path = Path("/dev")) -> int:
    return sum(1 for path in folder.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit())
