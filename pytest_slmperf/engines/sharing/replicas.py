"""K engines of one specification on one device, driven as one: started one at a time, rounds begun on a barrier."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_slmperf.engines.base import Batch, Engine, EngineState, RoundReading
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

Sharing = Literal["time-slice", "mps", "mig"]
SHARINGS: tuple[Sharing, ...] = ("time-slice", "mps", "mig")
# From the call to the common start: enough for every worker to have read its call, and short enough that a meter reads
# rounds that follow each other as one window.
BARRIER_S = 0.01
OpenEngine = Callable[[EngineSpec, int], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Cores:
    """Host cores per replica. ``contention``: what they share, in a sentence; None where every replica has its own."""

    each: tuple[tuple[int, ...], ...]
    contention: str | None = None


def share_cores(cores: Sequence[int], replicas: int) -> Cores:
    """Disjoint cores for each replica, the first core left to the test process while there are enough.

    Where there are not, replicas take that core too, and then share cores; ``contention`` says so.
    """
    if not cores:
        raise InvalidInput("there is no core to pin a replica to")
    own = list(cores[1:])
    if len(own) >= replicas:
        width = len(own) // replicas
        return Cores(tuple(tuple(own[index * width : (index + 1) * width]) for index in range(replicas)))
    if len(cores) >= replicas:
        picked = [*own, cores[0]][:replicas]
        return Cores(
            tuple((core,) for core in picked),
            f"{replicas} replicas on {len(cores)} cores: the last one shares core {cores[0]} with the test process and the "
            "system, so its throughput is a lower bound",
        )
    return Cores(
        tuple((cores[index % len(cores)],) for index in range(replicas)),
        f"{replicas} replicas on {len(cores)} cores share cores: this measures contention for the host, not what the "
        "replicas could do",
    )


def replica_specs(
    base: EngineSpec, replicas: int, sharing: Sharing, *, cores: Cores | None, kv_cache_tokens: int | None
) -> list[EngineSpec]:
    """The specification of each replica: explicit KV budget, pinned cores, its way onto the device.

    Raises InvalidInput (too few MIG slices, a sharing mode the device does not have) and EngineMissing (no MPS).
    """
    spec = base if kv_cache_tokens is None else replace(base, kv_cache_tokens=kv_cache_tokens)
    if base.engine == "simulated":
        if sharing == "mig":
            raise InvalidInput("the simulated engine shares its device by 'time-slice' or 'mps', not by 'mig'")
        return [spec.with_settings(replicas=replicas, sharing=sharing)] * replicas
    if cores is not None:
        specs = [replace(spec, cpus=own) for own in cores.each]
    else:
        specs = [spec] * replicas
    device = base.device or "cpu"
    if device.startswith("cpu") or sharing == "time-slice" or (replicas == 1 and sharing == "mps"):
        return specs
    if sharing == "mps":
        from pytest_slmperf.devices.mig import lasting_entry
        from pytest_slmperf.engines.sharing.mps import shared

        daemon = shared(lasting_entry(device))
        return [_with_env(one, daemon.environment) for one in specs]
    from pytest_slmperf.devices.mig import TooFewSlices, mig_slices

    slices = mig_slices(device)
    if len(slices) < replicas:
        raise TooFewSlices(
            f"sharing='mig' with {replicas} replicas needs as many MIG slices, and {device} has {len(slices)}; "
            "make them with nvidia-smi mig -cgi … -C, or use sharing='mps'"
        )
    return [_with_env(one, {"CUDA_VISIBLE_DEVICES": slice_.uuid}) for one, slice_ in zip(specs, slices, strict=False)]


def label(number: int) -> str:
    """What metrics, logs and messages call a replica: they count from 0, as stored baselines do."""
    return f"replica {number}"


class ReplicaGroup:
    """K running engines as one. Implements what the measuring loop asks of an engine."""

    def __init__(self, engines: Sequence[Engine], spec: EngineSpec, facts: Mapping[str, Any]) -> None:
        self.engines = list(engines)
        self.spec = spec
        self.log_path = engines[0].log_path
        self.facts: dict[str, Any] = dict(engines[0].facts) | {
            "replicas": len(engines),
            "pids": [engine.facts.get("pid") for engine in engines],
            **facts,
        }

    @property
    def state(self) -> EngineState:
        """READY while every replica is; else the state of the first that is not."""
        return next(
            (engine.state for engine in self.engines if engine.state is not EngineState.READY), EngineState.READY
        )

    @property
    def start_time_s(self) -> float | None:
        """Seconds to start all of them one after the other; None where one does not tell."""
        times = [engine.start_time_s for engine in self.engines]
        return None if any(one is None for one in times) else sum(one for one in times if one is not None)

    def generate_all(self, works: Sequence[Batch], timeout_s: float | None = None) -> list[RoundReading]:
        """One piece of work for each replica, all begun at one moment. A replica without requests stands idle.

        EngineError of the first replica that failed, after all have ended.
        """
        busy = [(number, work) for number, work in enumerate(works) if work.batch > 0]
        start_at = self._common_start([number for number, _ in busy])
        with ThreadPoolExecutor(len(busy)) as threads:
            futures = [threads.submit(self._drive, number, work, timeout_s, start_at) for number, work in busy]
        return [future.result() for future in futures]

    def generate_queue(self, works: Sequence[Batch], timeout_s: float | None = None) -> list[list[RoundReading]]:
        """Pieces of work for whichever replica is free, all replicas begun at one moment; readings per replica.

        On a virtual clock the free one is the one whose own time is the earliest.
        """
        start_at = self._common_start(range(len(self.engines)))
        found: list[list[RoundReading]] = [[] for _ in self.engines]
        if self.facts.get("clock") == "virtual":
            for work in works:
                number = min(range(len(found)), key=lambda one: found[one][-1].t_end if found[one] else 0.0)
                found[number].append(self._drive(number, work, timeout_s, start_at))
            return found
        queue = deque(works)

        def drive(number: int) -> None:
            while True:
                try:
                    work = queue.popleft()  # atomic: no lock needed
                except IndexError:
                    return
                found[number].append(self._drive(number, work, timeout_s, start_at))

        with ThreadPoolExecutor(len(self.engines)) as threads:
            futures = [threads.submit(drive, number) for number in range(len(self.engines))]
        for future in futures:
            future.result()
        return found

    def _common_start(self, numbers: Sequence[int]) -> float:
        """A moment at which all these replicas can begin a round.

        Virtual clocks advance by what each replica computed, in this group or, out of the pool, in another: only where
        the last of them stands can all begin together.
        """
        start_at = time.monotonic() + (BARRIER_S if len(numbers) > 1 else 0.0)
        if self.facts.get("clock") != "virtual":
            return start_at
        return max(start_at, *(self._clock_of(number) for number in numbers))

    def _clock_of(self, number: int) -> float:
        engine: Any = self.engines[number]
        with _named(number, len(self.engines)):
            return float(engine.call("clock", {})["now"])

    def _drive(self, number: int, work: Batch, timeout_s: float | None, start_at: float) -> RoundReading:
        engine: Any = self.engines[number]
        with _named(number, len(self.engines)):
            reading: RoundReading = engine.generate(work, timeout_s, start_at=start_at)
        return reading

    def reset_caches(self) -> None:
        for engine in self.engines:
            engine.reset_caches()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of each replica's log, with its number."""
        parts = [f"{label(number)}: {engine.log_tail(lines)}" for number, engine in enumerate(self.engines)]
        return "\n".join(part for part in parts if not part.endswith(": "))

    def stop(self) -> None:
        for engine in self.engines:
            engine.stop()


