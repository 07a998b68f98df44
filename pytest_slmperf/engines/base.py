"""The interface between scenarios and engines: what an engine adapter offers, and what a running engine does.

``EngineAdapter`` is one kind of engine, ``Engine`` one launch of it.  Each method says whether it must be written, may
be overridden (and what it does otherwise), or is final.  Only the side of pytest is here; what runs in the engine's own
process is described in ``worker/main.py``.
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

# Checks of engine settings: unknown names and wrong kinds of value are refused with the nearest names.


def unknown_setting(engine: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a setting that this engine does not have."""
    names = sorted(known)
    near = near_names(name, names)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:12])}…"
    return InvalidInput(f"{engine} engine has no setting {name!r}; {hint}")


def check_settings(
    engine: str, given: Mapping[str, Any], defaults: Mapping[str, Scalar], numbers: Collection[str] = ()
) -> dict[str, Scalar]:
    """The given settings, without those equal to their default, so that one configuration has one specification.

    InvalidInput for a name that is not among ``defaults``, for text in the place of a number or the other way round, and
    for numbers below 0. ``numbers``: settings that take a number although their default is None.
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
    """What the setting must be where the value is something else, else None."""
    if is_number(default) and not is_number(value):
        return "a number"
    if default is None and takes_number and not (value is None or is_number(value)):
        return "a number"
    if is_number(value) and not 0 <= value < math.inf:
        return "a number of at least 0"
    if isinstance(default, str) and not isinstance(value, str):
        return "text"
    return None


# How much memory engines may take together, on the host and on a GPU.

SHARE = 0.85  # of a device's memory; the rest is for the system, this process, and what engines do not declare
# Bytes of one engine beside weights and KV cache: torch, vLLM, activations, on a GPU its context and graphs as well
RUNTIME_BYTES = {"cpu": 1 * 2**30, "cuda": 3 * 2**30}


def budget_bytes(device: str) -> int | None:
    """Bytes that the engines resident on a device may take together; None where the device's memory is not known."""
    if device.startswith("cuda"):
        total = device_memory_bytes(device)
        return None if total is None else int(total * SHARE)
    return int(host_memory_bytes() * SHARE)


START_TIMEOUT_S = (
    900.0  # longest start unless the user says otherwise: a large model from a cold disk, with compilation
)
Progress = Callable[[str], None]  # called with a short phrase while something long goes on


class EngineState(enum.Enum):
    """The stages of an engine's life."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Batch:
    """Offline work for one round: ``batch`` prompts handed over at once, lengths in tokens, end-of-sequence ignored.

    Prompts are token ids drawn in the worker from ``seed``, outside the measured window.
    """

    batch: int
    input_len: int
    output_len: int
    seed: int = 0
    ignore_eos: bool = True


@dataclass(frozen=True, slots=True)
class RoundReading:
    """What an engine reports of one round. ``t_start`` and ``t_end`` are CLOCK_MONOTONIC seconds taken in the worker,
    with the device synchronised before ``t_end``.

    n_in, n_out:   prompt and output tokens of all requests
    itl_s:         gaps between tokens of all requests, seconds; may be a sample; empty where the engine reports none
    preemptions, kv_cache_peak (percent), mean_running (sequences): None where the engine reports none, never 0
    evidence:      the worker's own use of the machine during the round (``nivcsw``, ``nvcsw``, ``cpu_s``, …)
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
    """What a running engine reports of itself: open, as the results keep it, with attributes for the facts used here."""

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
        """Process ids of the engine (of every replica); empty where nothing runs on this machine."""
        pids = self.get("pids") or (self.get("pid"),)
        return tuple(pid for pid in pids if isinstance(pid, int))

    @property
    def simulated(self) -> bool:
        """No model runs: times come from a cost model, and text is only counted."""
        return self.get("weights") == "simulated"

    @property
    def virtual_clock(self) -> bool:
        """Rounds are computed and take no time: no meter and no disturbance of this machine applies to them."""
        return self.get("clock") == "virtual"


class EngineLaunch(ABC):
    """What the measuring loop needs of whatever it measures: one engine, or several replicas as one.

    spec:          the resolved specification
    facts:         what the engine reports of itself, once it is READY
    start_time_s:  seconds from the spawn of its process to its first request served; None where nothing was started
    log_path:      the engine's output; None where it has none
    host:          name of the launch host that it was forked from; None for a process of its own
    """

    spec: EngineSpec
    facts: EngineFacts
    start_time_s: float | None = None
    log_path: Path | None = None
    host: str | None = None

    @property
    @abstractmethod
    def state(self) -> EngineState:
        """Must be written; a plain attribute will do."""

    @abstractmethod
    def stop(self) -> None:
        """End the engine and everything it started. Idempotent. Must be written."""

    def reset_caches(self) -> None:  # noqa: B027 (most engines without a prefix cache need nothing)
        """Empty the prefix cache. May be overridden; by default there is none."""

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the engine's output, for error messages. May be overridden; by default there are none."""
        return ""


