"""Comparability of two results: their work, and the devices and meters of their energy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_slmperf.baselines import codec
from pytest_slmperf.metrics.registry import ENERGY_METRICS
from pytest_slmperf.model.energy import DeviceEnergy, Energy, Metered
from pytest_slmperf.model.result import Result

LENGTHS_ALIKE = 0.02
# Durations and repetitions change the precision, not the work; the place of the test does not matter either.
_NOT_WORK = frozenset(
    {"rounds", "min_rounds", "max_rounds", "launches", "min_launches", "max_launches", "warmup", "warmup_rounds"}
    | {"max_time", "timeout", "profile", "location"}
)


def work_of(result: Result) -> dict[str, Any]:
    """Scenario kind and parameters, model, dtype and number of replicas, as plain JSON values."""
    scenario = {key: value for key, value in result.scenario.items() if key not in _NOT_WORK and not is_secret(key)}
    engine = result.engine
    own = {"model": model_name(engine.model), "dtype": engine.dtype, "replicas": engine.replicas}
    work: dict[str, Any] = codec.rounded(scenario | own)
    return work


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two pieces of work, one phrase each: ``batch 16 → 32``.

    A key that only one side has, with a value of None or empty, is not a difference: later versions add parameters.
    """
    keys = [*old, *(key for key in new if key not in old)]
    return [
        f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
        and (old.get(key) or new.get(key))
        and not _alike(key, old.get(key), new.get(key))
    ]


def _alike(key: str, old: Any, new: Any) -> bool:
    """Whether two measured lengths belong to the same work: answers of a sampled model vary a little between runs."""
    if not key.endswith("tokens_per_request") or not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return abs(old - new) <= LENGTHS_ALIKE * max(abs(old), abs(new))


def is_secret(key: str) -> bool:
    """Whether the value of a setting with this name is secret and must not be written to a file."""
    return re.search(r"api.?key|token$|secret|passw|credential|authorization", key, re.IGNORECASE) is not None


def model_name(name: str) -> str:
    """The model's name without the folder on this machine."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if name.startswith(("/", "~", ".")) or "\\" in name else name


def _shown(value: Any) -> str:
    return "none" if value is None else codec.plain(str(value), 60)


# The meter, scope and devices of energy readings: with different ones, joules are different quantities.


def is_energy(metric: str) -> bool:
    """True for a metric made of joules, of a whole test or at one point of a sweep."""
    return metric.partition("@")[0] in ENERGY_METRICS


def metered_of(energy: Energy) -> Metered | None:
    """Meter, scope and devices of a record's joules; None without joules. For older records, derived from their devices."""
    if energy.metered is not None or energy.source is None:
        return energy.metered
    return of_devices(energy.devices, "which the engine uses" in (energy.counted or ""))


def of_devices(devices: Sequence[DeviceEnergy], own: bool) -> Metered | None:
    """The same from one entry per device, each with name, source and scope; None without a device.

    Devices count by their kind, not by UUID: a second card of the same model is an equal meter.
    """
    if not devices:
        return None
    kinds: dict[str, int] = {}
    for device in devices:
        kind = _kind(device)
        kinds[kind] = kinds.get(kind, 0) + 1
    return Metered(
        source=_joined(device.source for device in devices),
        scope=_joined(device.scope for device in devices),
        devices=kinds,
        own=own,
    )


def unlike(old: Metered | None, new: Metered | None, same_gpus: bool = True) -> str | None:
    """Why joules of the two sides are not comparable, in one line; None if they are, or if one side is unknown.

    ``same_gpus`` False: the user allows different GPUs (``--slmperf-across gpus``), so that their kinds may differ. If both
    sides count only the engine's devices, a different number of them is a change of the engine, which is comparable.
    """
    if old is None or new is None:
        return None
    for what in ("source", "scope"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            return f"the energy has another {'meter' if what == 'source' else what}: {before} → {after}"
    before, after = old.devices, new.devices
    if same_gpus and (before.keys() != after.keys() or (before != after and not (old.own and new.own))):
        return f"the energy has other devices: {_told(before)} → {_told(after)}"
    return None


def meter_text(metered: Metered | None) -> str | None:
    """Meter, scope and devices in a few words, for a table of differences."""
    return None if metered is None else f"{metered.source}, {metered.scope}: {_told(metered.devices)}"


def _told(kinds: Mapping[str, int]) -> str:
    return " + ".join(f"{count} × {kind}" for kind, count in kinds.items())


def _kind(device: DeviceEnergy) -> str:
    """The device's name without the number that distinguishes devices of a kind: "A100 [0]", "package-1 dram"."""
    return re.sub(r" \[\d+\]$|(?<=^package)-\d+", "", device.name)


def _joined(names: Iterable[str | None]) -> str:
    parts = [part for name in names for part in str(name).split(" + ")]
    return " + ".join(dict.fromkeys(parts))
