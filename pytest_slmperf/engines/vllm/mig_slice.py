"""vLLM on a MIG slice: make vLLM ask NVML about the slice's GPU.

vLLM converts the UUID in CUDA_VISIBLE_DEVICES to an index and asks NVML for the GPU of that index.  NVML's index of a slice
counts within its GPU: the second slice of GPU 0 became GPU 1, which is another GPU or none (seen in 0.26, the same code
in 0.32; older versions expect a number).  The device on which CUDA computes is not affected.

Standard library and vLLM only, Python 3.10.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

ENTRY = "CUDA_VISIBLE_DEVICES"


def count_as_its_gpu() -> bool:
    """If this process sees a MIG slice, make vLLM's platform use the index of its GPU; returns whether it did.

    The change affects this process only, not an engine core in a process of its own.
    """
    if not os.environ.get(ENTRY, "").startswith("MIG-"):
        return False
    try:
        from vllm.platforms import current_platform
        from vllm.third_party import pynvml
    except ImportError:
        return False  # another layout of the package: vLLM's own error must suffice
    return teach(type(current_platform), pynvml)


def teach(platform: Any, pynvml: Any) -> bool:
    """Replace the method of ``platform`` that maps a slice to a GPU's index; False if it has no such method."""
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
    """NVML's index of the GPU to which a slice belongs."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)))
    finally:
        pynvml.nvmlShutdown()
