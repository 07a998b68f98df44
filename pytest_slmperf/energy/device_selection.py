"""Which devices of a meter are counted: the engine's own, where these are known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_slmperf.devices.selection import is_index

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.model.engine_spec import EngineSpec

# vLLM settings that multiply the number of GPUs of one engine
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
NVIDIA = ("CUDA_VISIBLE_DEVICES",)


def entries(
    spec: EngineSpec, environ: Mapping[str, str] = os.environ, variables: Sequence[str] = NVIDIA
) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES for the engine's GPUs (indices, UUIDs, MIG ids); None where it uses no GPU.

    A variable given to the engine takes precedence over this process's. "cuda:N" counts among the GPUs visible here.
    ``variables``: variables of the vendor's runtime; the first that is set applies.
    """
    kind, _, number = (spec.device or "").partition(":")
    own = _first(dict(spec.env), variables)
    if kind != "cuda" or (number and not is_index(number)):
        return None
    count = 1
    for name in PARALLEL:
        size = dict(spec.settings).get(name)
        count *= size if isinstance(size, int) and size > 0 else 1
    listed = own if own is not None else _first(environ, variables) or ""
    visible = [entry.strip() for entry in listed.split(",") if entry.strip()]
    first = 0 if own is not None else int(number or 0)
    return visible[first : first + count] if visible else [str(k) for k in range(first, first + count)]


def _first(environ: Mapping[str, str], variables: Sequence[str]) -> str | None:
    return next((environ[name] for name in variables if environ.get(name)), environ.get(variables[-1]))


def counted(meter: EnergyMeter, spec: EngineSpec) -> tuple[EnergyMeter, str]:
    """The meter restricted to the engine's devices, and a sentence that says which devices are counted and why."""
    everything = len(meter.devices())
    used = entries(spec, variables=meter.visible_variables)
    narrowed = None if used is None else meter.only(used)
    if used is None or narrowed is None:
        why = {"remote": "where the server runs is not known", "cpu": "the engine runs on the CPU"}.get(
            (spec.device or "").partition(":")[0], "which of them the engine uses is not known"
        )
        return meter, f"all {everything} devices of the meter: {why}" if everything != 1 else "the meter's one device"
    if not narrowed.devices():
        return meter, f"all {everything} devices of the meter: it knows no GPU {', '.join(used)}"
    names = ", ".join(str(device["name"]) for device in narrowed.devices())
    return narrowed, f"{len(narrowed.devices())} of {everything} GPUs, which the engine uses: {names}"
