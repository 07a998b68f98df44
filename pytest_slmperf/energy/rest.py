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
        joules = watch.reading(begun, ended).joules
    return None if joules is None else joules / (ended - begun)
