"""The interface between scenarios and energy meters: ``EnergyMeter`` is a source, ``Watch`` the source at work.

The docstring of each method states whether a subclass must write it or may override it, and its default.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pytest_slmperf.energy.counter.track import COVERED

Windows = Sequence[tuple[float, float]]  # (start, end) in CLOCK_MONOTONIC seconds, in order of time


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """Joules of one device over one window, and their error bound: |joules − true| ≤ bound_j.

    ``bound_j`` covers quantisation and alignment; ``gain`` (relative, for instance 0.05) is a field of its own because it
    cancels between two runs on one device.  ``joules`` None: not measured, for ``reason``.
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
    """Sum over the devices of one meter.

    ``joules`` is None if one device has none: a partial sum is not a reading.  ``whole``: for a reading between ticks, the
    reading of the requested windows, with its wider bound.  ``gaps_s``: seconds between rounds inside window_s, assumed
    to draw the rounds' mean power (not covered by the bound).
    """

    devices: tuple[DeviceReading, ...]
    t_start: float
    t_end: float
    reason: str | None = None
    whole: EnergyReading | None = None
    gaps_s: float = 0.0

    @property
    def joules(self) -> float | None:
        """Sum over the devices."""
        values = [device.joules for device in self.devices]
        if not values or any(value is None for value in values):
            return None
        return sum(value for value in values if value is not None)

    @property
    def window_s(self) -> float:
        """Measured seconds: less than t_end − t_start if the reading is of several windows."""
        return max((device.window_s for device in self.devices), default=self.t_end - self.t_start)

    @property
    def bound_j(self) -> float | None:
        """Sum of the devices' bounds, J; None if a device has no reading or no bound."""
        values = [device.bound_j for device in self.devices]
        if self.joules is None or any(value is None for value in values):
            return None
        return sum(value for value in values if value is not None)


class Watch(ABC):
    """A meter at work: samples run from ``EnergyMeter.watch`` until ``close``.

    Any window inside can be read, during or after the watch; times are CLOCK_MONOTONIC seconds, the same as in an engine's
    process.  Only ``reading`` must be written; the other methods have defaults.
    """

    @abstractmethod
    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        """Joules from t_start to t_end. Must be written."""

    def close(self) -> None:  # noqa: B027 (a watch that only reads on demand holds nothing)
        """Stop sampling. Idempotent; windows can still be read afterwards. May be overridden; by default does nothing."""

    def __enter__(self) -> Self:
        """Final: the watch itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Final: closes the watch."""
        self.close()

    def trace(self) -> dict[str, Any]:
        """Power over time: {"t_s": [...], "watts": {device name: [...]}}. May be overridden; empty by default."""
        return {"t_s": [], "watts": {}}

    def total(self, windows: Windows) -> EnergyReading:
        """Joules of several windows together, in order of time. May be overridden by a sharper method than the default, the
        sum of the readings of each window."""
        readings = [self.reading(*window) for window in windows]
        missing = next((reading for reading in readings if reading.joules is None), None)
        if missing is not None or not readings:
            return missing or EnergyReading((), 0.0, 0.0, reason="no window")
        devices = [_sum([reading.devices[k] for reading in readings]) for k in range(len(readings[0].devices))]
        return EnergyReading(tuple(devices), windows[0][0], windows[-1][1])

    def details(self, t_start: float, t_end: float) -> list[tuple[str, dict[str, Any]]]:
        """Further observations of each device in a window: (device name, detail).

        May be overridden and should not wait, since it is called between rounds. By default the details of the reading.
        """
        return [(device.name, device.detail) for device in self.reading(t_start, t_end).devices]

    def matched(
        self, windows: Windows, period_s: float | None = None, *, covered: float = COVERED, wait: bool = True
    ) -> EnergyReading | None:
        """Joules between ticks of the counter inside these windows, with a smaller bound than ``total``.

        ``period_s``: time after which the load repeats itself; ``covered``: least share of the windows between ticks;
        ``wait``: whether to wait for the tick after the last window.  May be overridden; None by default, for a source
        without ticks.
        """
        return None

    def around(self, t_start: float, t_end: float) -> EnergyReading | None:
        """Joules between the last tick before a window and the first tick after it. May be overridden; None by default."""
        return None

    def next_tick(self, most_s: float = 1.5) -> float | None:
        """Wait for a tick, at most ``most_s`` seconds, and return the time at which it was seen (CLOCK_MONOTONIC s).

        May be overridden; None by default: there is no tick to wait for.
        """
        return None

    def run_until(self, t: float) -> None:
        """Let time pass until t (CLOCK_MONOTONIC s). May be overridden by a watch with a clock of its own."""
        time.sleep(max(0.0, t - time.monotonic()))


class EnergyMeter(ABC):
    """One source of energy readings, registered through the hook ``pytest_slmperf_meters`` under its ``name``.

    A meter without hardware does not raise: ``available`` is then False and ``reason`` names cause and fix.
    """

    name: str
    available: bool
    reason: str | None
    # Variables that select devices for the vendor's runtime; the first that is set applies.
    visible_variables: Sequence[str] = ("CUDA_VISIBLE_DEVICES",)

    @abstractmethod
    def devices(self) -> Sequence[Mapping[str, Any]]:
        """Facts per device: name, uuid, index, tick_s, source, scope, driver, … Must be written; ``name`` is required."""

    @abstractmethod
    def watch(self) -> Watch:
        """Start to watch all devices. Must be written."""

    def idle_power_w(self, seconds: float) -> float | None:
        """Mean power in W over the next ``seconds`` of rest; None without a reading.

        May be overridden; by default a single reading.
        """
        if not self.available or seconds <= 0:
            return None
        with self.watch() as watch:
            begun = time.monotonic()
            watch.run_until(begun + seconds)
            reading = watch.reading(begun, time.monotonic())
        return None if reading.joules is None else reading.joules / reading.window_s

    def only(self, entries: Sequence[str]) -> EnergyMeter | None:
        """This meter for the devices that these entries of ``visible_variables`` name, closed with the whole meter.

        May be overridden; None by default: the meter always reads all of its devices.
        """
        return None

    def close(self) -> None:  # noqa: B027 (a meter that opens nothing has nothing to close)
        """Release all resources. Idempotent. May be overridden; by default does nothing."""


def _sum(parts: Sequence[DeviceReading]) -> DeviceReading:
    bounds = [part.bound_j for part in parts]
    return replace(
        parts[0],
        joules=sum(part.joules or 0.0 for part in parts),
        bound_j=None if any(bound is None for bound in bounds) else sum(bound or 0.0 for bound in bounds),
        window_s=sum(part.window_s for part in parts),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )
