"""AMD GPUs by the kernel's compute driver, without ROCm: /dev/kfd and its topology under /sys.

The order is ROCm's, so that its variables and torch's "cuda:N" mean the same GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNTIME = "ROCR_VISIBLE_DEVICES"  # of every ROCm program; HIP's indices count the GPUs that it leaves visible
VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")  # HIP reads the first that is set
ON_BOARD = ("1", "2")  # heap types of memory on the GPU itself


@dataclass(frozen=True, slots=True)
class KfdGpu:
    """One GPU. ``memory_bytes``: its own memory, None if the kernel does not report it; ``uuid``: ROCm's, or ""."""

    uuid: str
    memory_bytes: int | None


def visible(
    environ: Mapping[str, str] = os.environ, *, root: Path = Path("/sys"), devices: Path = Path("/dev")
) -> list[KfdGpu]:
    """The GPUs that a new ROCm program could use; none without the driver or the permission to open it."""
    gpus = present(root, devices)
    for variable in (RUNTIME, next((name for name in VISIBLE if environ.get(name)), "")):
        if variable in environ:
            gpus = _among(gpus, environ[variable].split(","))
    return gpus


def present(root: Path = Path("/sys"), devices: Path = Path("/dev")) -> list[KfdGpu]:
    """Every GPU that this process may open.

    A container shows the topology of all GPUs; the nodes of GPUs that it may not use are unreadable or have no device file.
    """
    if not os.access(devices / "kfd", os.R_OK | os.W_OK):
        return []
    nodes = [node for node in (root / "class/kfd/kfd/topology/nodes").glob("*") if node.name.isdigit()]
    gpus = []
    for node in sorted(nodes, key=lambda node: int(node.name)):
        facts = _properties(node / "properties")
        minor = facts.get("drm_render_minor", "0")
        if facts.get("simd_count", "0") == "0" or not _may_open(devices, minor):
            continue  # a CPU, or a GPU that this process may not use
        number = int(facts.get("unique_id", "0"))
        banks = [_properties(bank / "properties") for bank in (node / "mem_banks").glob("*")]
        own = sum(int(bank.get("size_in_bytes", "0")) for bank in banks if bank.get("heap_type") in ON_BOARD)
        gpus.append(KfdGpu(f"GPU-{number:016x}" if number else "", own or None))
    return gpus


def _may_open(devices: Path, minor: str) -> bool:
    return minor == "0" or os.access(devices / "dri" / f"renderD{minor}", os.R_OK | os.W_OK)


def _among(gpus: Sequence[KfdGpu], entries: Sequence[str]) -> list[KfdGpu]:
    """The GPUs that the entries name; as in ROCm, the first wrong entry ends the list."""
    chosen: list[KfdGpu] = []
    for entry in (part.strip() for part in entries):
        if entry.isascii() and entry.isdigit():
            gpu = gpus[int(entry)] if int(entry) < len(gpus) else None
        else:
            gpu = next((gpu for gpu in gpus if entry and gpu.uuid.lower() == entry.lower()), None)
        if gpu is None:
            break
        chosen.append(gpu)
    return chosen


def _properties(path: Path) -> dict[str, str]:
    """Name → number in one file of the driver; empty if it cannot be read."""
    try:
        pairs = [line.split() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError:
        return {}
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
