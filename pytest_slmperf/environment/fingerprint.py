"""The machine of a session: its hardware, GPUs and software, and the fingerprint under which baselines are stored.

A fingerprint is a readable folder name and a short hash of the identity's parts. It excludes what users want to compare
(engine version, commit, flags, kernel, clocks), which is reported as a difference instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_slmperf.devices.nvml import Nvml, opened
from pytest_slmperf.devices.selection import select
from pytest_slmperf.model.result import Engine, Machine

Identity = dict[str, Any]  # part → value, JSON-ready

SIMULATED = "simulated"


def identity(machine: Machine, engine: Engine) -> Identity:
    """The parts that must be equal in two results for a comparison.

    CPU model and cores for an engine on the CPU; GPUs (name, memory, count) and driver on a GPU; both for any other device.
    A simulation is the same on every machine and has no hardware. A fingerprint that does not follow from the machine's
    facts was stated by the user (imported results) and is a part of its own.
    """
    device = engine.device.partition(":")[0].lower() or "unknown"
    parts: Identity = {"engine": engine.name, "device": device, "weights": engine.weights}
    if engine.weights == SIMULATED:
        return parts
    if device != "cpu":
        parts |= _gpu_parts(machine)
    if device == "cpu" or not machine.usable_gpus:
        parts |= _cpu_parts(machine)
    if machine.fingerprint and machine.fingerprint != of_machine(machine):
        parts["machine"] = machine.fingerprint
    return parts


def of(machine: Machine, engine: Engine) -> str:
    """Fingerprint of a result: for instance ``amd-epyc-2c-vllm-cpu-dummy-1a2b3c4d``."""
    parts = identity(machine, engine)
    return _named(parts, [*_hardware_words(parts), engine.name, parts["device"], engine.weights])


def of_machine(machine: Machine) -> str:
    """Fingerprint of the hardware and driver alone, for ``machine.fingerprint`` of a results file."""
    parts = _cpu_parts(machine) | (_gpu_parts(machine) if machine.usable_gpus else {})
    return _named(parts, _hardware_words(parts))


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Part → (old, new) of every part that differs between two identities; None for an absent part."""
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _cpu_parts(machine: Machine) -> Identity:
    family = machine.cpu.get("family")
    model = str(machine.cpu.get("model", "unknown CPU"))
    return {"cpu": f"{model} ({family})" if family else model, "cores": machine.cpu.get("cores")}


def _gpu_parts(machine: Machine) -> Identity:
    # Whole GiB, since the memory that drivers report for the same card differs by some MiB.
    cards = sorted(f"{_card(gpu)}, {round(gpu.get('memory_bytes', 0) / 2**30)} GiB" for gpu in machine.usable_gpus)
    return {"gpus": cards, "driver": machine.driver}


def _card(gpu: dict[str, Any]) -> str:
    name = str(gpu.get("name", "unknown GPU"))
    return f"{name} MIG" if gpu.get("mig") and "MIG" not in name else name


def _hardware_words(parts: Identity) -> list[str]:
    words = []
    cards = parts.get("gpus") or []
    if cards:
        name = str(cards[0]).rpartition(",")[0]
        words.append(name if len(cards) == 1 else f"{len(cards)}x {name}")
        words.append(f"driver{str(parts.get('driver')).partition('.')[0]}")
    elif "cpu" in parts:
        words += [str(parts["cpu"]).partition(" (")[0], f"{parts.get('cores')}c"]
    return words


