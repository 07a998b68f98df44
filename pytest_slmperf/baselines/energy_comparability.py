"""What energy was counted on: joules of other meters, scopes or sets of devices are other quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pytest_slmperf.metrics.registry import ENERGY_METRICS
from pytest_slmperf.model.energy import DeviceEnergy, Energy, Metered


def is_energy(metric: str) -> bool:
    """True for a metric made of joules, of a whole test or at one point of a sweep."""
    return metric.partition("@")[0] in ENERGY_METRICS


def metered_of(energy: Energy) -> Metered | None:
    """What a record's joules were counted on; None where it has none. Older records tell it by their devices."""
    if energy.metered is not None or energy.source is None:
        return energy.metered
    return of_devices(energy.devices, "which the engine uses" in (energy.counted or ""))


def of_devices(devices: Sequence[DeviceEnergy], own: bool) -> Metered | None:
    """The same from one entry per device, each with name, source and scope; None without a device.

    Devices count by their kind, never by UUID: another card of the same model is no other meter.
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
    """Why joules of the two sides are not comparable, in one line; None where they are, or where one side does not tell.

    ``same_gpus`` False: the user has the two sides compared over different GPUs, whose kinds then differ as asked for.
    Where both sides count the devices that the engine uses, another number of them is the engine's own doing.
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
    """In a few words, for a table of differences."""
    return None if metered is None else f"{metered.source}, {metered.scope}: {_told(metered.devices)}"


def _told(kinds: Mapping[str, int]) -> str:
    return " + ".join(f"{count} × {kind}" for kind, count in kinds.items())


def _kind(device: DeviceEnergy) -> str:
    """The device's name without its number, which tells it from others of its kind: "A100 [0]", "package-1 dram"."""
    return re.sub(r" \[\d+\]$|(?<=^package)-\d+", "", device.name)


def _joined(names: Iterable[str | None]) -> str:
    parts = [part for name in names for part in str(name).split(" + ")]
    return " + ".join(dict.fromkeys(parts))
