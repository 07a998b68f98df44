"""Which devices a process started now would see; asks the driver, imports no engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pytest_slmperf.devices import amd


def cuda_device_count() -> int:
    """CUDA devices that a process started now would see; 0 without a driver. Asks NVML, not torch."""
    present = _nvidia_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or present == 0:
        return present
    if visible.strip().startswith("-") or visible.strip() == "NoDevFiles":
        return 0
    return len([entry for entry in visible.split(",") if entry.strip()])


def rocm_device_count() -> int:
    """AMD devices that a ROCm program started now would see, where there is no NVIDIA GPU; torch calls them "cuda" too."""
    return 0 if _nvidia_devices() else len(amd.visible())


def default_device() -> str:
    """``cuda:0`` where a GPU can be seen, else ``cpu``: where an engine runs that does not choose for itself."""
    return "cuda:0" if cuda_device_count() or rocm_device_count() else "cpu"


def visible_variable(environ: Mapping[str, str] = os.environ) -> str:
    """The variable by which this process's GPUs are chosen: HIP's where they are AMD's and it is set, else CUDA's."""
    hip = amd.VISIBLE[0]
    return hip if environ.get(hip) and not _nvidia_devices() and amd.present() else "CUDA_VISIBLE_DEVICES"


@cache
def _nvidia_devices() -> int:
    """NVML knows them all, where there are no device files too (WSL2); the files tell where it cannot be asked.

    /proc/driver/nvidia is not looked at: a container shows it without being given the GPU.
    """
    from pytest_slmperf.devices.nvml import load

    try:
        pynvml = load()
        pynvml.nvmlInit()
    except Exception:  # no package, no driver
        return _device_files()
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return _device_files()
    finally:
        pynvml.nvmlShutdown()


def _device_files(folder: Path = Path("/dev")) -> int:
    return sum(1 for path in folder.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit())
