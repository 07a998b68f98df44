"""Wrappers for engine adapters of version 0.1, which had no base class, only the methods that its documentation named.

``Registry`` applies them, so that all other code sees an ``EngineAdapter``. Kept for one release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_slmperf.engines.base import (
    START_TIMEOUT_S,
    Batch,
    Engine,
    EngineAdapter,
    EngineFacts,
    EngineState,
    EngineTraits,
    Progress,
    RoundReading,
)
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import PlayReport
from pytest_slmperf.model.engine_spec import EngineSpec


class TimedProgress:
    """A progress callback with a start timeout, for which ``launch`` of version 0.1 has no parameter."""

    def __init__(self, progress: Progress, timeout_s: float = START_TIMEOUT_S) -> None:
        self._progress = progress
        self.timeout_s = timeout_s

    def __call__(self, text: str) -> None:
        self._progress(text)


def start_timeout_of(progress: Progress, otherwise: float) -> float:
    """The start timeout of the callback, in seconds, or ``otherwise``."""
    return progress.timeout_s if isinstance(progress, TimedProgress) else otherwise


def adapted(adapter: Any) -> EngineAdapter:
    """The adapter itself, or a wrapper around an adapter of version 0.1."""
    return adapter if isinstance(adapter, EngineAdapter) else FormerAdapter(adapter)


class FormerAdapter(EngineAdapter):
    """An adapter with ``name``, ``simulated``, ``missing``, ``resolve`` and ``launch``; its other methods are optional."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.name: str = adapter.name
        self.traits = EngineTraits(simulated=bool(getattr(adapter, "simulated", False)))

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        resolved: EngineSpec = self._adapter.resolve(spec)
        return resolved

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> Engine:
        engine = self._adapter.launch(spec, log_path=log_path, progress=TimedProgress(progress, timeout_s))
        return engine if isinstance(engine, Engine) else FormerEngine(engine)

    def missing(self, python: str | None = None) -> str | None:
        reason: str | None = self._adapter.missing(python)
        return reason

    def default_device(self, python: str | None = None) -> str | None:
        choose = getattr(self._adapter, "default_device", None)
        return str(choose(python)) if callable(choose) else None

    def footprint_bytes(self, spec: EngineSpec) -> int | None:
        estimate = getattr(self._adapter, "footprint_bytes", None)
        size = estimate(spec) if callable(estimate) else None
        return None if size is None else int(size)

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        alone = getattr(self._adapter, "kv_tokens_alone", None)
        tokens: int | None = alone(spec) if callable(alone) else spec.kv_cache_tokens
        return tokens


class FormerEngine(Engine):
    """A running engine of version 0.1: ``generate``, ``reset_caches``, ``log_tail``, ``stop``; further ones are optional."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.spec = engine.spec
        self.facts = EngineFacts(engine.facts)
        self.start_time_s = engine.start_time_s
        self.log_path = engine.log_path

    @property
    def state(self) -> EngineState:
        state: EngineState = self._engine.state
        return state

    @property
    def http(self) -> Http | None:
        return getattr(self._engine, "http", None)

    def stop(self) -> None:
        self._engine.stop()

    def generate(self, work: Batch, timeout_s: float | None = None, start_at: float | None = None) -> RoundReading:
        barrier = {} if start_at is None else {"start_at": start_at}
        reading: RoundReading = self._engine.generate(work, timeout_s, **barrier)
        return reading

    def play(self, load: LoadPlan, timeout_s: float) -> PlayReport:
        call = getattr(self._engine, "call", None)
        if not callable(call):
            return super().play(load, timeout_s)
        return PlayReport.from_wire(call("play", {"plan": load.for_worker()}, timeout_s))

    def clock(self) -> float:
        return float(self._engine.call("clock", {})["now"]) if self.facts.virtual_clock else super().clock()

    def reset_caches(self) -> None:
        self._engine.reset_caches()

    def log_tail(self, lines: int = 20) -> str:
        return str(self._engine.log_tail(lines))

    def alive(self) -> bool:
        check = getattr(self._engine, "alive", None)
        return bool(check()) if callable(check) else super().alive()

    def counters(self) -> dict[str, Any]:
        read = getattr(self._engine, "counters", None)
        return dict(read()) if callable(read) else {}

    def pause(self) -> None:
        pause = getattr(self._engine, "pause", None)
        if callable(pause):
            pause()

    def resume(self) -> None:
        resume = getattr(self._engine, "resume", None)
        if callable(resume):
            resume()
