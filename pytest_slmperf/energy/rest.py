"""Power at rest, by any meter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_slmperf.energy.clock import REAL, Clock

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter, EnergyReading


def rest_readings(
    meter: EnergyMeter, seconds: float, clock: Clock = REAL
) -> tuple[EnergyReading, EnergyReading | None]:
    """Readings of so many seconds from now: of all of them, and from tick to tick where there are ticks."""
    with meter.watch() as watch:
        begun = clock.now()
        wait = getattr(watch, "run_until", None)
        if wait is not None:
            wait(begun + seconds)
        else:
            clock.sleep(seconds)
        ended = clock.now()
        reading = watch.reading(begun, ended)
        matched = getattr(watch, "matched", None)
        return reading, matched([(begun, ended)], covered=0.0) if matched is not None else None


def rest_reading(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> EnergyReading:
    """The sharper one of the two: at rest any stretch is as good as another."""
    reading, between = rest_readings(meter, seconds, clock)
    if between is None or reading.joules is None:
        return reading
    sharper = (between.bound_j or 0.0) / between.window_s < (reading.bound_j or 0.0) / reading.window_s
    return between if sharper else reading


def mean_power(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> float | None:
    """Mean power in W over so many seconds from now; None where the meter has no reading."""
    if not meter.available or seconds <= 0:
        return None
    reading = rest_reading(meter, seconds, clock)
    return None if reading.joules is None else reading.joules / reading.window_s


def device_powers(meter: EnergyMeter, seconds: float) -> tuple[dict[str, float], str | None]:
    """Mean power in W by device name, and why there is none: no reading, or another process at a device."""
    reading = rest_reading(meter, seconds)
    known = [device for device in reading.devices if device.joules is not None]
    if not known:
        return {}, reading.reason or "the meter gave no reading"
    for device in known:
        others = device.detail.get("other_gpu_processes")
        if others:
            return {}, f"other processes were using {device.name} ({', '.join(map(str, others))})"
    return {device.name: (device.joules or 0.0) / device.window_s for device in known}, None
