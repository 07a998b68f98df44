"""How much memory engines may take together, on the host and on a GPU."""

from __future__ import annotations

from pytest_slmperf.devices.memory import device_memory_bytes, host_memory_bytes

SHARE = 0.85  # of a device's memory; the rest is for the system, this process, and what engines do not declare
# Bytes of one engine beside weights and KV cache: torch, vLLM, activations, on a GPU its context and graphs as well
RUNTIME_BYTES = {"cpu": 1 * 2**30, "cuda": 3 * 2**30}


def budget_bytes(device: str) -> int | None:
    """Bytes that the engines resident on a device may take together; None where the device's memory is not known."""
    if device.startswith("cuda"):
        total = device_memory_bytes(device)
        return None if total is None else int(total * SHARE)
    return int(host_memory_bytes() * SHARE)
