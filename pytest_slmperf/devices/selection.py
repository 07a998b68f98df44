"""Which GPUs CUDA_VISIBLE_DEVICES leaves visible. Its entries are indices, UUIDs (or their beginnings) or MIG ids."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

from pytest_slmperf.devices.detection import visible_variable
from pytest_slmperf.devices.gpus import Gpu, all_gpus, slices_of
from pytest_slmperf.devices.nvml import Nvml, NvmlFailure
from pytest_slmperf.errors import InvalidInput


@dataclass(slots=True)
class Selection:
    """The GPUs chosen. ``reason``: why there is none."""

    gpus: list[Gpu] = field(default_factory=list)
    reason: str | None = None


def is_index(entry: str) -> bool:
    """True for an entry that names a device by its number; CUDA reads the digits 0 to 9 only."""
    return re.fullmatch(r"[0-9]{1,9}", entry) is not None


def select(nvml: Nvml, wish: str | None) -> Selection:
    """The GPUs that ``wish`` (the value of CUDA_VISIBLE_DEVICES, None: unset) leaves visible, in its order.

    As in CUDA, the list ends at the first entry that names nothing; unlike in CUDA, a note says so.
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
        gpu = _find(nvml, gpus, entry)
        if gpu is None:
            closed = "".join(f" ({shut.name} cannot be opened: {shut.closed})" for shut in gpus if shut.closed)
            problem = f"CUDA_VISIBLE_DEVICES={wish!r}: {entry!r} names no GPU of this machine{closed}"
            break
        place = entry if entry.startswith("MIG-") else gpu.index
        if place in named:
            return Selection(reason=f"CUDA_VISIBLE_DEVICES={wish!r} names {gpu.name} twice: CUDA then shows no device")
        named.add(place)
        if gpu.index not in {known.index for known in chosen}:  # two slices of one GPU are read together
            chosen.append(gpu)
    if not wish.strip() or wish.strip() == "-1":
        return Selection(reason=f"CUDA_VISIBLE_DEVICES={wish!r} hides every GPU")
    kinds = {gpu.name for gpu in gpus if gpu.closed is None}
    if chosen and any(is_index(part.strip()) for part in wish.split(",")) and len(kinds) > 1:
        note = (
            "CUDA_VISIBLE_DEVICES holds indices and the GPUs differ: CUDA counts the fastest first unless "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID, this meter counts by PCI bus; use UUIDs"
        )
        if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            chosen = [replace(gpu, notes=(*gpu.notes, note)) for gpu in chosen]
    if problem is not None and chosen and entry != "-1":  # -1 is how CUDA itself says that the list ends
        chosen = [replace(gpu, notes=(*gpu.notes, f"{problem}; as in CUDA, the list ends there")) for gpu in chosen]
    return Selection(chosen, None if chosen else problem)


def _find(nvml: Nvml, gpus: list[Gpu], entry: str) -> Gpu | None:
    """The GPU that one entry of CUDA_VISIBLE_DEVICES names; None for an entry that names none, or several."""
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
    near = [gpu for gpu in gpus if gpu.closed is None for own in slices_of(nvml, gpu) if own.uuid.startswith(entry)]
    return near[0] if len(near) == 1 else None


def cuda_entry(device: str) -> str:
    """The entry of CUDA_VISIBLE_DEVICES that makes "cuda:N", as this process counts, the engine's only device."""
    number, variable = device.partition(":")[2] or "0", visible_variable()
    visible = [entry.strip() for entry in os.environ.get(variable, "").split(",") if entry.strip()]
    if not number.isdecimal() or (visible and int(number) >= len(visible)):
        raise InvalidInput(f"there is no device {device!r}: {variable} names {len(visible)} of them")
    return visible[int(number)] if visible else number
