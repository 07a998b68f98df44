"""Which device serves by default, found without loading any library."""

from __future__ import annotations

import os
from pathlib import Path


def nvidia_gpus(proc: Path = Path("/proc/driver/nvidia/gpus"), dev: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs the kernel driver shows, less those that CUDA_VISIBLE_DEVICES hides."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return 0
    found = len(list(proc.iterdir())) if proc.is_dir() else 0
    # Containers and sandboxes may hide /proc/driver and show the device nodes only.
    found = found or sum(1 for path in dev.glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return min(found, len(visible.split(","))) if visible else found


def default_device() -> str:
    """``cuda:0`` where a GPU can be seen, else ``cpu``."""
    return "cuda:0" if nvidia_gpus() else "cpu"