class Engine(EngineLaunch):
    """One launch of an engine: a process of its own, or a remote endpoint. ``EngineProcess`` is the one for processes."""

    @abstractmethod
    def generate(self, work: Batch, timeout_s: float | None = None, start_at: float | None = None) -> RoundReading:
        """Run one round of offline work. Must be written.

        ``start_at`` (CLOCK_MONOTONIC seconds) is the common start of several replicas.  Raises EngineError if the engine
        died or took longer than ``timeout_s``: its state is FAILED then, and nothing of it is left.
        """

    def play(self, load: LoadPlan, timeout_s: float) -> PlayReport:
        """Play a load inside the engine's process and return its report.

        May be overridden; an engine that serves over ``http`` is never asked.  InvalidInput by default.
        """
        raise InvalidInput(f"engine {self.spec.engine} cannot serve a load: it has neither an HTTP endpoint nor 'play'")

    @property
    def http(self) -> Http | None:
        """The endpoint that takes requests over HTTP. May be overridden; None by default: loads are played in process."""
        return None

    def alive(self) -> bool:
        """Whether it can serve a round now. May be overridden; by default whether it is READY."""
        return self.state is EngineState.READY

    def clock(self) -> float:
        """The engine's own time in seconds. May be overridden; by default CLOCK_MONOTONIC."""
        return time.monotonic()

    def counters(self) -> dict[str, Any]:
        """The engine's own counters since its start, by its own names. May be overridden; by default there are none."""
        return {}

    def pause(self) -> None:
        """Keep an idle engine off the processor. Idempotent. May be overridden; by default it goes on."""

    def resume(self) -> None:
        """End a pause. Idempotent. May be overridden."""


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """How a kind of engine differs from a real one that runs in a process on this machine.

    simulated:  no model runs; figures are marked as simulated everywhere and never compared with a real engine's
    remote:     somebody else runs it: nothing is started here
    chunked_prefill_setting:  name of the engine setting that switches chunked prefill; None where there is none
    mig_hint:   what the user should know where the engine does not start on a MIG slice; empty: nothing
    """

    simulated: bool = False
    remote: bool = False
    chunked_prefill_setting: str | None = None
    mig_hint: str = ""


class EngineAdapter(ABC):
    """One kind of engine, registered through the hook ``pytest_slmperf_engines`` under its ``name``."""

    name: str
    traits: EngineTraits = EngineTraits()

    @abstractmethod
    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The specification with every default filled in (device, dtype, weights, KV budget, …). Must be written.

        Two equal specifications share resident engines, and resolving twice changes nothing.  Raises InvalidInput.
        """

    @abstractmethod
    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> Engine:
        """Start one engine from a resolved specification and return it READY. Must be written.

        ``timeout_s``: the longest start that the user allows.  Raises EngineError (EngineMissing) with the log's tail, and
        leaves nothing behind then.
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
        """Why the engine cannot run in that interpreter (None: this one), and the fix, in a sentence or two.

        May be overridden; None by default: nothing is missing.
        """
        return None

    def default_device(self, python: str | None = None) -> str | None:
        """Where the engine would serve on this machine unless a device is named: "cpu", "cuda:0"; starts no engine.

        May be overridden; None by default: it does not choose.
        """
        return None

    def footprint_bytes(self, spec: EngineSpec) -> int | None:
        """Memory that an engine of this resolved specification takes on its device, in bytes.

        May be overridden; None by default: not known, and the pool assumes its usual figure.
        """
        return None

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        """KV-cache budget in tokens where the engine may have its device to itself; None where it is not known.

        May be overridden; by default the budget of this resolved specification.
        """
        return spec.kv_cache_tokens

    def runtime_bytes(self, spec: EngineSpec) -> int:
        """Memory in bytes that a running engine takes on its device beside weights and KV cache.

        May be overridden; by default the usual figure of a GPU, and 0 on a host, whose cores run out before its memory does.
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

        ``sharing``: "time-slice", "mps" or "mig".  May be overridden; None by default: host cores are pinned, an MPS daemon
        is started or MIG slices are given out.  InvalidInput where the engine has no such sharing.
        """
        return None
