"""What a scenario asks of a running meter; works with any Watch, better with one that can do more than the Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, EnergyReading, Watch

Windows = Sequence[tuple[float, float]]
CLOSE_S, CLOSE_SHARE = 0.02, 0.1
MOST_GAPS = 0.25  # of a window that is read over long gaps


def runs(windows: Windows) -> list[tuple[float, float]]:
    """Windows that follow each other closely become one: the energy of a short gap is counted in, not guessed out.

    Where one round ends and the next begins within a tick, no counter can tell the gap's energy from theirs: leaving it
    out would add a tick of doubt per round, counting it in adds the gap's share (at most a tenth of the shorter round).
    """
    merged: list[tuple[float, float]] = []
    for start, end in windows:
        if merged and start - merged[-1][1] <= max(CLOSE_S, CLOSE_SHARE * (end - start)):
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def total(watch: Watch, windows: Windows) -> EnergyReading:
    """Joules of several windows together; the sum of single readings where the watch cannot do better."""
    own = getattr(watch, "total", None)
    if own is not None:
        found: EnergyReading = own(windows)
        return found
    readings = [watch.reading(*window) for window in windows]
    missing = next((reading for reading in readings if reading.joules is None), None)
    if missing is not None or not readings:
        return missing or EnergyReading((), 0.0, 0.0, reason="no window")
    devices = [_sum([reading.devices[k] for reading in readings]) for k in range(len(readings[0].devices))]
    return EnergyReading(tuple(devices), windows[0][0], windows[-1][1])


def _sum(parts: Sequence[DeviceReading]) -> DeviceReading:
    bounds = [part.bound_j for part in parts]
    return replace(
        parts[0],
        joules=sum(part.joules or 0.0 for part in parts),
        bound_j=None if any(bound is None for bound in bounds) else sum(bound or 0.0 for bound in bounds),
        window_s=sum(part.window_s for part in parts),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )


def details(watch: Watch, t_start: float, t_end: float) -> list[tuple[str, dict[str, Any]]]:
    """What else went on at each device in the window: (name, detail). Does not wait for the meter where it can help it.

    Waiting for a tick between two rounds would put a rest between them that no user's engine has.
    """
    own = getattr(watch, "details", None)
    if own is not None:
        found: list[tuple[str, dict[str, Any]]] = own(t_start, t_end)
        return found
    return [(device.name, device.detail) for device in watch.reading(t_start, t_end).devices]


def of_rounds(watch: Watch, windows: Windows) -> EnergyReading:
    """Joules of the rounds that count: between ticks where that is sharper, with the whole rounds' reading beside it.

    Rounds that follow each other closely are one window, over which the counter's steps cancel.
    """
    known = runs(windows)
    whole = replace(total(watch, known), gaps_s=sum(b - a for a, b in known) - sum(b - a for a, b in windows))
    matched = getattr(watch, "matched", None)
    if matched is None or whole.joules is None:
        return whole
    readings = [matched(known, _period(windows)), over_gaps(watch, windows)]
    between = min((reading for reading in readings if reading is not None), key=_share, default=whole)
    return whole if _share(between) >= _share(whole) else replace(between, whole=whole)


def over_gaps(watch: Any, windows: Windows, *, wait: bool = True) -> EnergyReading | None:
    """Joules from the first round to the last where some gaps between them are longer than ``runs`` counts in.

    Their power is not known: from 0 to twice that of the rounds (in a gap nothing runs), g seconds of them in T leave the
    mean power within g ÷ (T − g) of the rounds' own, and so much of the joules is charged to the bound.  A few gaps cost
    less so than a tick of doubt at each.  None where no gap is long, or where gaps are more than ``MOST_GAPS`` of all.
    """
    outer = (windows[0][0], windows[-1][1])
    gaps_s = sum(b[0] - a[1] for a, b in pairwise(runs(windows)))
    if not 0 < gaps_s <= MOST_GAPS * (outer[1] - outer[0]):
        return None
    reading: EnergyReading | None = watch.matched([outer], _period(windows), wait=wait)
    if reading is None or reading.joules is None:
        return None
    charged = gaps_s / (reading.window_s - gaps_s)  # what is left out at the outer edges may all be rounds
    devices = [replace(one, bound_j=(one.bound_j or 0.0) + (one.joules or 0.0) * charged) for one in reading.devices]
    return replace(reading, devices=tuple(devices))


def relative_bound(watch: Watch, windows: Windows) -> float | None:
    """Bound ÷ joules that ``of_rounds`` will have for these windows; None where there is no reading.

    Nothing waits for the tick after the last window: a rest between rounds is no part of the load.  Where that tick
    matters the last window's energy is taken to be that of the others per second; a single window is read, and waited
    for.
    """
    matched = getattr(watch, "matched", None)
    if matched is not None:
        readings = [matched(runs(windows), _period(windows), wait=False), over_gaps(watch, windows, wait=False)]
        if found := [_share(reading) for reading in readings if reading is not None]:
            return min(found)
    known = runs(windows[:-1] or windows)
    reading = total(watch, known)
    if reading.joules is None or reading.bound_j is None or reading.joules <= 0:
        return None
    seconds = sum(b - a for a, b in runs(windows)) / sum(b - a for a, b in known)
    return reading.bound_j / (reading.joules * seconds)


def _share(reading: EnergyReading) -> float:
    if reading.joules is None or reading.bound_j is None or reading.joules <= 0:
        return float("inf")
    return reading.bound_j / reading.joules


def _period(windows: Windows) -> float | None:
    """From one round's start to the next one's, s."""
    return median(b[0] - a[0] for a, b in pairwise(windows)) if len(windows) > 1 else None
