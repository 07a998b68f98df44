"""The seam between scenarios and engines: what an engine adapter offers, and what a running engine does.

Parent side only.  The worker side (what runs inside the engine's own process, standard library and engine only) is
described in ``worker.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_slmperf.model.engine_spec import EngineSpec


class EngineState(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Batch:
    """Offline work for one round: ``batch`` prompts handed over at once, lengths fixed, EOS ignored.

    Prompts are token ids drawn in the worker from ``seed``, outside the measured window.
    """

    batch: int
    input_len: int
    output_len: int
    seed: int = 0
    ignore_eos: bool = True


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """One request. Times are CLOCK_MONOTONIC seconds; None where the engine does not tell."""

    t_sent: float
    t_first: float | None
    t_last: float | None
    n_in: int
    n_out: int


@dataclass(frozen=True, slots=True)
class RoundReading:
    """What an engine says of one round. ``t_start``/``t_end`` are CLOCK_MONOTONIC seconds taken in the worker,
    with the device synchronised before ``t_end``."""

    t_start: float
    t_end: float
    n_in: int
    n_out: int
    completed: int
    requests: tuple[RequestTiming, ...] = ()
    itl_s: tuple[float, ...] = ()  # pooled gaps between tokens, where the engine tells (may be subsampled)
    preemptions: int | None = None
    kv_cache_peak: float | None = None  # percent
    mean_running: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)  # worker's own getrusage deltas: nivcsw, nvcsw, cpu_s, …


class Engine(Protocol):
    """One launch of an engine: a process of its own, or a remote endpoint."""

    spec: EngineSpec
    state: EngineState
    facts: dict[str, Any]  # filled when READY: version, device, weights, dtype, kv_cache_tokens, pid, …
    start_time_s: float | None  # process spawn to first request served
    log_path: Path | None

    def generate(self, work: Batch, timeout_s: float | None = None) -> RoundReading:
        """Run one round. EngineError if the engine died or hung; then the state is FAILED and nothing is left behind."""

    def reset_caches(self) -> None:
        """Empty the prefix cache."""

    def log_tail(self, lines: int = 20) -> str: ...

    def stop(self) -> None:
        """End the engine and its whole process group. Idempotent."""


Progress = Callable[[str], None]  # called with a short phrase while something long goes on


class EngineAdapter(Protocol):
    """One kind of engine, registered through ``pytest_slmperf_engines``.

    ``simulated`` marks everything it measures as simulated and never comparable with a real engine.
    """

    name: str
    simulated: bool

    def missing(self, python: str | None = None) -> str | None:
        """None when the engine can run in that interpreter; else the reason and the mend, in a sentence or two."""

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The specification with every default filled in (device, dtype, weights, KV budget, …). Raises InvalidInput."""

    def launch(self, spec: EngineSpec, *, log_path: Path, progress: Progress) -> Engine:
        """Start one engine and return it READY. Raises EngineError (EngineMissing) with the log's tail."""
