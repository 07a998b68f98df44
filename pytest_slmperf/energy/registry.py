"""Which meter measures: the first that is available, or the requested one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_slmperf.energy.base import EnergyMeter, EnergyReading, Watch
from pytest_slmperf.energy.former_shape import adapted
from pytest_slmperf.errors import InvalidInput


class UnavailableMeter(EnergyMeter):
    """Stands in where nothing can be measured: every reading gives the reason, and none is 0."""

    available = False

    def __init__(self, reason: str, name: str = "unavailable") -> None:
        self.name = name
        self.reason: str | None = reason

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """None."""
        return []

    def watch(self) -> Watch:
        """A watch whose readings have the reason and no joules."""
        return _NoWatch(self.reason)


class _NoWatch(Watch):
    def __init__(self, reason: str | None) -> None:
        self._reason = reason

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        return EnergyReading((), t_start, t_end, reason=self._reason)


def builtin_meters(state_dir: Path | None = None) -> list[EnergyMeter]:
    """The built-in meters in the order in which they are tried. ``state_dir`` stores calibrations."""
    from pytest_slmperf.energy.meters.amd import AmdMeter
    from pytest_slmperf.energy.meters.nvml import NvmlMeter
    from pytest_slmperf.energy.meters.rapl import RaplMeter

    return [NvmlMeter(state_dir=state_dir), AmdMeter(), RaplMeter()]


def choose(meters: Iterable[Any], name: str | None = None, option: str = "--slmperf-meter") -> EnergyMeter:
    """The meter ``name``, or the first that is available; never None: an UnavailableMeter carries all the reasons.

    "none" switches energy off. InvalidInput where the name is unknown; ``option`` is the option that gave the name.
    ``meters``: what the hook gives; meters without the base class (version 0.1) are wrapped.
    """
    known = [adapted(meter) for meter in meters]
    if name == "none":
        return UnavailableMeter(f"switched off by {option} none", name="none")
    if name is not None:
        wanted = [meter for meter in known if meter.name == name]
        if not wanted:
            names = ", ".join([*(meter.name for meter in known), "none"])
            raise InvalidInput(f"{option} {name}: no such meter; known are {names}")
        meter = wanted[-1]
        return meter if meter.available else UnavailableMeter(f"{name}: {meter.reason}", name=name)
    for meter in known:
        if meter.available:
            return meter
    reasons = "; ".join(f"{meter.name}: {meter.reason}" for meter in known)
    return UnavailableMeter(reasons or "no meter is registered")
