"""The energy of a launch's rounds, as sharp as its watch allows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median

from pytest_slmperf.energy.base import EnergyReading, Watch, Windows

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


def of_rounds(watch: Watch, windows: Windows) -> EnergyReading:
    """Joules of the rounds that count: between ticks where that is sharper, with the whole rounds' reading beside it.

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
    """Joules from the first round to the last where some gaps between them are longer than ``runs`` counts in.

    Their power is not known: from 0 to twice that of the rounds (in a gap nothing runs), g seconds of them in T leave the
    mean power within g ÷ (T − g) of the rounds' own, and so much of the joules is charged to the bound.  A few gaps cost
    less so than a tick of doubt at each.  None where no gap is long, or where gaps are more than ``MOST_GAPS`` of all.
    """
    outer = (windows[0][0], windows[-1][1])
    gaps_s = sum(b[0] - a[1] for a, b in pairwise(runs(windows)))
    if not 0 < gaps_s <= MOST_GAPS * (outer[1] - outer[0]):
        return None
    reading = watch.matched([outer], _period(windows), wait=wait)
    if reading is None or reading.joules is None:
        return None
    charged = gaps_s / (reading.window_s - gaps_s)  # what is left out at the outer edges may all be rounds
    devices = [
        replace(device, bound_j=(device.bound_j or 0.0) + (device.joules or 0.0) * charged)
        for device in reading.devices
    ]
    return replace(reading, devices=tuple(devices))


def relative_bound(watch: Watch, windows: Windows) -> float | None:
    """Bound ÷ joules that ``of_rounds`` will have for these windows; None where there is no reading.

    Nothing waits for the tick after the last window: a rest between rounds is no part of the load.  Where that tick
    matters the last window's energy is taken to be that of the others per second; a single window is read, and waited
    for.
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
    """From one round's start to the next one's, s."""
    return median(b[0] - a[0] for a, b in pairwise(windows)) if len(windows) > 1 else None
