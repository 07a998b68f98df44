"""How many devices a process started now would see; asks the driver, imports no engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pytest_slmperf.devices import amd, nvml


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
