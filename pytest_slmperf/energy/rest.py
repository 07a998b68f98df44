"""Power at rest, by any meter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_slmperf.energy.clock import REAL, Clock

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter


def mean_power(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> float | None:
    """Mean power in W over so many seconds from now; None where the meter has no reading."""
    if not meter.available or seconds <= 0:
        return None
    with meter.watch() as watch:
        begun = clock.now()
        wait = getattr(watch, "run_until", None)
        if wait is not None:
            wait(begun + seconds)
        else:
            clock.sleep(seconds)
        ended = clock.now()
        reading = watch.reading(begun, ended)
        aligned = getattr(watch, "aligned", None)
        devices = aligned(begun, ended) if aligned is not None else ()
    if reading.joules is None:
        return None
    whole = float(reading.joules / (ended - begun))
    between = [d for d in devices if d.joules is not None and d.bound_j is not None]
    if len(between) < len(reading.devices) or reading.bound_j is None:
        return whole
    blur = sum((device.bound_j or 0.0) / device.window_s for device in between)
    if blur >= reading.bound_j / (ended - begun):
        return whole
    return float(sum((device.joules or 0.0) / device.window_s for device in between))  # between ticks: sharper
