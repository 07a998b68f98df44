"""Machine and engine identity: what may be compared with what.

A fingerprint is a readable folder name and a short hash of the identity's parts. What users want compared (engine
version, commit, flags, kernel, clocks) is not in it; that is reported as a difference instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.model.result import Engine, Machine

Identity = dict[str, Any]  # part → value, JSON-ready

SIMULATED = "simulated"


def identity(machine: Machine, engine: Engine) -> Identity:
    """The parts that two results must share to be compared.

    CPU model and cores when the engine runs on the CPU; GPUs (name, memory, count) and driver when on a GPU; both for
    a device that is neither. A simulation is the same on every machine, so it has no hardware. A fingerprint that does
    not follow from the machine's facts (imported results) was stated by somebody, and is a part of its own.
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
    """Part → (old, new) of every part that differs between two identities; None where one has no such part."""
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _cpu_parts(machine: Machine) -> Identity:
    family = machine.cpu.get("family")
    model = str(machine.cpu.get("model", "unknown CPU"))
    return {"cpu": f"{model} ({family})" if family else model, "cores": machine.cpu.get("cores")}


def _gpu_parts(machine: Machine) -> Identity:
    # Drivers differ by some MiB in the memory they report for one card, hence whole GiB.
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
    """``words`` as a folder name of at most 80 characters, a hash of the parts behind it."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:8]
    words = [word for number, word in enumerate(words) if word not in words[:number]]  # "simulated" says it once
    text = re.sub(r"\((r|tm)\)|\bcpu @.*", " ", " ".join(words).lower())
    slug = re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")[:71].rstrip("-.")
    return f"{slug or 'machine'}-{digest}"
