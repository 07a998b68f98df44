"""The machine measured on, as a ``record.Machine``.

What identifies the machine is read here from the operating system and NVML, so that the fingerprint is the same whether
pytest-benchmark is installed or not; pytest-benchmark's own machine information is added as further detail.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_slmperf.model.result import Machine

# Instruction sets that decide which kernels a CPU engine takes; the full list of flags says nothing more to a reader.
_TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)


def describe_machine() -> Machine:
    """The machine's hardware, driver and operating system. Never raises because hardware or a library is absent."""
    from pytest_slmperf.environment import fingerprint, gpus

    cards, driver = gpus.describe_gpus()
    machine = Machine(
        fingerprint="",
        cpu=cpu(),
        gpus=cards,
        memory_bytes=memory_bytes(),
        driver=driver,
        os={"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )
    machine.fingerprint = fingerprint.of_machine(machine)
    return machine


def cpu(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Facts of the CPU. ``model``, ``family`` and ``cores`` identify it; the rest is detail.

    ``cores`` are the logical cores that this container or machine may use: the count, less what a cgroup quota
    takes away. The affinity of this process is not counted, because a harness narrows its own.
    """
    facts = _proc_cpuinfo(proc / "cpuinfo")
    model = facts.get("model name") or facts.get("cpu model") or platform.processor() or platform.machine()
    described: dict[str, Any] = {"model": " ".join(model.split()), "cores": available_cores()}
    # A virtual machine often says "AMD EPYC" and no more; family and model tell the generations apart.
    family = [facts[key] for key in ("cpu family", "model") if facts.get(key, "").isdigit()]
    if len(family) == 2:
        described["family"] = "/".join(family)
    if "microcode" in facts:
        described["microcode"] = facts["microcode"]
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    described["flags"] = [flag for flag in _TELLING_FLAGS if flag in flags]
    return described | _from_pytest_benchmark()


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Logical cores of the machine, or of the cgroup when it has a CPU quota (rounded up)."""
    cores = os.cpu_count() or 1
    try:
        quota, _, period = (cgroup / "cpu.max").read_text().strip().partition(" ")
        if quota != "max":
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2, or none with a quota: the machine's own count stands
    return cores


def memory_bytes() -> int:
    """Physical memory in bytes; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0


def _proc_cpuinfo(path: Path) -> dict[str, str]:
    """Keys and values of the first processor in ``/proc/cpuinfo``; empty where there is none (macOS)."""
    try:
        first = path.read_text(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, sep, value in pairs if sep}


def _from_pytest_benchmark() -> dict[str, Any]:
    """The part of pytest-benchmark's machine information that a reader of a report wants; empty without it.

    The function needs the package only, not the active plugin, so ``-p no:benchmark`` changes nothing.
    """
    try:
        import pytest_benchmark.plugin as pytest_benchmark
    except ImportError:
        return {}
    ask: Callable[[], dict[str, Any]] = pytest_benchmark.pytest_benchmark_generate_machine_info
    try:
        info = ask()
    except Exception as error:  # py-cpuinfo parses many tools' output; its failures must not stop a measurement
        return {"pytest_benchmark_error": f"{type(error).__name__}: {error}"}
    keep = ("vendor_id_raw", "hz_advertised_friendly", "l1_data_cache_size", "l2_cache_size", "l3_cache_size")
    detail = info.get("cpu") or {}
    return {key.removesuffix("_raw"): detail[key] for key in keep if key in detail}