@contextmanager
def open_replicas(
    specs: Sequence[EngineSpec], base: EngineSpec, launch: int, open_engine: OpenEngine, facts: Mapping[str, Any]
) -> Iterator[ReplicaGroup]:
    """Start (or take from the pool) one engine per specification, one at a time: engines that profile memory together
    would take each other's for their own."""
    with ExitStack() as stack:
        engines = []
        for number, spec in enumerate(specs):
            index = launch if launch < 0 else launch * len(specs) + number
            with _named(number, len(specs)), _on_slice(spec):
                engines.append(stack.enter_context(open_engine(spec, index)))
        yield ReplicaGroup(engines, base, facts)


@contextmanager
def _named(number: int, replicas: int) -> Iterator[None]:
    """An engine's error with the replica's label: which of several like engines (and logs) is meant."""
    try:
        yield
    except EngineError as error:
        if replicas == 1:
            raise
        raise type(error)(f"{label(number)} (of {replicas}, from 0): {error.args[0]}", error.log_tail) from error


@contextmanager
def _on_slice(spec: EngineSpec) -> Iterator[None]:
    """An error of an engine's start with the MIG slice that it was given, and why that may be its cause."""
    try:
        yield
    except EngineError as error:
        entry = dict(spec.env).get("CUDA_VISIBLE_DEVICES", "")
        if not entry.startswith("MIG-") or isinstance(error, EngineMissing):
            raise
        message, _, mend = error.args[0].partition("\n")
        hint = f"{message}\n  It was to run on the MIG slice {entry}."
        if spec.engine != "vllm":  # whose core is in a process where vllm_mig does not reach
            hint += (
                " A core of vLLM in a process of its own takes a slice's number for that of a GPU when it asks NVML about "
                "its device, and so may not start; engine 'vllm' does, and so does sharing='mps', with MIG switched off"
            )
        raise type(error)(hint + (f"\n{mend}" if mend else ""), error.log_tail) from error


def available_cores() -> list[int]:
    """Cores this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def _with_env(spec: EngineSpec, env: Mapping[str, str]) -> EngineSpec:
    return replace(spec, env=tuple(sorted((dict(spec.env) | dict(env)).items())))
