"""Which meter measures: the first that is available, or the requested one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_slmperf.energy.base import EnergyMeter, EnergyReading, Watch
from pytest_slmperf.errors import InvalidInput


class UnavailableMeter:
    """Stands in where nothing can be measured: every reading gives the reason, and none is 0."""

    available = False

    def __init__(self, reason: str, name: str = "unavailable") -> None:
        self.name = name
        self.reason: str | None = reason

    def devices(self) -> Sequence[dict[str, Any]]:
        return []

    def watch(self) -> Watch:
        return _NoWatch(self.reason)

    def idle_power_w(self, seconds: float) -> float | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


class _NoWatch:
    def __init__(self, reason: str | None) -> None:
        self._reason = reason

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        return EnergyReading((), t_start, t_end, reason=self._reason)

    def trace(self) -> dict[str, Any]:
        return {"t_s": [], "watts": {}}

    def close(self) -> None:
        """Nothing is running."""

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def builtin_meters(state_dir: Path | None = None) -> list[EnergyMeter]:
    """The built-in meters in the order in which they are tried. ``state_dir`` stores calibrations."""
    from pytest_slmperf.energy.meters.amd import AmdMeter
    from pytest_slmperf.energy.meters.nvml import NvmlMeter
    from pytest_slmperf.energy.meters.rapl import RaplMeter

    return [NvmlMeter(state_dir=state_dir), AmdMeter(), RaplMeter()]


def choose(meters: Sequence[EnergyMeter], name: str | None = None, option: str = "--slmperf-meter") -> EnergyMeter:
    """The meter ``name``, or the first that is available; never None: an UnavailableMeter carries all the reasons.

    "none" switches energy off. InvalidInput where the name is unknown; ``option`` is what the user gave it by.
    """
    if name == "none":
        return UnavailableMeter(f"switched off by {option} none", name="none")
    if name is not None:
        wanted = [meter for meter in meters if meter.name == name]
        if not wanted:
            known = ", ".join([*(meter.name for meter in meters), "none"])
            raise InvalidInput(f"{option} {name}: no such meter; known are {known}")
        meter = wanted[-1]
        return meter if meter.available else UnavailableMeter(f"{name}: {meter.reason}", name=name)
    for meter in meters:
        if meter.available:
            return meter
    reasons = "; ".join(f"{meter.name}: {meter.reason}" for meter in meters)
    return UnavailableMeter(reasons or "no meter is registered")
