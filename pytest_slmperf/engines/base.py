"""The interface between scenarios and engines, and the checks and memory budgets that engine adapters share.

``EngineAdapter`` is one kind of engine, ``Engine`` one launch of it.  The docstring of each method states whether a subclass
must write it or may override it, and its default.  This file is the side of pytest; ``worker/main.py`` describes the
program in the engine's own process.
"""

from __future__ import annotations

import enum
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_slmperf.devices.selection import device_memory_bytes, host_memory_bytes
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.engines.launch_host import HostProgram, LaunchHost
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import PlayReport
from pytest_slmperf.load.rows import RequestTiming as RequestTiming  # for those who write an engine
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar
from pytest_slmperf.util.checks import is_number, near_names

# Checks of engine settings: names and types.


def unknown_setting(engine: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a setting that this engine does not have."""
    names = sorted(known)
    near = near_names(name, names)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:12])}…"
    return InvalidInput(f"{engine} engine has no setting {name!r}; {hint}")


def check_settings(
    engine: str, given: Mapping[str, Any], defaults: Mapping[str, Scalar], numbers: Collection[str] = ()
) -> dict[str, Scalar]:
    """The settings that differ from their defaults, so that equal configurations have equal specifications.

    ``numbers``: settings that take a number although their default is None. InvalidInput for a name that is not in
    ``defaults``, for a value of the wrong type, and for numbers below 0.
    """
    kept: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in defaults:
            raise unknown_setting(engine, name, defaults)
        wanted = _wanted(value, defaults[name], name in numbers)
        if wanted is not None:
            raise InvalidInput(f"{engine} engine: setting {name} must be {wanted}, not {value!r}")
        if value != defaults[name]:
            kept[name] = value
    return kept


def _wanted(value: Any, default: Scalar, takes_number: bool) -> str | None:
    """What the setting must be, if ``value`` is something else; else None."""
    if is_number(default) and not is_number(value):
        return "a number"
    if default is None and takes_number and not (value is None or is_number(value)):
        return "a number"
    if is_number(value) and not 0 <= value < math.inf:
        return "a number of at least 0"
    if isinstance(default, str) and not isinstance(value, str):
        return "text"
    return None


# The memory that engines may take together, on the host and on a GPU.

SHARE = 0.85  # of a device's memory; the rest is for the system, this process, and undeclared memory of engines
# Bytes of one engine in addition to weights and KV cache: torch, vLLM, activations; on a GPU its context and graphs too.
RUNTIME_BYTES = {"cpu": 1 * 2**30, "cuda": 3 * 2**30}


def budget_bytes(device: str) -> int | None:
    """Bytes that the resident engines on a device may take together; None for a device of unknown memory."""
    if device.startswith("cuda"):
        total = device_memory_bytes(device)
        return None if total is None else int(total * SHARE)
    return int(host_memory_bytes() * SHARE)


START_TIMEOUT_S = (
    900.0  # longest start unless the user says otherwise: a large model from a cold disk, with compilation
)
Progress = Callable[[str], None]  # receives a short phrase for the user during long operations


class EngineState(enum.Enum):
    """The stages of an engine's life."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Batch:
    """Offline work for one round: ``batch`` prompts at once, lengths in tokens, end-of-sequence ignored.

    The worker draws the prompts' token ids from ``seed``, outside the measured window.
    """

    batch: int
    input_len: int
    output_len: int
    seed: int = 0
    ignore_eos: bool = True


@dataclass(frozen=True, slots=True)
class RoundReading:
    """An engine's report of one round.

    t_start, t_end: CLOCK_MONOTONIC seconds read in the worker, ``t_end`` after the device is synchronised
    n_in, n_out:    prompt and output tokens of all requests
    itl_s:          gaps between tokens of all requests, or a sample of them, in seconds; empty if the engine reports none
    preemptions, kv_cache_peak (percent), mean_running (sequences): None, never 0, if the engine reports none
    evidence:       the worker's use of the machine during the round (``nivcsw``, ``nvcsw``, ``cpu_s``, …)
    """

    t_start: float
    t_end: float
    n_in: int
    n_out: int
    completed: int
    requests: tuple[RequestTiming, ...] = ()
    itl_s: tuple[float, ...] = ()
    preemptions: int | None = None
    kv_cache_peak: float | None = None
    mean_running: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


class EngineFacts(dict[str, Any]):
    """A running engine's report of itself: any entry may stand in it, and those that this package uses are properties."""

    @property
    def version(self) -> str | None:
        """The engine's version."""
        return self.get("version")

    @property
    def max_model_len(self) -> int | None:
        """Longest request in tokens, prompt and output together."""
        return self.get("max_model_len")

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the engine (of every replica); empty if nothing runs on this machine."""
        pids = self.get("pids") or (self.get("pid"),)
        return tuple(pid for pid in pids if isinstance(pid, int))

    @property
    def simulated(self) -> bool:
        """Whether no model runs: times come from a cost model, and text is only counted."""
        return self.get("weights") == "simulated"

    @property
    def virtual_clock(self) -> bool:
        """Whether rounds are computed and take no time, so that neither meters nor disturbances apply to them."""
        return self.get("clock") == "virtual"


class EngineLaunch(ABC):
    """The interface that the measuring loop needs: one engine, or several replicas as one.

    spec:          the resolved specification
    facts:         the engine's report of itself, once it is READY
    start_time_s:  seconds from the spawn of its process to its first served request; None if no process was started
    log_path:      the engine's output; None if it has none
    host:          name of the launch host that forked it; None for a process of its own
    """

    spec: EngineSpec
    facts: EngineFacts
    start_time_s: float | None = None
    log_path: Path | None = None
    host: str | None = None

    @property
    @abstractmethod
    def state(self) -> EngineState:
        """Must be written; a plain attribute suffices."""

    @abstractmethod
    def stop(self) -> None:
        """End the engine and everything it started. Idempotent. Must be written."""

    def reset_caches(self) -> None:  # noqa: B027 (most engines without a prefix cache need nothing)
        """Empty the prefix cache. May be overridden; by default does nothing."""

    def hurry(self) -> None:  # noqa: B027 (an engine that ends quickly needs nothing)
        """The session is interrupted: end soon, without waiting for it; ``stop`` follows. Called while another method may
        run. May be overridden; by default ``stop`` ends the engine as always."""

    def log_tail(self, lines: int = 20) -> str:
        """The last ``lines`` lines of the engine's output, for error messages. May be overridden; by default empty."""
        return ""


class Engine(EngineLaunch):
    """One launch of an engine: a process (see ``EngineProcess``) or a remote endpoint."""

    @abstractmethod
    def generate(self, work: Batch, timeout_s: float | None = None, start_at: float | None = None) -> RoundReading:
        """Run one round of offline work. Must be written.

        ``start_at`` (CLOCK_MONOTONIC seconds) is the common start of several replicas.  Raises EngineError if the engine
        died or took longer than ``timeout_s``; its state is then FAILED, and no process of it is left.
        """

    def play(self, load: LoadPlan, timeout_s: float) -> PlayReport:
        """Play a load inside the engine's process and return its report.

        May be overridden; InvalidInput by default.  Not called for an engine that serves over ``http``.
        """
        raise InvalidInput(f"engine {self.spec.engine} cannot serve a load: it has neither an HTTP endpoint nor 'play'")

    @property
    def http(self) -> Http | None:
        """The endpoint that takes requests over HTTP. May be overridden; None by default: ``play`` plays loads instead."""
        return None

    def alive(self) -> bool:
        """Whether the engine can serve a round now. May be overridden; by default whether it is READY."""
        return self.state is EngineState.READY

    def clock(self) -> float:
        """The engine's own time in seconds. May be overridden; by default CLOCK_MONOTONIC."""
        return time.monotonic()

    def counters(self) -> dict[str, Any]:
        """The engine's own counters since its start, by its own names. May be overridden; by default empty."""
        return {}

    def pause(self) -> None:
        """Keep an idle engine off the processor. Idempotent. May be overridden; by default does nothing."""

    def resume(self) -> None:
        """End a pause. Idempotent. May be overridden; by default does nothing."""


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """Differences between a kind of engine and a real engine in a process on this machine.

    simulated:  no model runs; figures are marked as simulated everywhere and never compared with a real engine's
    remote:     another process or machine runs the engine: nothing is started here
    chunked_prefill_setting:  name of the engine setting that switches chunked prefill; None if there is none
    left_out:   pairs of a distribution and others that it brings and that cannot be imported beside it
    mig_hint:   hint for the user if the engine does not start on a MIG slice; may be empty
    """

    simulated: bool = False
    remote: bool = False
    chunked_prefill_setting: str | None = None
    mig_hint: str = ""
    left_out: tuple[tuple[str, tuple[str, ...]], ...] = ()


class EngineAdapter(ABC):
    """One kind of engine, registered through the hook ``pytest_slmperf_engines`` under its ``name``."""

    name: str
    traits: EngineTraits = EngineTraits()

    @abstractmethod
    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The specification with every default filled in (device, dtype, weights, KV budget, …). Must be written.

        Equal specifications share resident engines; resolving a specification twice changes nothing.  Raises InvalidInput.
        """

    @abstractmethod
    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> Engine:
        """Start one engine from a resolved specification and return it READY. Must be written.

        ``timeout_s``: the longest start that the user allows.  Raises EngineError (EngineMissing) with the log's tail, after
        it has ended whatever it started.
        """

    def host_program(self, spec: EngineSpec) -> HostProgram | None:
        """What a launch host imports, so that launches of this resolved specification can be forked from it.

        May be overridden, together with ``fork``, for an engine that starts no thread and touches no device while it is
        imported; None by default: every launch is a process of its own.
        """
        return None

    def fork(
        self,
        spec: EngineSpec,
        host: LaunchHost,
        *,
        log_path: Path,
        progress: Progress,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Engine:
        """As ``launch``, from a host of this specification's program. Must be written where ``host_program`` names one."""
        raise NotImplementedError(f"engine {self.name} has a program for launch hosts and no 'fork'")

    def missing(self, python: str | None = None) -> str | None:
        """Why the engine cannot run in the interpreter ``python`` (None: this one), and the fix, in a sentence or two.

        May be overridden; None by default: nothing is missing.
        """
        return None

    def default_device(self, python: str | None = None) -> str | None:
        """The engine's device on this machine if the user names none: "cpu", "cuda:0"; starts no engine.

        May be overridden; None by default: the engine has no default device.
        """
        return None

    def footprint_bytes(self, spec: EngineSpec) -> int | None:
        """Memory that an engine of this resolved specification takes on its device, in bytes.

        May be overridden; None by default: unknown, and the pool assumes ``DEFAULT_FOOTPRINT_BYTES``.
        """
        return None

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        """KV-cache budget in tokens of an engine that has its device to itself; None if it is unknown.

        May be overridden; by default the budget of this resolved specification.
        """
        return spec.kv_cache_tokens

    def runtime_bytes(self, spec: EngineSpec) -> int:
        """Memory in bytes that a running engine takes on its device in addition to weights and KV cache.

        May be overridden; by default ``RUNTIME_BYTES`` of a GPU, and 0 on a host, whose cores run out before its memory.
        """
        return RUNTIME_BYTES["cuda"] if (spec.device or "cpu").startswith("cuda") else 0

    def with_prefix_caching(self, spec: EngineSpec) -> EngineSpec:
        """The specification with the prefix cache switched on. May be overridden; InvalidInput by default."""
        raise InvalidInput(f"engine {self.name} has no prefix cache that can be switched on")

    def virtual_clock(self, spec: EngineSpec) -> bool:
        """Whether engines of this specification compute their rounds instead of running them. May be overridden; False."""
        return False

    def replica_specs(self, spec: EngineSpec, replicas: int, sharing: str) -> Sequence[EngineSpec] | None:
        """Specifications of replicas that share a device, for an engine that models the sharing itself.

        ``sharing``: "time-slice", "mps" or "mig".  May be overridden; None by default: the caller pins host cores, starts an
        MPS daemon or assigns MIG slices.  InvalidInput if the engine does not support ``sharing``.
        """
        return None
