"""Which devices CUDA_VISIBLE_DEVICES leaves to the engine: indices, UUIDs (or their beginnings) and MIG ids occur."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.devices.detection import visible_variable
from pytest_slmperf.devices.nvml import Nvml, NvmlFailure, words
from pytest_slmperf.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU to be metered. ``mig``: it is cut into slices, and the reading is the whole GPU's.

    ``closed``: why it cannot be opened (lost, no permission); ``handle`` is None then, and its number all that is known.
    """

    handle: Any
    index: int
    name: str
    uuid: str | None
    pci: str | None
    mig: bool = False
    notes: tuple[str, ...] = ()
    closed: str | None = None


@dataclass(slots=True)
class Selection:
    """GPUs chosen, and what was wrong with the wish."""

    gpus: list[Gpu] = field(default_factory=list)
    reason: str | None = None


def is_index(entry: str) -> bool:
    """True for an entry that names a device by its number; other digits than 0 to 9 are none to CUDA."""
    return re.fullmatch(r"[0-9]{1,9}", entry) is not None


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
    """Every GPU of this machine, in NVML's order (by PCI bus), those that cannot be opened too. NvmlFailure where NVML
    does not count them."""
    return [_opened(nvml, index) for index in range(nvml.call("nvmlDeviceGetCount"))]


def _opened(nvml: Nvml, index: int) -> Gpu:
    try:
        return describe(nvml, nvml.call("nvmlDeviceGetHandleByIndex", index), index)
    except NvmlFailure as error:  # left out, the others' sum would pass for that of all
        return Gpu(None, index, f"GPU {index}", None, None, closed=words(error.code))


def select(nvml: Nvml, wish: str | None) -> Selection:
    """The GPUs that ``wish`` (the value of CUDA_VISIBLE_DEVICES, None: unset) leaves visible, in its order.

    As in CUDA, the list ends at the first entry that names nothing; unlike CUDA, that is said.
    """

    try:
        gpus = all_gpus(nvml)
    except NvmlFailure as error:
        return Selection(reason=f"NVML works but does not count GPUs: {error}")
    if not gpus:
        return Selection(reason="NVML works but shows no GPU")
    if wish is None:
        return Selection(gpus)
    chosen: list[Gpu] = []
    named: set[int | str] = set()
    problem, entry = None, ""
    for entry in (part.strip() for part in wish.split(",")):
        found = _find(nvml, gpus, entry)
        if found is None:
            shut = "".join(f" ({gpu.name} cannot be opened: {gpu.closed})" for gpu in gpus if gpu.closed)
            problem = f"CUDA_VISIBLE_DEVICES={wish!r}: {entry!r} names no GPU of this machine{shut}"
            break
        place = entry if entry.startswith("MIG-") else found.index
        if place in named:
            return Selection(
                reason=f"CUDA_VISIBLE_DEVICES={wish!r} names {found.name} twice: CUDA then shows no device"
            )
        named.add(place)
        if found.index not in {gpu.index for gpu in chosen}:  # two slices of one GPU are read together
            chosen.append(found)
    if not wish.strip() or wish.strip() == "-1":
        return Selection(reason=f"CUDA_VISIBLE_DEVICES={wish!r} hides every GPU")
    kinds = {gpu.name for gpu in gpus if gpu.closed is None}
    if chosen and any(is_index(part.strip()) for part in wish.split(",")) and len(kinds) > 1:
        note = (
            "CUDA_VISIBLE_DEVICES holds indices and the GPUs differ: CUDA counts the fastest first unless "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID, this meter counts by PCI bus; use UUIDs"
        )
        import os

        if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            chosen = [replace(gpu, notes=(*gpu.notes, note)) for gpu in chosen]
    if problem is not None and chosen and entry != "-1":  # -1 is how CUDA itself says that the list ends
        chosen = [replace(gpu, notes=(*gpu.notes, f"{problem}; as in CUDA, the list ends there")) for gpu in chosen]
    return Selection(chosen, None if chosen else problem)


def _find(nvml: Nvml, gpus: list[Gpu], entry: str) -> Gpu | None:

    if is_index(entry):
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if entry.startswith("MIG-"):
        parent = _mig_parent(nvml, gpus, entry)
        return replace(parent, mig=True) if parent else None
    if entry.startswith("GPU-") and entry != "GPU-":
        near = [gpu for gpu in gpus if gpu.uuid and gpu.uuid.startswith(entry)]
        return near[0] if len(near) == 1 else None
    return None


def _mig_parent(nvml: Nvml, gpus: list[Gpu], entry: str) -> Gpu | None:
    """The GPU that a MIG id belongs to: MIG-GPU-<uuid>/<gi>/<ci> (drivers before 470) or MIG-<uuid>."""
    if entry.startswith("MIG-GPU-"):
        uuid = entry.removeprefix("MIG-").split("/")[0]
        return next((gpu for gpu in gpus if gpu.uuid == uuid), None)
    if entry == "MIG-":
        return None
    near = [gpu for gpu in gpus if gpu.closed is None for own in _slices(nvml, gpu) if own.startswith(entry)]
    return near[0] if len(near) == 1 else None


def _slices(nvml: Nvml, gpu: Gpu) -> list[str]:
    """UUIDs of the GPU's MIG slices."""
    count = nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu.handle) or 0
    handles = [nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, slot) for slot in range(count)]
    found = [nvml.ask("nvmlDeviceGetUUID", handle) for handle in handles if handle is not None]
    return [str(uuid) for uuid in found if uuid]


def cuda_entry(device: str) -> str:
    """The entry of CUDA_VISIBLE_DEVICES that makes "cuda:N", as this process counts, the engine's only device."""
    number, variable = device.partition(":")[2] or "0", visible_variable()
    visible = [entry.strip() for entry in os.environ.get(variable, "").split(",") if entry.strip()]
    if not number.isdecimal() or (visible and int(number) >= len(visible)):
        raise InvalidInput(f"there is no device {device!r}: {variable} names {len(visible)} of them")
    return visible[int(number)] if visible else number