def _named(parts: Identity, words: list[str]) -> str:
    """``words`` as a folder name of at most 80 characters, followed by a hash of the parts."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:8]
    words = [word for number, word in enumerate(words) if word not in words[:number]]  # "simulated" once is enough
    text = re.sub(r"\((r|tm)\)|\bcpu @.*", " ", " ".join(words).lower())
    slug = re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")[:71].rstrip("-.")
    return f"{slug or 'machine'}-{digest}"


# The record of the machine. Identifying facts come from the operating system and NVML, so that the fingerprint does not
# depend on pytest-benchmark, whose machine information is added as further detail.

# Instruction sets that determine the kernels of a CPU engine; a reader does not need the full list of flags.
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
    """The machine's hardware, driver and operating system. Absent hardware or libraries do not raise."""

    cards, driver = describe_gpus()
    machine = Machine(
        fingerprint="",
        cpu=cpu(),
        gpus=cards,
        memory_bytes=memory_bytes(),
        driver=driver,
        os={"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )
    machine.fingerprint = of_machine(machine)
    return machine


def cpu(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Facts of the CPU. ``model``, ``family`` and ``cores`` identify it; the rest is detail.

    ``cores``: the logical cores of the machine, or of the container's cgroup quota. The affinity of this process does not
    count, because a harness restricts its own.
    """
    facts = _proc_cpuinfo(proc / "cpuinfo")
    model = facts.get("model name") or facts.get("cpu model") or platform.processor() or platform.machine()
    described: dict[str, Any] = {"model": " ".join(model.split()), "cores": available_cores()}
    # A virtual machine often reports only "AMD EPYC"; family and model distinguish the generations.
    family = [facts[key] for key in ("cpu family", "model") if facts.get(key, "").isdigit()]
    if len(family) == 2:
        described["family"] = "/".join(family)
    if "microcode" in facts:
        described["microcode"] = facts["microcode"]
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    described["flags"] = [flag for flag in _TELLING_FLAGS if flag in flags]
    return described | _from_pytest_benchmark()


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Logical cores of the machine, or of the cgroup if it has a CPU quota (rounded up)."""
    cores = os.cpu_count() or 1
    try:
        quota, _, period = (cgroup / "cpu.max").read_text().strip().partition(" ")
        if quota != "max":
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2, or no quota: the machine's own number applies
    return cores


def memory_bytes() -> int:
    """Physical memory in bytes; 0 if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0


def _proc_cpuinfo(path: Path) -> dict[str, str]:
    """Keys and values of the first processor in ``/proc/cpuinfo``; empty without that file (macOS)."""
    try:
        first = path.read_text(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, sep, value in pairs if sep}


def _from_pytest_benchmark() -> dict[str, Any]:
    """The part of pytest-benchmark's machine information that a reader of a report wants; empty without the package.

    It needs the package only, not the active plugin: ``-p no:benchmark`` does not matter.
    """
    try:
        import pytest_benchmark.plugin as pytest_benchmark
    except ImportError:
        return {}
    ask: Callable[[], dict[str, Any]] = pytest_benchmark.pytest_benchmark_generate_machine_info
    try:
        info = ask()
    except (
        Exception
    ) as error:  # py-cpuinfo parses the output of many tools, and its failures must not stop a measurement
        return {"pytest_benchmark_error": f"{type(error).__name__}: {error}"}
    keep = ("vendor_id_raw", "hz_advertised_friendly", "l1_data_cache_size", "l2_cache_size", "l3_cache_size")
    detail = info.get("cpu") or {}
    return {key.removesuffix("_raw"): detail[key] for key in keep if key in detail}


# GPUs and driver by NVML.


def describe_gpus(environ: Mapping[str, str] = os.environ) -> tuple[list[dict[str, Any]], str | None]:
    """Facts of every GPU that ``CUDA_VISIBLE_DEVICES`` leaves visible, and the driver version.

    Each GPU has name, uuid, index, memory_bytes, power_limit_w, max_sm_clock_mhz and mig; a GPU that cannot be opened (lost,
    no permission) has index, name and the reason, ``closed``. If the variable names a MIG slice, name and memory are the
    slice's, on which the engine runs. Without NVML, or without a GPU: an empty list and None.
    """
    with opened() as nvml:
        if nvml is None:
            return [], None
        wish = environ.get("CUDA_VISIBLE_DEVICES")
        driver = nvml.ask("nvmlSystemGetDriverVersion")
        slices = _slices(nvml, wish or "")
        if slices:
            return [_facts(nvml, handle, {"mig": True}) for handle in slices], driver
        return [
            {"index": gpu.index, "name": gpu.name, "closed": gpu.closed}
            if gpu.closed is not None
            else _facts(nvml, gpu.handle, {"index": gpu.index, "name": gpu.name, "mig": gpu.mig})
            for gpu in select(nvml, wish).gpus
        ], driver


def _slices(nvml: Nvml, wish: str) -> list[Any]:
    """Handles of the MIG slices in ``wish``, a value of CUDA_VISIBLE_DEVICES."""
    entries = (entry.strip() for entry in wish.split(","))
    handles = [nvml.ask("nvmlDeviceGetHandleByUUID", entry) for entry in entries if entry.startswith("MIG-")]
    return [handle for handle in handles if handle is not None]


def _facts(nvml: Nvml, handle: Any, known: dict[str, Any]) -> dict[str, Any]:
    """The facts of one device that NVML reports."""
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", handle)
    limit_mw = nvml.ask("nvmlDeviceGetEnforcedPowerLimit", handle)
    facts = {
        "name": nvml.ask("nvmlDeviceGetName", handle),
        "uuid": nvml.ask("nvmlDeviceGetUUID", handle),
        "memory_bytes": None if memory is None else int(memory.total),
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "max_sm_clock_mhz": nvml.ask("nvmlDeviceGetMaxClockInfo", handle, 1),  # 1: the SM clock
    }
    return known | {key: value for key, value in facts.items() if value is not None}
