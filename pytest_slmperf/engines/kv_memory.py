"""How much memory engines may take together, on the host and on a GPU."""

from __future__ import annotations

from pytest_slmperf.devices.memory import device_memory_bytes, host_memory_bytes
from pytest_slmperf.model.engine_spec import EngineSpec

SHARE = 0.85  # of what is there; the rest is for the system, the parent, and what an engine does not declare
# What one engine takes beside weights and KV cache: torch, vLLM, activations, on a GPU its context and graphs too
RUNTIME_BYTES = {"cpu": 1 * 2**30, "cuda": 3 * 2**30}


def replica_bytes(spec: EngineSpec) -> int:
    """What a further engine on the device takes beside its weights and KV cache. On a host nothing: the cores run out long
    before the memory does, and the budgets are small beside it."""
    if spec.engine == "simulated":
        return int(float(dict(spec.settings).get("runtime_gb") or 0.0) * 1e9)
    return RUNTIME_BYTES["cuda"] if (spec.device or "cpu").startswith("cuda") else 0


def budget_bytes(device: str) -> int | None:
    """What the engines resident on a device may take together; None where nothing bounds them."""
    if device.startswith("cuda"):
        total = device_memory_bytes(device)
        return None if total is None else int(total * SHARE)
    return int(host_memory_bytes() * SHARE)
