"""Resident engines: each (specification, launch) starts once in a session and is kept while memory allows."""

from __future__ import annotations

import itertools
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_slmperf.engines.base import START_TIMEOUT_S, Engine, EngineAdapter, Progress, budget_bytes
from pytest_slmperf.engines.device_lock import DEFAULT_TIMEOUT_S, DeviceLocks
from pytest_slmperf.engines.launch_host import LaunchHosts
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.engines.sharing.mps import MpsDaemons
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.model.engine_spec import EngineSpec

SETTLING = -1  # launch number of the engine that only settles the machine
DEFAULT_FOOTPRINT_BYTES = 2 * 2**30  # assumed for an engine whose adapter does not know its footprint


@dataclass(slots=True)
class _Resident:
    engine: Engine
    footprint: int
    device: str
    in_use: bool
    used: int  # running number of its last use


class EnginePool:
    """Provides engines, one resident process per (resolved specification, launch index).

    An engine is in use from ``acquire`` to ``release`` or ``release_all``; only idle engines are stopped to make room, the
    least recently used first.  A context manager; closed at the latest when this process ends.

    ``hosts``: the launch hosts of resident engines that can be forked; None: every launch is a process of its own.
    """

    hosts: LaunchHosts | None = None

    def __init__(
        self,
        registry: Registry,
        log_dir: Path,
        progress: Progress = lambda text: None,
        *,
        budgets: dict[str, int] | None = None,
        lock_timeout_s: float = DEFAULT_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
        before_start: Callable[[EngineSpec, EngineAdapter], None] = lambda spec, adapter: None,
    ) -> None:
        """``budgets``: bytes that the engines on a device may take together; by default ``budget_bytes`` of the device.

        ``before_start`` is called with specification and adapter right before an engine starts, while its device is held.
        """
        self._before_start = before_start
        self.registry = registry
        self.log_dir = log_dir
        self.progress = progress
        self.starts: dict[tuple[EngineSpec, int], int] = {}  # number of starts of each
        self._budgets = dict(budgets or {})
        self._lock_timeout_s = lock_timeout_s
        self._start_timeout_s = start_timeout_s
        self._residents: dict[tuple[EngineSpec, int], _Resident] = {}
        self._transient: dict[int, tuple[str, int]] = {}  # of fresh engines: id → device, footprint
        self._clock = itertools.count()
        self._serial = itertools.count(1)
        self._guard = threading.RLock()  # engines start one at a time
        self._closed = False
        self._locks = DeviceLocks()
        self.mps = MpsDaemons()
        self._finalizer = weakref.finalize(self, _stop_all, self._residents, self.mps)  # also when this process ends

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The specification with every default filled in, the key of the pool. InvalidInput for a wrong specification."""
        return self.adapter(spec).resolve(spec)

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        """The adapter of the specification's engine; InvalidInput for an unknown engine."""
        return self.registry.get(spec.engine)

    def acquire(self, spec: EngineSpec, launch: int = 0) -> Engine:
        """A READY engine of this specification, started now unless a living one is resident.

        Each ``launch`` index has its own process, all resident side by side.  Raises EngineError and InvalidInput.
        """
        resolved = self.resolve(spec)
        key = (resolved, launch)
        with self._guard:
            self._check_open()
            resident = self._residents.get(key)
            if resident is not None and not resident.engine.alive():
                resident.engine.stop()
                del self._residents[key]
                resident = None
            if resident is None:
                device, footprint = self._needs(resolved)
                self._make_room(device, footprint, resolved)
                engine = self._start(resolved, launch, self.hosts)
                resident = _Resident(engine, footprint, device, True, 0)
                self._residents[key] = resident
            resident.in_use = True
            resident.used = next(self._clock)
            resident.engine.resume()
            return resident.engine

    def release(self, engine: Engine) -> None:
        """Mark the engine as idle: it stays resident, and may be stopped when another engine needs its memory.

        It is paused until its next use: idle engines wake up every few milliseconds, and a handful of them took 7 % of the
        measured engine's core.
        """
        with self._guard:
            for resident in self._residents.values():
                if resident.engine is engine:
                    resident.in_use = False
                    engine.pause()

    def release_all(self) -> None:
        """Mark every engine as idle, at the end of a test."""
        with self._guard:
            for resident in self._residents.values():
                resident.in_use = False
                resident.engine.pause()

    @contextmanager
    def fresh(self, spec: EngineSpec, launch: int = 0) -> Iterator[Engine]:
        """A launch of its own, stopped at the end: for cold starts and confirmations."""
        resolved = self.resolve(spec)
        with self._guard:
            self._check_open()
            device, footprint = self._needs(resolved)
            self._make_room(device, footprint, resolved)
            engine = self._start(resolved, launch)
            self._transient[id(engine)] = (device, footprint)
        try:
            yield engine
        finally:
            with self._guard:
                self._transient.pop(id(engine), None)
            engine.stop()

    @contextmanager
    def measuring(self, spec: EngineSpec) -> Iterator[None]:
        """Hold the device of this specification, so that no other process on this machine measures on it.

        Re-entrant.  A simulated engine has no device and therefore no lock.
        """
        resolved = self.resolve(spec)
        if self.adapter(spec).traits.simulated:
            yield
            return
        with self._locks.of(resolved.device or "cpu").hold(self.progress, self._lock_timeout_s):
            yield

    def settle(self, spec: EngineSpec, *, paired: bool) -> None:
        """On a CPU, start an engine that is never measured, unless an engine has started already.

        That costs 2 s where launches are forked. Elsewhere it is done for a duet (``paired``) alone.

        On a CPU, the first engine of a session ran 3.3 % slower than the second, which started a moment later, in 39 of 40
        duets of unchanged code (two cores, vLLM); later engines do not differ by that much.  The unmeasured engine stays
        until its memory is needed.
        """
        resolved = self.resolve(spec)
        on_host = (resolved.device or "cpu") == "cpu" and not self.adapter(resolved).traits.simulated
        if on_host and not self.starts and (paired or self._forks(resolved)):
            self.release(self.acquire(resolved, SETTLING))

    def _forks(self, resolved: EngineSpec) -> bool:
        return self.hosts is not None and self.adapter(resolved).host_program(resolved) is not None

    @contextmanager
    def engine(self, spec: EngineSpec, launch: int) -> Iterator[Engine]:
        """The resident engine of ``launch`` while the block runs; for launch −1, a process that ends with the block."""
        if launch < 0:
            with self.fresh(spec) as engine:
                yield engine
            return
        engine = self.acquire(spec, launch)
        try:
            yield engine
        finally:
            self.release(engine)

    @property
    def import_s(self) -> float:
        """Seconds for which launches have waited so far while launch hosts imported their engine."""
        return 0.0 if self.hosts is None else self.hosts.import_s

    def import_ahead_s(self, launch: int) -> float:
        """Seconds that importing would add to that launch; 0 where its host is there, or nothing has been forked."""
        return 0.0 if self.hosts is None else self.hosts.expected_s(host_number(launch))

    def close(self) -> None:
        """Stop every engine and then their MPS daemons. Idempotent; afterwards no engine can be acquired."""
        with self._guard:
            self._closed = True
            _stop_all(self._residents, self.mps)
            if self.hosts is not None:
                self.hosts.stop()
            self._finalizer.detach()

    def hurry(self) -> None:
        """The session is interrupted: every engine ends now, without being asked. ``close`` follows."""
        for resident in list(self._residents.values()):
            resident.engine.hurry()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine pool is closed: the session is over")

    def _needs(self, resolved: EngineSpec) -> tuple[str, int]:
        """The device whose memory the engine takes, and the number of bytes."""
        footprint = self.adapter(resolved).footprint_bytes(resolved)
        return resolved.device or "cpu", DEFAULT_FOOTPRINT_BYTES if footprint is None else footprint

    def _make_room(self, device: str, footprint: int, resolved: EngineSpec) -> None:
        """Stop idle engines until the new engine fits; OutOfMemory if the engines in use leave too little room."""
        if device not in self._budgets:
            limit = budget_bytes(device)
            if limit is None:
                return
            self._budgets[device] = limit
        budget = self._budgets[device]
        while True:
            transient = sum(size for where, size in self._transient.values() if where == device)
            here = {key: r for key, r in self._residents.items() if r.device == device}
            taken = transient + sum(r.footprint for r in here.values())
            idle = [key for key, r in here.items() if not r.in_use or not r.engine.alive()]
            if taken + footprint <= budget or (taken == 0):
                return  # a single engine may try in spite of the estimate; it fails by itself if it does not fit
            if not idle:
                raise OutOfMemory(
                    f"no memory on {device} for one more engine ({resolved.engine}, {resolved.model}): it needs about "
                    f"{footprint / 2**30:.1f} GiB, engines in use hold {taken / 2**30:.1f} of {budget / 2**30:.1f} GiB. "
                    "Lower kv_cache_tokens, use a smaller model, or fewer launches side by side"
                )
            oldest = min(idle, key=lambda key: here[key].used)
            stopped = self._residents.pop(oldest).engine
            self.progress(f"stopping idle engine {stopped.spec.engine} ({stopped.spec.model}) to make room")
            stopped.stop()

    def _start(self, resolved: EngineSpec, launch: int, hosts: LaunchHosts | None = None) -> Engine:
        adapter = self.adapter(resolved)
        reason = adapter.missing(resolved.python)  # checked before waiting for the device
        if reason is not None:
            raise EngineMissing(f"engine {resolved.engine}: {reason}")
        count = self.starts[resolved, launch] = self.starts.get((resolved, launch), 0) + 1
        model = re.sub(r"[^A-Za-z0-9._-]+", "-", resolved.model)[-60:]
        log_path = self.log_dir / f"{next(self._serial):03d}-{resolved.engine}-{model}-launch{launch}.log"

        # Messages count from 1; a fresh engine (−1) is not a numbered launch of the test.
        which = f", launch {launch + 1}" if launch >= 0 else ""

        def progress(text: str) -> None:
            self.progress(f"engine {resolved.engine} ({resolved.model}){which}: {text}")

        with self.measuring(resolved):
            self._before_start(resolved, adapter)
            progress("starting" if count == 1 else "starting again")
            engine = self._forked(adapter, resolved, launch, hosts, log_path, progress)
            if engine is None:
                engine = adapter.launch(resolved, log_path=log_path, progress=progress, timeout_s=self._start_timeout_s)
        if adapter.traits.simulated:
            engine.facts["weights"] = "simulated"  # marks simulated figures in results, reports and baselines
        return engine

    def _forked(
        self,
        adapter: EngineAdapter,
        resolved: EngineSpec,
        launch: int,
        hosts: LaunchHosts | None,
        log_path: Path,
        progress: Progress,
    ) -> Engine | None:
        """The engine, forked from a launch host; None if it must start in a process of its own."""
        program = None if hosts is None else adapter.host_program(resolved)
        if hosts is None or program is None:
            return None
        host = hosts.of(program, host_number(max(launch, 0)), self._start_timeout_s)  # the settling launch is −1
        if host is None:
            return None
        try:
            return adapter.fork(resolved, host, log_path=log_path, progress=progress, timeout_s=self._start_timeout_s)
        except (EngineMissing, InvalidInput, OutOfMemory):
            raise  # a process of its own would fail too
        except EngineError as error:
            hosts.give_up(program, error)
            return None


def host_number(launch: int) -> int:
    """The number of a launch's host among the hosts of its program: 0, 1, 1, 0, 2, 3, 3, 2, 4, …

    The first two launches come from two hosts, and any three launches that confirm a suspicion include a new host.  Both
    sides of a pair share a host; their order alternates from pair to pair, so that each host serves both orders.
    """
    return launch // 4 * 2 + (0, 1, 1, 0)[launch % 4]


def _stop_all(residents: dict[tuple[EngineSpec, int], _Resident], mps: MpsDaemons) -> None:
    while residents:
        _, resident = residents.popitem()
        resident.engine.stop()
    mps.stop()


# The pool for scenarios.


class EngineSource:
    """Provides the engine of a launch while a block runs: ``with source(spec, launch) as engine``.

    Launch −1 is a process that ends with the block; any other launch is the resident engine of the pool.
    """

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool

    def __call__(self, spec: EngineSpec, launch: int) -> AbstractContextManager[Engine]:
        return self._pool.engine(spec, launch)

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        """The adapter of the specification's engine."""
        return self._pool.adapter(spec)

    @property
    def mps(self) -> MpsDaemons:
        """The session's MPS daemons."""
        return self._pool.mps
