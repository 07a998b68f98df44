"""Several engines of one specification on one device, driven as one: they start one by one and begin rounds together."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_slmperf.devices.selection import TooFewSlices, lasting_entry, mig_slices
from pytest_slmperf.engines.base import Batch, Engine, EngineFacts, EngineLaunch, EngineState, RoundReading
from pytest_slmperf.engines.reading_gate import checked_round
from pytest_slmperf.engines.sharing.mps import MpsDaemons
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

Sharing = Literal["time-slice", "mps", "mig"]
SHARINGS: tuple[Sharing, ...] = ("time-slice", "mps", "mig")
# Time from the call to the common start: long enough for every worker to read its call, and short enough for a meter to
# read successive rounds as one window.
BARRIER_S = 0.01
OpenEngine = Callable[[EngineSpec, int], AbstractContextManager[Engine]]


@dataclass(frozen=True, slots=True)
class Cores:
    """Host cores per replica. ``contention``: a sentence about cores that replicas share; None if each has its own."""

    each: tuple[tuple[int, ...], ...]
    contention: str | None = None


def share_cores(cores: Sequence[int], replicas: int) -> Cores:
    """Disjoint cores for each replica. The first core is left to the test process if there are enough.

    With too few cores, replicas first take that core too, and then share cores (see ``Cores.contention``).
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
    base: EngineSpec, replicas: int, sharing: Sharing, *, cores: Cores | None, mps: MpsDaemons
) -> list[EngineSpec]:
    """The specification of each replica, with its pinned cores and its access to the device.

    Raises InvalidInput (too few MIG slices, a sharing mode that the device lacks) and EngineMissing (no MPS).
    """
    specs = [base] * replicas if cores is None else [replace(base, cpus=own) for own in cores.each]
    device = base.device or "cpu"
    if device.startswith("cpu") or sharing == "time-slice" or (replicas == 1 and sharing == "mps"):
        return specs
    if sharing == "mps":
        daemon = mps.shared(lasting_entry(device))
        return [_with_env(spec, daemon.environment) for spec in specs]
    slices = mig_slices(device)
    if len(slices) < replicas:
        raise TooFewSlices(
            f"sharing='mig' with {replicas} replicas needs as many MIG slices, and {device} has {len(slices)}; "
            "make them with nvidia-smi mig -cgi … -C, or use sharing='mps'"
        )
    return [_with_env(spec, {"CUDA_VISIBLE_DEVICES": part.uuid}) for spec, part in zip(specs, slices, strict=False)]


def label(number: int) -> str:
    """The name of a replica in metrics, logs and messages; numbers start at 0, as in stored baselines."""
    return f"replica {number}"


