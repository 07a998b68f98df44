"""The seam between scenarios and energy meters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """Joules of one device over one window, and how far they can be off: |joules − true| ≤ bound_j.

    ``bound_j`` holds quantisation and alignment; ``gain`` (relative, for instance 0.05) is kept apart because it
    cancels between two runs on one device.  ``joules`` None: not measured, ``reason`` says why.
    """

    name: str
    uuid: str | None
    source: str  # "nvml-counter", "nvml-power", "rapl", …
    scope: str  # "gpu", "parent gpu of a MIG slice", "module", "package", "dram"
    joules: float | None
    bound_j: float | None
    window_s: float
    tick_s: float | None = None
    gain: float | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)  # witness, clocks, throttle ns, …


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Sum over the devices of one meter. ``joules`` None as soon as one device has none: a partial sum is no reading."""

    devices: tuple[DeviceReading, ...]
    t_start: float
    t_end: float
    reason: str | None = None
    whole: EnergyReading | None = None  # matched to ticks: the asked-for windows themselves, with their wider bound
    # of window_s, between rounds: their power is taken to be that of the rounds, and is in no bound
    gaps_s: float = 0.0

    @property
    def joules(self) -> float | None:
        values = [device.joules for device in self.devices]
        if not values or any(value is None for value in values):
            return None
        return sum(value for value in values if value is not None)

    @property
    def window_s(self) -> float:
        """Seconds measured: less than t_end − t_start where several windows were read together."""
        return max((device.window_s for device in self.devices), default=self.t_end - self.t_start)

    @property
    def bound_j(self) -> float | None:
        values = [device.bound_j for device in self.devices]
        if self.joules is None or any(value is None for value in values):
            return None
        return sum(value for value in values if value is not None)


class Watch(Protocol):
    """A meter at work: samples run from ``EnergyMeter.watch`` until ``close``.

    Any window inside may be asked for, while it runs or afterwards; times are CLOCK_MONOTONIC seconds, so the stamps
    an engine's process took are used as they are.
    """

    def reading(self, t_start: float, t_end: float) -> EnergyReading: ...

    def trace(self) -> dict[str, Any]:
        """Power over time: {"t_s": [...], "watts": {device name: [...]}}; empty lists where there is none."""

    def close(self) -> None: ...

    def __enter__(self) -> Watch: ...

    def __exit__(self, *exc: object) -> None: ...


class EnergyMeter(Protocol):
    """One source of energy readings, registered through ``pytest_slmperf_meters``.

    A meter never raises because hardware is absent: ``available`` is False then and ``reason`` says why and what to do.
    """

    name: str
    available: bool
    reason: str | None

    def devices(self) -> Sequence[dict[str, Any]]:
        """Facts per device: name, uuid, index, tick_s, source, scope, driver, …"""

    def watch(self) -> Watch: ...

    def idle_power_w(self, seconds: float) -> float | None:
        """Mean power over so many seconds of rest; None where it cannot be said."""

    def close(self) -> None: ...
