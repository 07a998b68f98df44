"""Idle power of the devices without an engine: measured once, right before the first engine of the session starts."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.energy.idle_power import device_powers
from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.model.engine_spec import EngineSpec

SECONDS = 1.0


class BareIdle:
    """Watts per device of the session's meter, or why there are none."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self._watts: dict[str, float] = {}
        self._reason: str | None = "no engine was started by this session"
        self._done = False

    def before_start(self, spec: EngineSpec, adapter: EngineAdapter) -> None:
        """Called before each start of an engine; only at the first are the devices bare. Skips the wait where no meter
        reads.
        """
        if self._done or not self._meter.available:
            return
        if adapter.virtual_clock(spec):
            return  # this engine draws no power and leaves the devices as they are
        self._done = True
        if adapter.traits.remote:
            self._reason = "the server ran before this session"
            return
        self._watts, self._reason = device_powers(self._meter, SECONDS)

    def of(self, names: Sequence[str]) -> tuple[float | None, str | None]:
        """Watts of these devices together; None and the reason where there is no reading."""
        if self._reason is not None or not names or any(name not in self._watts for name in names):
            return None, self._reason or "it was not read for every device"
        return sum(self._watts[name] for name in names), None
