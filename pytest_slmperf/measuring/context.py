"""The parts that all measurements of a session share, the settings of one test, and the profile for ``pick``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.energy.idle_power import device_powers
from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.engines.pool import EnginePool, EngineSource
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Gate
from pytest_slmperf.scenarios.sweep import Sweep
from pytest_slmperf.util.formatting import portion

# Idle power of the devices without an engine.

SECONDS = 1.0


class BareIdle:
    """Idle power of the meter's devices, measured once, right before the first engine of the session starts."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self._watts: dict[str, float] = {}
        self._reason: str | None = "no engine was started by this session"
        self._done = False

    def before_start(self, spec: EngineSpec, adapter: EngineAdapter) -> None:
        """Called before each start of an engine; measures at the first only, and not without an available meter."""
        if self._done or not self._meter.available:
            return
        if adapter.virtual_clock(spec):
            return  # this engine draws no power, so that the devices stay idle
        self._done = True
        if adapter.traits.remote:
            self._reason = "the server ran before this session"
            return
        self._watts, self._reason = device_powers(self._meter, SECONDS)

    def of(self, names: Sequence[str]) -> tuple[float | None, str | None]:
        """Watts of the devices ``names`` together; None and the reason without a reading."""
        if self._reason is not None or not names or any(name not in self._watts for name in names):
            return None, self._reason or "it was not read for every device"
        return sum(self._watts[name] for name in names), None


class Reporter(Protocol):
    """A progress display."""

    def update(
        self, test: str, phase: str, done: int = 0, total: int = 0, estimate: str = "", left_s: float | None = None
    ) -> None: ...

    def clear(self) -> None: ...


class Silent:
    """No progress display."""

    def update(
        self, test: str, phase: str, done: int = 0, total: int = 0, estimate: str = "", left_s: float | None = None
    ) -> None:
        return

    def clear(self) -> None:
        return


def no_annotation(result: Result, scenario: Sweep, spec: EngineSpec) -> None:
    """Adds nothing to a finished sweep."""


@dataclass
class MeasuringContext:
    """The parts that all measurements of a session share.

    deadline: on the axis of ``clock``; None without a time budget
    annotate: adds charts and notes of other packages to a finished sweep (the hook ``pytest_slmperf_annotate``)
    """

    registry: Registry
    pool: EnginePool
    meter: EnergyMeter
    bare_idle: BareIdle
    state_dir: Path
    session_id: str
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    progress: Reporter = field(default_factory=Silent)
    annotate: Callable[[Result, Sweep, EngineSpec], None] = no_annotation

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The specification with every default filled in by the engine's adapter."""
        return self.adapter(spec).resolve(spec)

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        """The adapter of the specification's engine; InvalidInput for an unknown engine."""
        return self.registry.get(spec.engine)

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        """KV budget in tokens of this engine alone on its device: the requested one, or all that fits."""
        resolved = self.resolve(spec)
        if spec.kv_cache_tokens is not None:
            return resolved.kv_cache_tokens
        return self.adapter(spec).kv_tokens_alone(resolved)

    @property
    def engines(self) -> EngineSource:
        """The source of engines for scenarios."""
        return EngineSource(self.pool)

    def time_left(self) -> float:
        """Seconds until the session's deadline; infinite without one."""
        return float("inf") if self.deadline is None else self.deadline - self.clock()


# The settings of one test.


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one test. Times in seconds, shares as fractions.

    ``tolerance`` and ``limit`` are by metric; the key None, always present, is for all metrics that are not keys.
    """

    spec: EngineSpec
    launches: int
    max_launches: int
    rounds: int
    most_rounds: int
    gate: bool | frozenset[str]
    tolerance: Mapping[str | None, float]
    limit: Mapping[str | None, float]
    energy_bound: float
    max_time: float | None
    start_timeout: float
    round_timeout: float
    evidence_limits: Mapping[str, float | None] = field(default_factory=dict)  # by name of a contamination limit
    quarantined: str | None = None  # the reason, when the ini lists the test
    baseline_launches: int = 0  # forked launches of a result that finds no baseline, since it may become one

    def asks_for(self, name: str) -> bool:
        """Whether the test itself names this metric in ``gate``, so that it cannot be green without a reading."""
        return isinstance(self.gate, frozenset) and name in self.gate

    def gates(self, default: tuple[str, ...]) -> tuple[Gate, ...]:
        """The metrics to judge. ``default``: the scenario's own. InvalidInput for margins that contradict each other."""
        chosen = default if isinstance(self.gate, bool) else tuple(sorted(self.gate))
        may_fail = bool(self.gate) and self.quarantined is None
        result = []
        for name in chosen:
            known = metric(name)
            if known.better == "none":
                raise InvalidInput(f"metric {name!r} has no better direction and cannot be gated")
            tolerance = self.tolerance.get(name, self.tolerance[None])
            limit = self.limit.get(name, self.limit[None])
            if tolerance >= limit:
                raise InvalidInput(
                    f"{name}: tolerance {portion(tolerance)} must be below limit {portion(limit)}; "
                    "set --slmperf-tolerance or --slmperf-limit (or the marker's keys) so that it is"
                )
            result.append(Gate(name, known.better, tolerance, limit, may_fail))
        return tuple(result)


# Parameter lists that depend on the machine: ``pick(quick=[1, 8], full=[1, 4, 16], gpu=[1, 64, 512])``.
# ``@pytest.mark.parametrize`` runs while a test module is imported, without access to pytest's config. Therefore the
# plugin activates the profile of its session before collection and deactivates it when the session is unconfigured.
# Sessions within one process may nest: the last session that still runs is the active one.

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Active:
    """The profile of a session. ``gpu``: whether its engine serves on a GPU."""

    profile: str = "quick"
    gpu: bool = False


_sessions: list[Active] = []


def activate(profile: str, gpu: bool) -> Callable[[], None]:
    """Make this the active profile; returns a function that deactivates it, which may be called more than once."""
    session = Active(profile, gpu)
    _sessions.append(session)

    def deactivate() -> None:
        _sessions[:] = [other for other in _sessions if other is not session]

    return deactivate


def active_profile() -> Active:
    """The active profile; outside of a session with ``--slmperf`` the quick profile on a CPU."""
    return _sessions[-1] if _sessions else Active()


active = active_profile  # its name in 0.1


def pick(quick: T, full: T | None = None, gpu: T | None = None, gpu_full: T | None = None) -> T:
    """The value for the running session: ``full`` in the full profile, ``gpu``/``gpu_full`` if the engine serves on a GPU.

    Absent values fall back: gpu_full → gpu → full → quick.
    """
    session = active_profile()
    order: list[T | None]
    if session.gpu:
        order = [gpu_full, gpu, full, quick] if session.profile == "full" else [gpu, quick]
    else:
        order = [full, quick] if session.profile == "full" else [quick]
    return next(value for value in order if value is not None)
