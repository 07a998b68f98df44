"""The choice of the meter and of its devices, and wrappers for meters of version 0.1."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_slmperf.devices.selection import is_index
from pytest_slmperf.energy.base import EnergyMeter, EnergyReading, Watch, Windows
from pytest_slmperf.energy.counter.track import COVERED
from pytest_slmperf.errors import InvalidInput

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.model.engine_spec import EngineSpec


# The devices that count: the engine's own, if they are known.

# vLLM settings that multiply the number of GPUs of one engine.
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
NVIDIA = ("CUDA_VISIBLE_DEVICES",)


def entries(
    spec: EngineSpec, environ: Mapping[str, str] = os.environ, variables: Sequence[str] = NVIDIA
) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES for the engine's GPUs (indices, UUIDs, MIG ids); None if it uses no GPU.

    A variable given to the engine takes precedence over this process's. "cuda:N" counts among the GPUs visible here.
    ``variables``: variables of the vendor's runtime; the first that is set applies.
    """
    kind, _, number = (spec.device or "").partition(":")
    own = _first(dict(spec.env), variables)
    if kind != "cuda" or (number and not is_index(number)):
        return None
    count = 1
    for name in PARALLEL:
        size = dict(spec.settings).get(name)
        count *= size if isinstance(size, int) and size > 0 else 1
    listed = own if own is not None else _first(environ, variables) or ""
    visible = [entry.strip() for entry in listed.split(",") if entry.strip()]
    first = 0 if own is not None else int(number or 0)
    return visible[first : first + count] if visible else [str(k) for k in range(first, first + count)]


def _first(environ: Mapping[str, str], variables: Sequence[str]) -> str | None:
    return next((environ[name] for name in variables if environ.get(name)), environ.get(variables[-1]))


def meter_of_engine(meter: EnergyMeter, spec: EngineSpec) -> tuple[EnergyMeter, str]:
    """The meter restricted to the engine's devices, and a sentence on the choice of the devices."""
    everything = len(meter.devices())
    used = entries(spec, variables=meter.visible_variables)
    narrowed = None if used is None else meter.only(used)
    if used is None or narrowed is None:
        why = {"remote": "where the server runs is not known", "cpu": "the engine runs on the CPU"}.get(
            (spec.device or "").partition(":")[0], "which of them the engine uses is not known"
        )
        return meter, f"all {everything} devices of the meter: {why}" if everything != 1 else "the meter's one device"
    if not narrowed.devices():
        return meter, f"all {everything} devices of the meter: it knows no GPU {', '.join(used)}"
    names = ", ".join(str(device["name"]) for device in narrowed.devices())
    return narrowed, f"{len(narrowed.devices())} of {everything} GPUs, which the engine uses: {names}"


# Wrappers for meters of version 0.1, which had no base class, only the methods that its documentation named.
# ``choose`` applies them, so that all other code sees an ``EnergyMeter``. Kept for one release.


def adapted(meter: Any) -> EnergyMeter:
    """The meter itself, or a wrapper around a meter of version 0.1."""
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
    """A watch with ``reading``, ``trace`` and ``close``; its other methods are optional."""

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


class UnavailableMeter(EnergyMeter):
    """The meter of a machine without energy readings: every reading has the reason, and none is 0."""

    available = False

    def __init__(self, reason: str, name: str = "unavailable") -> None:
        self.name = name
        self.reason: str | None = reason

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """No devices."""
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
    """The meter ``name``, or the first available meter, or an UnavailableMeter with all reasons.

    "none" switches energy off. ``meters``: the results of the hook; meters without the base class (version 0.1) are
    wrapped. InvalidInput for an unknown name; ``option`` is the option that gave it.
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
