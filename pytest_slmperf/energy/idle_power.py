"""Power at rest, and the bounds of a meter's readings at rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter, EnergyReading, Watch


PHASES = 8  # phases of a tick at which windows begin and end
ENDS = 32  # phases of a tick at which windows end that begin at a tick
UNKNOWN_TICK_S = 0.1  # assumed for a source without ticks


def pass_time(watch: Watch, until: float, clock: Clock = REAL) -> None:
    """Let time pass; a watch with a clock of its own polls in the meantime."""
    watch.run_until(until)


def rest_readings(
    meter: EnergyMeter, seconds: float, clock: Clock = REAL
) -> tuple[EnergyReading, EnergyReading | None]:
    """Readings of the next ``seconds``: of all of them, and from tick to tick if there are ticks."""
    with meter.watch() as watch:
        begun = clock.now()
        pass_time(watch, begun + seconds, clock)
        return _readings(watch, begun, clock.now())


def _readings(watch: Watch, begun: float, ended: float) -> tuple[EnergyReading, EnergyReading | None]:
    return watch.reading(begun, ended), watch.matched([(begun, ended)], covered=0.0)


@dataclass(frozen=True, slots=True)
class Rest:
    """A stretch of rest: its reading, the reading from tick to tick, and by device the largest bounds, J.

    ``worst_j``: of windows at any time.  ``begun_at_tick_j``: of windows that begin at a tick of the device with the slowest
    tick, as for a command under ``slmperf energy``, and end at any time; empty if the watch cannot wait for a tick.
    """

    reading: EnergyReading
    between: EnergyReading | None
    worst_j: dict[str, float]
    begun_at_tick_j: dict[str, float]


def rest(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> Rest:
    """Read a meter at rest for ``seconds``, or for the few ticks that show the largest bound of a window.

    A single window does not suffice: its bound depends on the phases of the tick at its edges.
    """
    with meter.watch() as watch:
        at_tick = watch.next_tick()
        begun = clock.now()
        pass_time(watch, begun + seconds, clock)
        ticks = [device.tick_s or UNKNOWN_TICK_S for device in watch.reading(begun, begun + seconds).devices]
        pass_time(watch, begun + max(seconds, 3.2 * max(ticks, default=0.0)), clock)
        ended = clock.now()
        reading, between = _readings(watch, begun, ended)
        anywhere, at_ticks = [], []
        for tick_s in dict.fromkeys(round(tick_s, 3) for tick_s in ticks):
            step_s = tick_s / PHASES
            anywhere += [(begun + step_s * k, ended - step_s * m) for k, m in product(range(PHASES), repeat=2)]
            if at_tick is not None:
                at_ticks += [(at_tick, ended - tick_s * k / ENDS) for k in range(ENDS)]
        return Rest(reading, between, _largest(watch, anywhere), _largest(watch, at_ticks))


def _largest(watch: Watch, windows: Iterable[tuple[float, float]]) -> dict[str, float]:
    """Largest bound of each device over these windows, J."""
    largest: dict[str, float] = {}
    for window in windows:
        for device in watch.reading(*window).devices:
            if device.bound_j is not None:
                largest[device.name] = max(largest.get(device.name, 0.0), device.bound_j)
    return largest


def rest_reading(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> EnergyReading:
    """Of the two readings, the one with the smaller bound: at rest, every stretch has the same power."""
    reading, between = rest_readings(meter, seconds, clock)
    if between is None or reading.joules is None:
        return reading
    sharper = (between.bound_j or 0.0) / between.window_s < (reading.bound_j or 0.0) / reading.window_s
    return between if sharper else reading


def mean_power(meter: EnergyMeter, seconds: float, clock: Clock = REAL) -> float | None:
    """Mean power in W over the next ``seconds``; None without a reading."""
    if not meter.available or seconds <= 0:
        return None
    reading = rest_reading(meter, seconds, clock)
    return None if reading.joules is None else reading.joules / reading.window_s


def device_powers(meter: EnergyMeter, seconds: float) -> tuple[dict[str, float], str | None]:
    """Mean power in W by device name; empty, with the reason, without a reading or if another process uses a device."""
    reading = rest_reading(meter, seconds)
    known = [device for device in reading.devices if device.joules is not None]
    if not known:
        return {}, reading.reason or "the meter gave no reading"
    for device in known:
        others = device.detail.get("other_gpu_processes")
        if others:
            return {}, f"other processes were using {device.name} ({', '.join(map(str, others))})"
    return {device.name: (device.joules or 0.0) / device.window_s for device in known}, None
