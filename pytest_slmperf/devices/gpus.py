"""The NVIDIA GPUs of this machine and their MIG slices, as NVML lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
