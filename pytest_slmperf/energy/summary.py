"""From the readings of a meter to the energy record of a result. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, EnergyReading
from pytest_slmperf.model import energy as record
from pytest_slmperf.util.formatting import portion

MANY_GAPS = 0.02


def summarise(
    readings: Sequence[EnergyReading],
    idle_before: float | None = None,
    idle_after: float | None = None,
    idle_bare: float | None = None,
    trace: record.PowerTrace | None = None,
) -> record.Energy:
    """Sum of the readings of one launch's rounds: gross joules, their bound, and net joules where idle power is known.

    Without a reading for every round there is no sum: a partial sum would look like a saving.
    Net joules = gross − mean of the idle powers before and after (engine resident) × window.
    """
    missing = next((reading for reading in readings if reading.joules is None), None)
    if missing is not None or not readings:
        reason = (missing.reason or _first_reason(missing)) if missing is not None else "no round was measured"
        return record.Energy(reason=reason, idle_w_before=idle_before, idle_w_after=idle_after, idle_w_bare=idle_bare)
    joules = sum(reading.joules for reading in readings if reading.joules is not None)
    bounds = [reading.bound_j for reading in readings]
    window_s = sum(reading.window_s for reading in readings)
    idle = [watts for watts in (idle_before, idle_after) if watts is not None]
    rounds = _rounds(readings)
    groups = _by_device(readings)
    first = [group[0] for group in groups]
    return record.Energy(
        source=_joined(device.source for group in groups for device in group),
        scope=_joined(device.scope for device in first),
        joules=joules,
        bound_j=None if any(bound is None for bound in bounds) else sum(b for b in bounds if b is not None),
        gain=max((device.gain for device in first if device.gain is not None), default=None),
        tick_s=max((device.tick_s for group in groups for device in group if device.tick_s is not None), default=None),
        window_s=window_s,
        idle_w_before=idle_before,
        idle_w_after=idle_after,
        idle_w_bare=idle_bare,
        edges="ticks" if any(reading.whole for reading in readings) else "rounds",
        rounds=rounds,
        net_joules=joules - sum(idle) / len(idle) * window_s if idle else None,
        devices=[_device(group) for group in groups],
        witness=_witness([device for group in groups for device in group]),
        warnings=[
            *dict.fromkeys(text for group in groups for device in group for text in device.warnings),
            *_told(rounds),
        ],
        trace=trace if trace and trace.t_s else None,
    )


def _rounds(readings: Sequence[EnergyReading]) -> record.WholeRounds:
    """Joules over the whole rounds, with a bound that holds for any power at their edges.

    ``gaps_s`` of ``window_s`` lie between rounds that follow each other closely.
    """
    whole = [reading.whole or reading for reading in readings]
    return record.WholeRounds(
        joules=sum(reading.joules or 0.0 for reading in whole),
        bound_j=None if any(reading.bound_j is None for reading in whole) else sum(r.bound_j or 0.0 for r in whole),
        window_s=sum(reading.window_s for reading in whole),
        gaps_s=sum(reading.gaps_s for reading in whole),
    )


def _told(rounds: record.WholeRounds) -> list[str]:
    """A warning where the gaps between rounds may move energy per token by more than the bound that is usually requested."""
    share = rounds.gaps_s / rounds.window_s if rounds.window_s else 0.0
    if share <= MANY_GAPS:
        return []
    return [
        f"{portion(share)} of the time lies between rounds, whose power is taken to be that of the rounds: energy per token "
        "may be off by up to as much beside its bound; longer rounds (more tokens) make that less"
    ]


def _first_reason(reading: EnergyReading) -> str:
    return next((device.reason for device in reading.devices if device.reason), "no reading")


def _by_device(readings: Sequence[EnergyReading]) -> list[list[DeviceReading]]:
    groups: dict[tuple[str, str | None], list[DeviceReading]] = {}
    for reading in readings:
        for device in reading.devices:
            groups.setdefault((device.name, device.uuid), []).append(device)
    return list(groups.values())


def _joined(words: Any) -> str:
    return " + ".join(dict.fromkeys(words))


def _device(group: list[DeviceReading]) -> record.DeviceEnergy:
    first = group[0]
    return record.DeviceEnergy(
        name=first.name,
        uuid=first.uuid,
        source=_joined(device.source for device in group),
        scope=first.scope,
        tick_s=first.tick_s,
        joules=sum(device.joules or 0.0 for device in group),
        bound_j=sum(device.bound_j or 0.0 for device in group),
        window_s=sum(device.window_s for device in group),
        edges=[edge for device in group for edge in device.detail.get("edges", [])],
        missing=first.detail.get("missing", {}),
    )


def _witness(devices: list[DeviceReading]) -> record.Witness | None:
    """The second source over the same windows: joules, bound_j, and its relative difference from the first."""
    witnesses = [device.detail.get("witness") for device in devices]
    if not witnesses or any(witness is None for witness in witnesses):
        return None
    readings = [witness for witness in witnesses if witness is not None]
    joules = sum(witness["joules"] for witness in readings)
    main = sum(device.joules or 0.0 for device in devices)
    return record.Witness(
        source=readings[0]["source"],
        joules=joules,
        bound_j=sum(witness["bound_j"] for witness in readings),
        disagreement=(joules - main) / main if main else None,
    )
