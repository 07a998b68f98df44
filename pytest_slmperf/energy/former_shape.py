"""Meters written for version 0.1, which had no base class: the methods of its documentation and whatever they had beside.

``registry.choose`` wraps them, so that everything else sees an ``EnergyMeter``. Kept for one release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pytest_slmperf.energy.base import EnergyMeter, EnergyReading, Watch, Windows
from pytest_slmperf.energy.counter.track import COVERED


def adapted(meter: Any) -> EnergyMeter:
    """The meter itself, or a meter of version 0.1 behind today's interface."""
    return meter if isinstance(meter, EnergyMeter) else FormerMeter(meter)


class FormerMeter(EnergyMeter):
    """A meter with ``name``, ``available``, ``reason``, ``devices``, ``watch``, ``idle_power_w`` and ``close``."""

    def __init__(self, meter: Any) -> None:
        self._meter = meter
        self.name = meter.name
        self.visible_variables = getattr(meter, "VISIBLE", EnergyMeter.visible_variables)

    @property
    def available(self) -> bool:  # type: ignore[override]  # follows the wrapped meter
        return bool(self._meter.available)

    @property
    def reason(self) -> str | None:  # type: ignore[override]
        reason: str | None = self._meter.reason
        return reason

    def devices(self) -> Sequence[Mapping[str, Any]]:
        devices: Sequence[Mapping[str, Any]] = self._meter.devices()
        return devices

    def watch(self) -> Watch:
        return FormerWatch(self._meter.watch())

    def idle_power_w(self, seconds: float) -> float | None:
        watts: float | None = self._meter.idle_power_w(seconds)
        return watts

    def only(self, entries: Sequence[str]) -> EnergyMeter | None:
        narrow = getattr(self._meter, "only", None)
        return adapted(narrow(entries)) if callable(narrow) else None

    def close(self) -> None:
        self._meter.close()


class FormerWatch(Watch):
    """A watch with ``reading``, ``trace`` and ``close``; the other methods were optional."""

    def __init__(self, watch: Any) -> None:
        self._watch = watch

    def __enter__(self) -> Self:
        self._watch.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.__exit__(*exc)

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        reading: EnergyReading = self._watch.reading(t_start, t_end)
        return reading

    def trace(self) -> dict[str, Any]:
        trace: dict[str, Any] = self._watch.trace()
        return trace

    def close(self) -> None:
        self._watch.close()

    def total(self, windows: Windows) -> EnergyReading:
        total = getattr(self._watch, "total", super().total)
        reading: EnergyReading = total(windows)
        return reading

    def details(self, t_start: float, t_end: float) -> list[tuple[str, dict[str, Any]]]:
        details = getattr(self._watch, "details", super().details)
        seen: list[tuple[str, dict[str, Any]]] = details(t_start, t_end)
        return seen

    def matched(
        self, windows: Windows, period_s: float | None = None, *, covered: float = COVERED, wait: bool = True
    ) -> EnergyReading | None:
        matched = getattr(self._watch, "matched", super().matched)
        reading: EnergyReading | None = matched(windows, period_s, covered=covered, wait=wait)
        return reading

    def around(self, t_start: float, t_end: float) -> EnergyReading | None:
        around = getattr(self._watch, "around", super().around)
        reading: EnergyReading | None = around(t_start, t_end)
        return reading

    def next_tick(self, most_s: float = 1.5) -> float | None:
        next_tick = getattr(self._watch, "next_tick", super().next_tick)
        seen: float | None = next_tick(most_s)
        return seen

    def run_until(self, t: float) -> None:
        getattr(self._watch, "run_until", super().run_until)(t)
