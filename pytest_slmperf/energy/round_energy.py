"""From a watch to the energy of the measured rounds, and from its readings to the energy record, cost and emissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, EnergyReading, Watch, Windows
from pytest_slmperf.model import energy as record
from pytest_slmperf.util.formatting import portion

CLOSE_S, CLOSE_SHARE = 0.02, 0.1
MOST_GAPS = 0.25  # largest share of gaps in a window that is read across long gaps


def runs(windows: Windows) -> list[tuple[float, float]]:
    """The windows, with those that follow each other closely joined, so that short gaps are included in the energy.

    If a round begins within a tick of the previous one, no counter separates the gap's energy from theirs: excluding it
    would add a tick of doubt per round, including it adds the gap's energy (at most a tenth of the shorter round's).
    """
    merged: list[tuple[float, float]] = []
    for start, end in windows:
        if merged and start - merged[-1][1] <= max(CLOSE_S, CLOSE_SHARE * (end - start)):
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def of_rounds(watch: Watch, windows: Windows) -> EnergyReading:
    """Joules of the given rounds: between ticks if that has the smaller bound, with the whole rounds' reading in ``whole``.

    Rounds that follow each other closely are one window, over which the counter's steps cancel.
    """
    known = runs(windows)
    whole = replace(watch.total(known), gaps_s=sum(b - a for a, b in known) - sum(b - a for a, b in windows))
    if whole.joules is None:
        return whole
    readings = [watch.matched(known, _period(windows)), over_gaps(watch, windows)]
    between = min((reading for reading in readings if reading is not None), key=_share, default=whole)
    return whole if _share(between) >= _share(whole) else replace(between, whole=whole)


def over_gaps(watch: Watch, windows: Windows, *, wait: bool = True) -> EnergyReading | None:
    """Joules from the first round to the last, across gaps that are too long for ``runs``.

    The power in a gap is unknown, but lies between 0 and twice the rounds' power, since no load runs.  With g seconds of
    gaps in T, the mean power therefore differs from the rounds' by at most g ÷ (T − g), which the bound includes.  For a few
    gaps this is less than a tick of doubt at each.  None without a long gap, and if gaps exceed ``MOST_GAPS`` of T.
    """
    outer = (windows[0][0], windows[-1][1])
    gaps_s = sum(b[0] - a[1] for a, b in pairwise(runs(windows)))
    if not 0 < gaps_s <= MOST_GAPS * (outer[1] - outer[0]):
        return None
    reading = watch.matched([outer], _period(windows), wait=wait)
    if reading is None or reading.joules is None:
        return None
    charged = gaps_s / (
        reading.window_s - gaps_s
    )  # the time that shrinking to ticks removes at the outer edges may all be rounds
    devices = [
        replace(device, bound_j=(device.bound_j or 0.0) + (device.joules or 0.0) * charged)
        for device in reading.devices
    ]
    return replace(reading, devices=tuple(devices))


def relative_bound(watch: Watch, windows: Windows) -> float | None:
    """Bound ÷ joules that ``of_rounds`` will have for these windows; None without a reading.

    It does not wait for the tick after the last window, which would add a rest between rounds to the load.  If that tick
    matters, the last window gets the mean power of the others; a single window is read with waiting.
    """
    readings = [watch.matched(runs(windows), _period(windows), wait=False), over_gaps(watch, windows, wait=False)]
    if shares := [_share(reading) for reading in readings if reading is not None]:
        return min(shares)
    known = runs(windows[:-1] or windows)
    reading = watch.total(known)
    if reading.joules is None or reading.bound_j is None or reading.joules <= 0:
        return None
    seconds = sum(b - a for a, b in runs(windows)) / sum(b - a for a, b in known)
    return reading.bound_j / (reading.joules * seconds)


def _share(reading: EnergyReading) -> float:
    if reading.joules is None or reading.bound_j is None or reading.joules <= 0:
        return float("inf")
    return reading.bound_j / reading.joules


def _period(windows: Windows) -> float | None:
    """Time from the start of a round to the start of the next, s."""
    return median(b[0] - a[0] for a, b in pairwise(windows)) if len(windows) > 1 else None


# The energy record of a result. Pure functions of readings.

MANY_GAPS = 0.02


def summarise(
    readings: Sequence[EnergyReading],
    idle_before: float | None = None,
    idle_after: float | None = None,
    idle_bare: float | None = None,
    trace: record.PowerTrace | None = None,
) -> record.Energy:
    """Sum of the readings of one launch's rounds: gross joules, their bound, and net joules if the idle power is known.

    If a round has no reading there is no sum: a partial sum would look like a saving.
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
    """A warning if the gaps between rounds may change energy per token by more than the default bound."""
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


# Cost and emissions of joules by the user's own figures. A missing reading gives None, never 0.

JOULES_PER_KWH = 3.6e6


def cost(joules: float | None, price_per_kwh: float | None) -> float | None:
    """Cost in the currency of the user's price per kWh; None without a price, which is never guessed."""
    return None if joules is None or price_per_kwh is None else joules / JOULES_PER_KWH * price_per_kwh


def carbon_g(joules: float | None, carbon_g_per_kwh: float | None) -> float | None:
    """Grams of CO2 by the user's figure for the grid; None without that figure, which is never guessed."""
    return None if joules is None or carbon_g_per_kwh is None else joules / JOULES_PER_KWH * carbon_g_per_kwh


def costs(
    joules: float | None, joules_per_token: float | None, price_per_kwh: float | None, carbon_g_per_kwh: float | None
) -> dict[str, float] | None:
    """The user's figures, and cost and gCO2 of these joules and of a million output tokens, for the record of a result.

    Entries without a reading or a figure are absent; None if the user gave no figure.
    """
    if price_per_kwh is None and carbon_g_per_kwh is None:
        return None
    million = None if joules_per_token is None else joules_per_token * 1e6
    figures = {
        "price_per_kwh": price_per_kwh,
        "cost": cost(joules, price_per_kwh),
        "cost_per_million_output_tokens": cost(million, price_per_kwh),
        "carbon_g_per_kwh": carbon_g_per_kwh,
        "carbon_g": carbon_g(joules, carbon_g_per_kwh),
        "carbon_g_per_million_output_tokens": carbon_g(million, carbon_g_per_kwh),
    }
    return {name: value for name, value in figures.items() if value is not None}
