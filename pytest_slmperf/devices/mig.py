"""GPUs and MIG slices by the names that hold everywhere, as NVML tells them: an index changes its meaning with every
CUDA_VISIBLE_DEVICES, of MPS's daemon too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_slmperf.devices.selection import cuda_entry
from pytest_slmperf.errors import InvalidInput

if TYPE_CHECKING:
    from pytest_slmperf.devices.nvml import Nvml


class TooFewSlices(InvalidInput):
    """More replicas are asked for than the GPU has MIG slices."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG slice: ``uuid`` is its entry of CUDA_VISIBLE_DEVICES; ``memory_bytes`` None where NVML does not tell."""

    uuid: str
    memory_bytes: int | None = None


def mig_slices(device: str) -> list[Slice]:
    """The slices of "cuda:N", as this process counts; of those that CUDA_VISIBLE_DEVICES names, where it names slices.

    Empty where the GPU is not partitioned or NVML does not tell.
    """
    from pytest_slmperf.devices.selection import select

    entry = cuda_entry(device)
    with _nvml() as nvml:
        gpus = select(nvml, entry).gpus if nvml is not None else []
        if nvml is None or not gpus:
            return []
        found = _slices(nvml, gpus[0].handle)
    if not entry.startswith("MIG-"):
        return found
    named = tuple(one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip())
    return [one for one in found if one.uuid.startswith(named)]


def lasting_entry(device: str) -> str:
    """The entry of CUDA_VISIBLE_DEVICES for "cuda:N", as this process counts: its UUID; its index without NVML."""
    from pytest_slmperf.devices.selection import select

    entry = cuda_entry(device)
    if not entry.isdigit():
        return entry
    with _nvml() as nvml:
        gpus = select(nvml, entry).gpus if nvml is not None else []
    return (gpus[0].uuid if gpus else None) or entry


def _slices(nvml: Nvml, gpu: object) -> list[Slice]:
    found = []
    for place in range(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
        handle = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, place)
        uuid = None if handle is None else nvml.ask("nvmlDeviceGetUUID", handle)
        if uuid is None:
            continue  # a place without a slice
        memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        found.append(Slice(str(uuid), None if memory is None else int(memory.total)))
    return found


@contextmanager
def _nvml() -> Iterator[Nvml | None]:
    """NVML; None without the package, the library or a driver."""
    from pytest_slmperf.devices.nvml import Nvml, NvmlFailure

    try:
        nvml = Nvml()
    except (NvmlFailure, ImportError):
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.close()
