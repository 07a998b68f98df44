"""vLLM on a MIG slice: NVML is asked about the slice's GPU.

vLLM turns the UUID of CUDA_VISIBLE_DEVICES into an index, and asks NVML for the GPU of that index.  For a slice, NVML's
index is that within its GPU: the second slice of GPU 0 became GPU 1, which is another or none (seen in 0.26, the same code
in 0.32; older ones take the entry for a number).  What CUDA computes on is not touched by this.

Standard library and vLLM only, Python 3.10.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

ENTRY = "CUDA_VISIBLE_DEVICES"


def count_as_its_gpu() -> bool:
    """Where this process sees a MIG slice, let vLLM's platform know it by its GPU's index. Whether that was done.

    Holds for this process only: an engine core in a process of its own is not reached.
    """
    if not os.environ.get(ENTRY, "").startswith("MIG-"):
        return False
    try:
        from vllm.platforms import current_platform
        from vllm.third_party import pynvml
    except ImportError:
        return False  # another layout: vLLM's own error tells
    return teach(type(current_platform), pynvml)


def teach(platform: Any, pynvml: Any) -> bool:
    """Replace how ``platform`` maps an entry to a GPU's index, for slices; False where it has no such method."""
    for name, of_entry in (
        ("device_control_id_to_physical_device_id", True),
        ("device_id_to_physical_device_id", False),
    ):
        if hasattr(platform, name):
            setattr(platform, name, classmethod(_mapping(getattr(platform, name), of_entry, pynvml)))
            return True
    return False


def _mapping(usual: Callable[[Any], Any], of_entry: bool, pynvml: Any) -> Callable[[Any, Any], Any]:
    def mapped(_: Any, asked: Any) -> Any:
        entry = str(asked) if of_entry else os.environ.get(ENTRY, "").split(",")[asked]
        return gpu_of(entry, pynvml) if entry.startswith("MIG-") else usual(asked)

    return mapped


def gpu_of(uuid: str, pynvml: Any) -> int:
    """Index of the GPU that a slice is part of, as NVML counts."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)))
    finally:
        pynvml.nvmlShutdown()
