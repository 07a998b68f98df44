"""GPUs and driver, as NVML tells them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def describe(environ: Mapping[str, str] = os.environ) -> tuple[list[dict[str, Any]], str | None]:
    """Facts of every GPU that ``CUDA_VISIBLE_DEVICES`` leaves visible, and the driver version.

    Each GPU: name, uuid, index, memory_bytes, power_limit_w, max_sm_clock_mhz, mig (a slice of a card).
    Without NVML, or without a GPU: an empty list and None.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the inactive "pynvml" project warns on every import
            import pynvml
    except ImportError:
        return [], None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], None
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        handles = _visible(pynvml, environ.get("CUDA_VISIBLE_DEVICES"))
        return [_facts(pynvml, index, handle) for index, handle in handles], driver
    except pynvml.NVMLError:
        return [], None
    finally:
        pynvml.nvmlShutdown()


def _visible(nvml: Any, wanted: str | None) -> list[tuple[int | None, Any]]:
    """(index, handle) of the visible devices. As CUDA does, the list ends at the first entry that names no device."""
    count = nvml.nvmlDeviceGetCount()
    if wanted is None:
        return [(index, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
    found: list[tuple[int | None, Any]] = []
    for entry in (part.strip() for part in wanted.split(",")):
        if entry.isdigit() and int(entry) < count:
            found.append((int(entry), nvml.nvmlDeviceGetHandleByIndex(int(entry))))
            continue
        handle = _by_uuid(nvml, entry, count)
        if handle is None:
            break
        found.append((None, handle))
    return found


def _by_uuid(nvml: Any, entry: str, count: int) -> Any | None:
    """The device whose UUID is, or uniquely begins with, the entry."""
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    try:
        return nvml.nvmlDeviceGetHandleByUUID(entry)
    except nvml.NVMLError:
        pass  # CUDA takes a unique beginning of a UUID as well
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    near = [handle for handle in handles if _text(nvml.nvmlDeviceGetUUID(handle)).startswith(entry)]
    return near[0] if len(near) == 1 else None


def _facts(nvml: Any, index: int | None, handle: Any) -> dict[str, Any]:
    def ask(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except nvml.NVMLError:
            return None  # a query that this card does not support

    uuid = _text(ask(lambda: nvml.nvmlDeviceGetUUID(handle)) or "")
    facts = {
        "name": _text(ask(lambda: nvml.nvmlDeviceGetName(handle)) or "unknown GPU"),
        "uuid": uuid or None,
        "index": index,
        "memory_bytes": ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
        "power_limit_w": ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
        "max_sm_clock_mhz": ask(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))),
        "mig": uuid.startswith("MIG-"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
