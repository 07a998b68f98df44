"""Figures of models, published peaks of accelerators, and the measurement of a CPU's peaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_slmperf.contrib.roofline.limits import ModelFigures
from pytest_slmperf.engines.presets import Model, resolve_model
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.model import architecture

# Figures of models, from their architecture.


def figures(name: str, dtype: str | None = None, kv_dtype: str | None = None) -> ModelFigures:
    """Figures of a preset or model folder at this dtype. InvalidInput for a model of unknown architecture."""
    model = resolve_model(name, "dummy")
    known = figures_of(model, dtype, kv_dtype)
    if known is None:
        raise InvalidInput(
            f"model {name!r}: its architecture is not one whose parameters can be counted from the config"
        )
    return known


def figures_of(model: Model, dtype: str | None = None, kv_dtype: str | None = None) -> ModelFigures | None:
    """The same for a resolved model; None if the config does not suffice. ``kv_dtype``: of the KV cache; None: ``dtype``."""
    weights, kv = model.weight_bytes(dtype), model.kv_bytes_per_token(kv_dtype or dtype)
    try:
        flops = architecture.flops_per_token(model.config)
        attention = architecture.flops_per_token(model.config, context=1) - flops
        read = architecture.read_bytes(model.config, dtype)
    except (KeyError, TypeError, architecture.UnknownArchitecture):
        return None
    if weights is None or kv is None:
        return None
    return ModelFigures(model.name, weights, kv, flops, attention, read)


# Published peaks of accelerators by their NVML names. The makers' data sheets quote tensor-core rates "with sparsity"; half
# of that is the dense rate, which serving can use.


@dataclass(frozen=True, slots=True)
class Device:
    """A device's limits. ``bandwidth`` in bytes/s, ``flops`` per second by dtype, ``memory`` in bytes.

    ``source``: the data sheet, or "measured" with the method.
    """

    name: str
    bandwidth: float
    flops: dict[str, float] = field(hash=False)
    memory: int | None
    source: str

    def flops_for(self, dtype: str | None) -> float | None:
        """Peak at this dtype; None if it is unknown."""
        name = {"half": "float16", "float": "float32", None: "bfloat16", "auto": "bfloat16"}.get(dtype, dtype)
        return self.flops.get(str(name))


def _gpu(name: str, gb: int, gb_s: float, half_tflops: float, fp8_tflops: float | None, source: str) -> Device:
    flops = {"float16": half_tflops * 1e12, "bfloat16": half_tflops * 1e12}
    if fp8_tflops is not None:
        flops["fp8"] = fp8_tflops * 1e12
    return Device(name, gb_s * 1e9, flops, gb * 10**9, source)


# By results of nvmlDeviceGetName, which must be equal: an L40 is not an L4, and a MIG slice has only a part of its GPU.
DEVICES = (
    _gpu("NVIDIA H200", 141, 4800, 989, 1979, "NVIDIA H200 data sheet"),
    _gpu("NVIDIA GH200 480GB", 96, 4000, 989, 1979, "NVIDIA GH200 data sheet (HBM3)"),
    _gpu("NVIDIA H100 NVL", 94, 3900, 835, 1671, "NVIDIA H100 data sheet"),
    _gpu("NVIDIA H100 PCIe", 80, 2000, 756, 1513, "NVIDIA H100 PCIe product brief"),
    _gpu("NVIDIA H100 80GB HBM3", 80, 3350, 989, 1979, "NVIDIA H100 data sheet (SXM)"),
    _gpu("NVIDIA A100-SXM4-80GB", 80, 2039, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100-SXM4-40GB", 40, 1555, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100 80GB PCIe", 80, 1935, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100-PCIE-40GB", 40, 1555, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA L40S", 48, 864, 362, 733, "NVIDIA L40S data sheet"),
    _gpu("NVIDIA L4", 24, 300, 121, 242, "NVIDIA L4 data sheet"),
    _gpu("NVIDIA A10G", 24, 600, 70, None, "NVIDIA A10G data sheet"),
    _gpu("NVIDIA A10", 24, 600, 125, None, "NVIDIA A10 data sheet"),
    Device("Tesla T4", 320e9, {"float16": 65e12}, 16 * 10**9, "NVIDIA T4 data sheet"),
    Device("Tesla V100-SXM2-16GB", 900e9, {"float16": 125e12}, 16 * 10**9, "NVIDIA V100 data sheet"),
    Device("Tesla V100-SXM2-32GB", 900e9, {"float16": 125e12}, 32 * 10**9, "NVIDIA V100 data sheet"),
)


def published(name: str) -> Device | None:
    """The published peaks of a device by its NVML name; None for a device that is not in the table."""
    return next((device for device in DEVICES if device.name.casefold() == name.strip().casefold()), None)


MEASURABLE = ("float32", "bfloat16", "float16")
PROBE = Path(__file__).with_name("cpu_probe.py")


def measured_cpu(
    dtype: str = "bfloat16",
    cpus: Sequence[int] | None = None,
    *,
    python: str | None = None,
    seconds: float = 0.5,
    timeout_s: float = 120.0,
) -> Device:
    """Bandwidth and matrix rate of these cores (None: all but one, as for an engine), measured for ``seconds`` each.

    ``python``: the engine's interpreter, without whose torch the rate is numpy's float32.  InvalidInput for a dtype without
    matrix products on CPUs, EngineError if the probe fails.
    """
    dtype = {"half": "float16", "float": "float32"}.get(dtype, dtype)
    if dtype not in MEASURABLE:
        raise InvalidInput(f"a CPU's matrix rate can be measured in {', '.join(MEASURABLE)}, not in {dtype}")
    cores = sorted(os.sched_getaffinity(0)) if cpus is None else sorted(cpus)
    if cpus is None and len(cores) > 1:
        cores = cores[1:]
    threads = str(len(cores))
    env = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [python or sys.executable, str(PROBE), dtype, threads, str(seconds)]
    try:
        done = subprocess.run(
            command,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"the bandwidth probe took more than {timeout_s:g} s; is the machine busy?") from error
    if done.returncode != 0:
        raise EngineError("the bandwidth probe failed", "\n".join(done.stderr.splitlines()[-20:]))
    probed = json.loads(done.stdout.splitlines()[-1])
    return Device(
        name=f"CPU, {threads} core{'' if threads == '1' else 's'}",
        bandwidth=probed["bandwidth"],
        flops={probed["dtype"]: probed["flops"]},
        memory=None,
        source=f"measured: {probed['tool']}, float32 matrix-vector and {probed['dtype']} matrix products",
    )