class ReplicaGroup(EngineLaunch):
    """K running engines as one launch.

    ``start_time_s``: seconds to start all of them one after the other; None if a replica reports none.
    """

    def __init__(self, engines: Sequence[Engine], spec: EngineSpec, facts: Mapping[str, Any]) -> None:
        self.engines = list(engines)
        self.spec = spec
        self.log_path = engines[0].log_path
        self.host = "+".join(dict.fromkeys(engine.host for engine in engines if engine.host)) or None
        self.facts = EngineFacts(
            dict(engines[0].facts)
            | {"replicas": len(engines), "pids": [engine.facts.get("pid") for engine in engines], **facts}
        )

    @property
    def state(self) -> EngineState:
        """READY if every replica is READY, else the state of the first other replica."""
        return next(
            (engine.state for engine in self.engines if engine.state is not EngineState.READY), EngineState.READY
        )

    @property
    def start_time_s(self) -> float | None:  # type: ignore[override]  # a sum, not a value of its own
        times = [engine.start_time_s for engine in self.engines]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None

    def generate_all(self, works: Sequence[Batch], timeout_s: float | None = None) -> list[RoundReading]:
        """Run one piece of work on each replica, with a common start. A replica without requests is idle.

        EngineError of the first replica that failed, after all have ended.
        """
        busy = [(number, work) for number, work in enumerate(works) if work.batch > 0]
        start_at = self._common_start([number for number, _ in busy])
        with ThreadPoolExecutor(len(busy)) as threads:
            futures = [threads.submit(self._drive, number, work, timeout_s, start_at) for number, work in busy]
        return [future.result() for future in futures]

    def generate_queue(self, works: Sequence[Batch], timeout_s: float | None = None) -> list[list[RoundReading]]:
        """Run each piece of work on the next free replica, with a common start; readings per replica.

        On virtual clocks, the next free replica is the one with the earliest time.
        """
        start_at = self._common_start(range(len(self.engines)))
        readings: list[list[RoundReading]] = [[] for _ in self.engines]
        if self.facts.virtual_clock:
            for work in works:
                number = min(range(len(readings)), key=lambda k: readings[k][-1].t_end if readings[k] else 0.0)
                readings[number].append(self._drive(number, work, timeout_s, start_at))
            return readings
        queue = deque(works)

        def drive(number: int) -> None:
            while True:
                try:
                    work = queue.popleft()  # atomic: no lock needed
                except IndexError:
                    return
                readings[number].append(self._drive(number, work, timeout_s, start_at))

        with ThreadPoolExecutor(len(self.engines)) as threads:
            futures = [threads.submit(drive, number) for number in range(len(self.engines))]
        for future in futures:
            future.result()
        return readings

    def _common_start(self, numbers: Sequence[int]) -> float:
        """A moment at which all these replicas can begin a round.

        Virtual clocks differ, since each advances with its replica's rounds, in this group or another: the replicas start
        at the latest of them.
        """
        start_at = time.monotonic() + (BARRIER_S if len(numbers) > 1 else 0.0)
        if not self.facts.virtual_clock:
            return start_at
        return max(start_at, *(self._clock_of(number) for number in numbers))

    def _clock_of(self, number: int) -> float:
        with _named(number, len(self.engines)):
            return self.engines[number].clock()

    def _drive(self, number: int, work: Batch, timeout_s: float | None, start_at: float) -> RoundReading:
        with _named(number, len(self.engines)):
            return checked_round(self.engines[number], work, timeout_s, start_at=start_at)

    def reset_caches(self) -> None:
        """Empty every replica's prefix cache."""
        for engine in self.engines:
            engine.reset_caches()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of each replica's log, with its number."""
        parts = [f"{label(number)}: {engine.log_tail(lines)}" for number, engine in enumerate(self.engines)]
        return "\n".join(part for part in parts if not part.endswith(": "))

    def stop(self) -> None:
        """End every replica."""
        for engine in self.engines:
            engine.stop()


@contextmanager
def open_replicas(
    specs: Sequence[EngineSpec],
    base: EngineSpec,
    launch: int,
    open_engine: OpenEngine,
    facts: Mapping[str, Any],
    *,
    mig_hint: str = "",
) -> Iterator[ReplicaGroup]:
    """Start (or take from the pool) one engine per specification, one after the other: an engine that profiles its memory
    would include the memory of another that starts at the same time. ``mig_hint``: see ``EngineTraits``."""
    with ExitStack() as stack:
        engines = []
        for number, spec in enumerate(specs):
            index = launch if launch < 0 else launch * len(specs) + number
            with _named(number, len(specs)), _on_slice(spec, mig_hint):
                engines.append(stack.enter_context(open_engine(spec, index)))
        yield ReplicaGroup(engines, base, facts)


@contextmanager
def _named(number: int, replicas: int) -> Iterator[None]:
    """Prefix an engine's error with the replica's label."""
    try:
        yield
    except EngineError as error:
        if replicas == 1:
            raise
        raise type(error)(f"{label(number)} (of {replicas}, from 0): {error.args[0]}", error.log_tail) from error


@contextmanager
def _on_slice(spec: EngineSpec, hint: str) -> Iterator[None]:
    """Add the engine's MIG slice to an error of its start, and ``hint``, why the slice may be the cause."""
    try:
        yield
    except EngineError as error:
        entry = dict(spec.env).get("CUDA_VISIBLE_DEVICES", "")
        if not entry.startswith("MIG-") or isinstance(error, EngineMissing):
            raise
        message, _, fix = error.args[0].partition("\n")
        text = f"{message}\n  It was to run on the MIG slice {entry}.{hint}"
        raise type(error)(text + (f"\n{fix}" if fix else ""), error.log_tail) from error


def available_cores() -> list[int]:
    """Cores this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def _with_env(spec: EngineSpec, env: Mapping[str, str]) -> EngineSpec:
    return replace(spec, env=tuple(sorted((dict(spec.env) | dict(env)).items())))
