"""Measure a CPU's peaks as its engine would see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_slmperf.contrib.roofline.devices import Device
from pytest_slmperf.errors import EngineError, InvalidInput

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
    """Bandwidth and matrix rate of these cores (None: all but one, as an engine gets them), measured for ``seconds`` each.

    ``python``: the engine's interpreter.  Without torch there the rate is numpy's float32.  InvalidInput for a dtype that
    CPUs do not multiply matrices in, EngineError when the probe fails.
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
