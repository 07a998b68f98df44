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
    watts = [device.joules / device.window_s for device in devices if device.joules is not None]
    if len(watts) == len(reading.devices):
        return float(sum(watts))  # between ticks: sharper
    return reading.joules / (ended - begun)
