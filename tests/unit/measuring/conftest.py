"""A laboratory without processes: engines that exist by name only, a clock that moves when something is measured, and a
scenario whose rounds follow a script.  Everything else is the product's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_slmperf.energy.base import DeviceReading, EnergyMeter, EnergyReading, Watch, Windows
from pytest_slmperf.engines.base import EngineAdapter, EngineFacts
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.measuring.context import BareIdle, MeasuringContext, Settings
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import RoundOutcome, Scenario

Script = Callable[[str, int, int], "float | tuple[float, dict[str, Any]]"]
"""(engine model, launch, round) → seconds of the round, or seconds and evidence."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class StandIn:
    """What an engine shows to the measuring loop."""

    def __init__(self, spec: EngineSpec, launch: int, clock: str) -> None:
        self.spec, self.launch = spec, launch
        self.facts = EngineFacts(version="1", clock=clock, weights="simulated", device="simulated")
        self.start_time_s = 1.0
        self.host = None
        self.rounds = 0

    def reset_caches(self) -> None:
        return

    def log_tail(self) -> str:
        return ""


class Pool:
    """Its launches are forked from a host for each two of them, whose import takes ``host_s``."""

    def __init__(self) -> None:
        self.host_s = self.import_s = 0.0
        self.hosts: set[int] = set()

    def import_ahead_s(self, launch: int) -> float:
        return 0.0 if launch // 2 in self.hosts else self.host_s

    def start_host(self, launch: int) -> float:
        """Seconds that it takes."""
        seconds = self.import_ahead_s(launch)
        self.hosts.add(launch // 2)
        self.import_s += seconds
        return seconds

    def settle(self, spec: EngineSpec, *, paired: bool) -> None:
        return

    def measuring(self, spec: EngineSpec) -> Any:
        return nullcontext()


class NoMeter:
    available = False
    reason = "no meter here"


class Steady(EnergyMeter, Watch):
    """A meter, and its watch, of one device that draws 100 W; each reading is off by at most ``bound_j``.

    ``looks``: how often several windows were read together, which takes ``look_s`` on the clock each time.
    """

    name, available, reason = "steady", True, None

    def __init__(self, clock: Clock, bound_j: float, look_s: float = 0.0) -> None:
        self.clock, self.bound_j, self.look_s = clock, bound_j, look_s
        self.looks = 0

    def devices(self) -> list[dict[str, Any]]:
        return [{"name": "board", "source": "steady"}]

    def watch(self) -> Watch:
        return self

    def idle_power_w(self, seconds: float) -> float | None:
        return None

    def close(self) -> None:
        return

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        seconds = t_end - t_start
        device = DeviceReading("board", None, "steady", "module", 100 * seconds, self.bound_j, seconds)
        return EnergyReading((device,), t_start, t_end)

    def total(self, windows: Windows) -> EnergyReading:
        self.looks += 1
        self.clock.now += self.look_s
        return super().total(windows)


@dataclass
class Bench(MeasuringContext):
    """A MeasuringContext that hands out stand-ins; ``opened`` and ``closed`` list (model, launch)."""

    opened: list[tuple[str, int]] = field(default_factory=list)
    closed: list[tuple[str, int]] = field(default_factory=list)
    start_seconds: float = 1.0
    engine_clock: str = "virtual"

    def lend(self, meter: EnergyMeter) -> None:
        """Engines opened from now on do not compute their rounds, and this meter reads them."""
        self.meter, self.bare_idle, self.engine_clock = meter, BareIdle(meter), "real"

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        return spec

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        return SimulatedAdapter()

    @property
    def engines(self) -> Any:
        return self._engine

    @contextmanager
    def _engine(self, spec: EngineSpec, launch: int) -> Iterator[Any]:
        self.opened.append((spec.model, launch))
        self.clock.now += self.start_seconds + self.pool.start_host(launch)  # type: ignore[attr-defined]
        try:
            yield StandIn(spec, launch, self.engine_clock)
        finally:
            self.closed.append((spec.model, launch))


class Scripted(Scenario):
    kind: ClassVar[str] = "offline"
    gates: ClassVar[tuple[str, ...]] = ("output_throughput",)

    def __init__(self, script: Script, clock: Clock, tokens: int = 1000) -> None:
        self.script, self.clock, self.tokens = script, clock, tokens
        self.order: list[tuple[str, int, int]] = []

    def parameters(self) -> dict[str, Any]:
        return {"kind": self.kind, "batch": 1}

    def round(self, engine: Any, timeout_s: float | None) -> RoundOutcome:
        asked = (engine.spec.model, engine.launch, engine.rounds)
        engine.rounds += 1
        self.order.append(asked)
        said = self.script(*asked)
        seconds, evidence = said if isinstance(said, tuple) else (said, {})
        begin = self.clock.now
        self.clock.now += seconds
        values = {"output_throughput": self.tokens / seconds}
        return RoundOutcome(begin, self.clock.now, self.tokens, 1, values, evidence={"window_s": seconds} | evidence)


DISTURBED = {"cpu_wait_share": 0.5}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def context(clock: Clock) -> Bench:
    return Bench(
        registry=None,  # type: ignore[arg-type]
        pool=Pool(),  # type: ignore[arg-type]
        meter=NoMeter(),  # type: ignore[arg-type]
        bare_idle=None,  # type: ignore[arg-type]
        state_dir=Path("unused"),
        session_id="today",
        clock=clock,
    )


@pytest.fixture
def lend_meter(context: Bench, clock: Clock) -> Callable[..., Steady]:
    """Lends the context a meter with this bound in J; each look at several windows takes ``look_s``."""

    def lend(bound_j: float, look_s: float = 0.0) -> Steady:
        meter = Steady(clock, bound_j, look_s)
        context.lend(meter)
        return meter

    return lend


@pytest.fixture
def scripted(clock: Clock) -> Callable[[Script], Scripted]:
    return lambda script: Scripted(script, clock)


SPEC = EngineSpec("simulated", "candidate")
BASE = EngineSpec("simulated", "baseline")


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        known: dict[str, Any] = {
            "spec": SPEC,
            "launches": 2,
            "max_launches": 8,
            "rounds": 5,
            "most_rounds": 5,
            "gate": True,
            "tolerance": {None: 0.01},
            "limit": {None: 0.05},
            "energy_bound": 0.02,
            "max_time": None,
            "start_timeout": 60.0,
            "round_timeout": 60.0,
        }
        return Settings(**known | changes)

    return make
