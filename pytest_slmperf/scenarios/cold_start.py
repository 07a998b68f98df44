"""Cold start: from the spawn of the engine's process to the first request served, what the machine keeps already there."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from pytest_slmperf.engines.base import Engine
from pytest_slmperf.errors import EngineError
from pytest_slmperf.metrics.latency import engine_start_time
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import OpenEngine, RoundOutcome, Scenario, first_fills_caches


@dataclass(frozen=True, slots=True)
class ColdStart(Scenario):
    """Each launch is a process of its own; its one round is its start. On a GPU a launch that does not count goes before."""

    kind: ClassVar[str] = "cold_start"
    gates: ClassVar[tuple[str, ...]] = ("engine_start_time",)
    measures_energy: ClassVar[bool] = False
    needs_warmup: ClassVar[bool] = False
    starts_engine: ClassVar[bool] = True
    rounds_per_launch: ClassVar[int | None] = 1

    def parameters(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def prepare(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> None:
        if first_fills_caches(spec, launch):
            with open_engine(spec, -1):
                pass

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        return open_engine(spec, -1)

    def round(self, engine: Engine, timeout_s: float | None) -> RoundOutcome:
        seconds = engine.start_time_s
        if seconds is None:
            raise EngineError("the engine did not say how long it took to start", engine.log_tail())
        now = time.monotonic()
        return RoundOutcome(
            t_start=now - seconds, t_end=now, n_out=0, completed=1, values={engine_start_time.name: seconds}
        )
