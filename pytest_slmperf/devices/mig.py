"""MIG slices and GPUs by UUID: an index changes its meaning with every CUDA_VISIBLE_DEVICES, also that of MPS's daemon."""

from __future__ import annotations

import os

from pytest_slmperf.devices.gpus import Gpu, Slice, slices_of
from pytest_slmperf.devices.nvml import Nvml, opened
from pytest_slmperf.devices.selection import cuda_entry, select
from pytest_slmperf.errors import InvalidInput


class TooFewSlices(InvalidInput):
    """More replicas are asked for than the GPU has MIG slices."""


def mig_slices(device: str) -> list[Slice]:
    """The MIG slices of "cuda:N", N as this process counts; where CUDA_VISIBLE_DEVICES names slices, only these.

    Empty where the GPU is not partitioned or NVML does not list slices.
    """
    entry = cuda_entry(device)
    with opened() as nvml:
        gpu = _gpu(nvml, entry)
        slices = [] if nvml is None or gpu is None else slices_of(nvml, gpu)
    if not entry.startswith("MIG-"):
        return slices
    named = tuple(name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip())
    return [part for part in slices if part.uuid.startswith(named)]


def lasting_entry(device: str) -> str:
    """The entry of CUDA_VISIBLE_DEVICES for "cuda:N", N as this process counts: its UUID, or its index without NVML."""
    entry = cuda_entry(device)
    if not entry.isdigit():
        return entry
    with opened() as nvml:
        gpu = _gpu(nvml, entry)
    return (gpu.uuid if gpu is not None else None) or entry


def _gpu(nvml: Nvml | None, entry: str) -> Gpu | None:
    return None if nvml is None else next(iter(select(nvml, entry).gpus), None)
