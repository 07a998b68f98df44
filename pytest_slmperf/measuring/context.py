"""What a measurement works with: engines, meter, clock, deadline, progress. Passed in, so that tests can simulate it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.engines.source import EngineSource
from pytest_slmperf.measuring.bare_idle import BareIdle
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.scenarios.sweep import Sweep


class Reporter(Protocol):
    """Where progress is shown."""

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
class Lab:
    """Shared by all measurements of a session. ``deadline`` is on ``clock``'s axis, None for no time budget.

    ``annotate`` lets other packages add charts and notes to a finished sweep (the hook ``pytest_slmperf_annotate``).
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
        """Every default filled in by the engine's adapter."""
        return self.adapter(spec).resolve(spec)

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        """The adapter of the specification's engine; InvalidInput where there is none of that name."""
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
