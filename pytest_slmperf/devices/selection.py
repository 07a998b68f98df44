"""The devices of this process (visible GPUs, MIG slices, their memory), and the processes of this run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_slmperf.devices import amd
from pytest_slmperf.devices.gpus import Gpu, Slice, all_gpus, rocm_device_count, slices_of, visible_variable
from pytest_slmperf.devices.nvml import Nvml, NvmlFailure, opened
from pytest_slmperf.errors import InvalidInput


@dataclass(slots=True)
class Selection:
    """The selected GPUs. ``reason``: why there is none."""

    gpus: list[Gpu] = field(default_factory=list)
    reason: str | None = None


def is_index(entry: str) -> bool:
    """Whether an entry is a device number; CUDA accepts only the digits 0 to 9."""
    return re.fullmatch(r"[0-9]{1,9}", entry) is not None


def select(nvml: Nvml, wish: str | None) -> Selection:
    """The GPUs that ``wish`` (the value of CUDA_VISIBLE_DEVICES, None: unset) leaves visible, in its order.

    As in CUDA, the list ends at the first wrong entry; unlike CUDA, this adds a note.
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
            near = [known.uuid for known in gpus if known.uuid and entry != "GPU-" and known.uuid.startswith(entry)]
            several = f"begins the UUIDs of {len(near)} GPUs ({', '.join(near[:3])}, …); write more of it"
            what = several if len(near) > 1 and entry.startswith("GPU-") else f"names no GPU of this machine{closed}"
            problem = f"CUDA_VISIBLE_DEVICES={wish!r}: {entry!r} {what}"
            break
        place = entry if entry.startswith("MIG-") else gpu.index
        if place in named:
            return Selection(reason=f"CUDA_VISIBLE_DEVICES={wish!r} names {gpu.name} twice: CUDA then shows no device")
        named.add(place)
        if gpu.index not in {known.index for known in chosen}:  # slices of the same GPU are read together
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
    if problem is not None and chosen and entry != "-1":  # -1 is CUDA's own end of the list
        chosen = [replace(gpu, notes=(*gpu.notes, f"{problem}; as in CUDA, the list ends there")) for gpu in chosen]
    return Selection(chosen, None if chosen else problem)


def _find(nvml: Nvml, gpus: list[Gpu], entry: str) -> Gpu | None:
    """The GPU of one entry of CUDA_VISIBLE_DEVICES; None if the entry matches no GPU or several."""
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
    """The entry of CUDA_VISIBLE_DEVICES with which "cuda:N" of this process is the engine's only device."""
    number, variable = device.partition(":")[2] or "0", visible_variable()
    visible = [entry.strip() for entry in os.environ.get(variable, "").split(",") if entry.strip()]
    if not number.isdecimal() or (visible and int(number) >= len(visible)):
        raise InvalidInput(f"there is no device {device!r}: {variable} names {len(visible)} of them")
    return visible[int(number)] if visible else number


# The memory of the host and its GPUs.


def host_memory_bytes() -> int:
    """Memory of this machine, or of this container if it is less."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue  # no such file, or "max" in it
    return total


def device_memory_bytes(device: str) -> int | None:
    """Memory of "cuda:N" of this process; None if the driver (NVML, or AMD's) does not report it."""
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


# MIG slices and GPUs by UUID: the meaning of an index depends on CUDA_VISIBLE_DEVICES of each process, including MPS's
# daemon.


class TooFewSlices(InvalidInput):
    """A test requests more replicas than the GPU has MIG slices."""


def mig_slices(device: str) -> list[Slice]:
    """The MIG slices of "cuda:N" of this process, or those of them that CUDA_VISIBLE_DEVICES names.

    Empty if the GPU is not partitioned or NVML does not list slices.
    """
    entry = cuda_entry(device)
    with opened() as nvml:
        gpu = _gpu(nvml, entry)
        slices = [] if nvml is None or gpu is None else slices_of(nvml, gpu)
    if not entry.startswith("MIG-"):
        return slices
    named = tuple(name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip())
    return [part for part in slices if part.uuid.startswith(named)]


def lasting_entry(device: str) -> str:
    """The entry of CUDA_VISIBLE_DEVICES for "cuda:N" of this process: its UUID, or its index without NVML."""
    entry = cuda_entry(device)
    if not entry.isdigit():
        return entry
    with opened() as nvml:
        gpu = _gpu(nvml, entry)
    return (gpu.uuid if gpu is not None else None) or entry


def _gpu(nvml: Nvml | None, entry: str) -> Gpu | None:
    return None if nvml is None else next(iter(select(nvml, entry).gpus), None)


# The processes of this run: its descendants, and daemons that it started and that left its process tree.

_daemons: dict[str, int | None] = {}  # "NAME=value", an environment variable unique to the daemon → process id


def adopt(variable: str, pid: int | None) -> None:
    """Count a daemon of this run, and the processes that it starts, as this run's own.

    The parent of a daemon is init, so parents in /proc do not lead to this process.  ``variable``: "NAME=value", unique to
    the environment of the daemon's processes; ``pid`` is the fallback where /proc/PID/environ is unreadable (None: unknown).
    """
    _daemons[variable] = pid


def release(variable: str) -> None:
    """Forget a daemon that has ended. Idempotent."""
    _daemons.pop(variable, None)


def is_own(pid: int) -> bool:
    """Whether the process is this one, a descendant, or an adopted daemon or its descendant."""
    own = {os.getpid(), *(known for known in _daemons.values() if known is not None)}
    return _descends(pid, own) or _has_variable(pid)


def _has_variable(pid: int) -> bool:
    if not _daemons:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = set(file.read().split(b"\0"))
    except OSError:
        return False
    return any(variable.encode() in entries for variable in _daemons)


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
