"""The parent's handle of one engine process: starts it, sends it commands, and ends all of its processes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_slmperf.engines import tuning
from pytest_slmperf.engines.base import START_TIMEOUT_S, Batch, Engine, EngineFacts, EngineState, Progress, RoundReading
from pytest_slmperf.engines.former_shape import start_timeout_of
from pytest_slmperf.engines.launch_host import (
    FORK_IDLE_S,
    FORK_TIMEOUT_S,
    ForkedProcess,
    HostFailed,
    LaunchHost,
    spawn,
)
from pytest_slmperf.engines.reading_gate import (
    check_facts,
    read_pid,
    read_report,
    read_round,
    read_seconds,
    required,
    take_start_time,
)
from pytest_slmperf.engines.stall import Stall
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import PlayReport
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.util import files, read_file
from pytest_slmperf.util.checks import stopped
from pytest_slmperf.util.framing import Decoder, WireError, pack, write_within

WORKER = Path(__file__).parent / "worker" / "main.py"
CALL_TIMEOUT_S = 600.0
CONTROL_S = 60.0  # for what takes an engine no time: its clock, its counters, emptying its caches
STOP_TIMEOUT_S = 3.0
GUARDIAN_S = 6.0  # time for an engine's guardian to end it
MOST_LOG = 8 * 2**20  # bytes of a log that earlier launches have left: the newer half is kept
COMMAND_S = 60.0  # time for a worker to read a command, which may contain many requests
OnEvent = Callable[[dict[str, Any]], None]


class EngineProcess(Engine):
    """One launch of an engine in a process (and session) of its own.

    An adapter creates it, calls ``start`` and returns it.  Only one thread at a time may use it; several engines may each
    have a thread.
    """

    state: EngineState = EngineState.STARTING

    def __init__(
        self,
        spec: EngineSpec,
        worker_file: Path,
        log_path: Path,
        *,
        python: str | None = None,
        python_flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        what: str = "",
    ) -> None:
        """``worker_file``: the engine's side of the protocol, which ``python`` (None: this interpreter) runs with ``env``
        and the specification's variables added to the environment. ``what``: the engine's name in messages."""
        self.spec = spec
        self.facts = EngineFacts()
        self.log_path: Path = log_path
        self.what = what or f"engine {spec.engine} ({spec.model})"
        self.pid: int | None = None
        self.marker = uuid.uuid4().hex
        self._command = [python or sys.executable, *python_flags, str(WORKER), str(worker_file)]
        # PYTHONSAFEPATH: the engine must not import files of the current folder that have the name of a module.
        self._env = dict(env or {}) | dict(spec.env) | {worker_tools.MARKER: self.marker, "PYTHONSAFEPATH": "1"}
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._paused = self._hurried = False
        self._log_start = 0
        self._commands = self._events = -1
        self._decoder = Decoder()
        self._number = 0

    # life cycle

    def start(
        self,
        params: Mapping[str, Any],
        progress: Progress = lambda text: None,
        timeout_s: float | None = None,
        host: LaunchHost | None = None,
    ) -> None:
        """Spawn, create the worker from ``params`` (its spec) and wait until the first request is served.

        ``host``: the launch host that forks the process; None: a process of its own.  EngineError with the log's tail if it
        fails, dies or takes longer than ``timeout_s``; all its processes are then ended.
        """
        longest = start_timeout_of(progress, START_TIMEOUT_S) if timeout_s is None else timeout_s
        try:
            self._start(params, progress, longest, host)
        except BaseException:
            self.stop()
            raise

    def _start(
        self, params: Mapping[str, Any], progress: Progress, timeout_s: float, host: LaunchHost | None = None
    ) -> None:
        deadline = time.monotonic() + timeout_s
        spawned = self._spawn(host)
        stall = None if host is None or self.pid is None else Stall(self.pid, self.marker, FORK_IDLE_S)
        began = time.monotonic()
        phase = "starting"

        def show(event: dict[str, Any]) -> None:
            nonlocal phase
            phase = str(event.get("progress", phase))
            progress(phase)

        def tick() -> None:
            progress(f"{phase} ({time.monotonic() - began:.0f} s)")
            if stall is not None:
                stall.check()

        shortest = timeout_s if host is None else min(timeout_s, FORK_TIMEOUT_S)  # the import is already done
        cpus = list(self.spec.cpus or ())
        created = self.call("create", {"spec": dict(params), "cpus": cpus}, shortest, on_event=show)
        self.pid = read_pid(created, self.pid)  # of the engine itself; until now that of its guardian
        facts = self.call("start", {}, max(1.0, deadline - time.monotonic()), on_event=show, on_tick=tick)
        check_facts(facts)
        self.start_time_s = take_start_time(facts, spawned)
        forked = {} if host is None else {"started": "forked from a host"}
        environment = tuning.variables(dict(os.environ) | self._env)
        self.facts = EngineFacts(facts | {"pid": self.pid, "environment": environment} | forked)
        self.state = EngineState.READY

    def _spawn(self, host: LaunchHost | None) -> float:
        command_read, self._commands = os.pipe()
        self._events, event_write = os.pipe()
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            files.shorten(self.log_path, MOST_LOG)
            with self.log_path.open("ab") as log:
                self._log_start = log.tell()  # the file may hold an earlier session's lines
                spawned = time.monotonic()
                if host is None:
                    command = [*self._command, str(command_read), str(event_write)]
                    self._process = spawn(command, self._env, log, (command_read, event_write))
                else:
                    self._process = host.fork(self._env, command_read, event_write, log.fileno())
                    self.host = host.name
        except OSError as error:
            self._end(EngineState.FAILED)
            raise EngineMissing(f"{self.what}: cannot run {self._command[0]}: {error.strerror or error}") from error
        except HostFailed:
            self._end(EngineState.FAILED)
            raise
        finally:
            os.close(command_read)
            os.close(event_write)
        self.pid = self._process.pid
        return spawned

    def pause(self) -> None:
        """Suspend the engine's processes (SIGSTOP), which keep memory and connections. Idempotent."""
        self._paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused engine run again. Idempotent; does not resume an engine that another process has suspended."""
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def stop(self) -> None:
        """End the engine and all that it started. Idempotent; a FAILED engine stays FAILED."""
        if self.state in (EngineState.READY, EngineState.STARTING) and self._process is not None:
            try:
                if not self._hurried:
                    self._send("stop", {})
                self._process.wait(STOP_TIMEOUT_S)
            except (OSError, subprocess.TimeoutExpired):
                pass  # killed below
            self._end(EngineState.STOPPED)
        elif self.state is not EngineState.FAILED:
            self.state = EngineState.STOPPED

    def hurry(self) -> None:
        """Have the guardian kill the engine at once."""
        process = self._process
        if process is not None and process.poll() is None:
            self._hurried = True
            os.kill(process.pid, signal.SIGTERM)

    def _end(self, state: EngineState) -> None:
        """Kill all living processes of this engine, wait for their end, close the pipes."""
        process = self._process
        if process is not None:
            # The guardian ends all processes, including those that left the group or lost the marker, and then itself.
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GUARDIAN_S)
            self._end_without_guardian(process)
        for fd in (self._commands, self._events):
            if fd >= 0:
                os.close(fd)
        self._commands = self._events = -1
        self.state = state

    def _end_without_guardian(self, process: subprocess.Popen[bytes] | ForkedProcess) -> None:
        """Kill all processes with the engine's marker or in its group, because the guardian was killed or is stopped."""
        for _ in range(100):  # a process may start another before it is killed
            worker_tools.kill_marked(self.marker)
            # The group too, even without its leader: vLLM's processes rename themselves, which erases the environment
            # with the marker.
            groups = [worker_tools.kill_group(pid) for pid in {process.pid, self.pid or process.pid}]
            if not any(groups) and process.poll() is not None and not worker_tools.marked(self.marker):
                return
            process.poll()
            time.sleep(0.02)

    def alive(self) -> bool:
        """Whether the engine is READY and its process still runs."""
        return self.state is EngineState.READY and self._process is not None and self._process.poll() is None

    # the work

    def generate(self, work: Batch, timeout_s: float | None = None, start_at: float | None = None) -> RoundReading:
        """Run one round in the worker's ``generate``."""
        params: dict[str, Any] = asdict(work)
        if start_at is not None:
            params["start_at"] = start_at
        return read_round(self.call("generate", params, timeout_s))

    def play(self, load: LoadPlan, timeout_s: float) -> PlayReport:
        """Play a load in the worker's ``play``."""
        return read_report(self.call("play", {"plan": load.for_worker()}, timeout_s))

    def clock(self) -> float:
        """The worker's virtual clock if it has one, else CLOCK_MONOTONIC."""
        now = read_seconds(self.call("clock", {}, CONTROL_S), "now") if self.facts.virtual_clock else time.monotonic()
        return required(now, "clock", "now")

    def reset_caches(self) -> None:
        """Empty the prefix cache by the worker's ``reset_caches``."""
        self.call("reset_caches", {}, CONTROL_S)

    def counters(self) -> dict[str, Any]:
        """The engine's own counters since its start, by its own names."""
        return self.call("counters", {}, CONTROL_S)

    def call(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout_s: float | None = None,
        *,
        on_event: OnEvent | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Call any operation of the adapter's worker and return its result (a JSON object).

        ``on_event`` receives the worker's events during the call; ``on_tick`` is called about once a second.
        EngineError if the operation fails, the engine dies, or takes longer than ``timeout_s``: the engine is then FAILED,
        and all its processes are ended.  InvalidInput if the worker refuses the arguments; the engine stays READY.
        """
        if self.state in (EngineState.FAILED, EngineState.STOPPED):
            raise EngineError(f"{self.what}: is {self.state.value}; ask the pool for it again", self.log_tail())
        timeout = CALL_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            self._send(method, params)
            answer = self._receive(method, timeout, on_event, on_tick)
        except TimeoutError:
            raise self._hung(method, COMMAND_S) from None
        except (OSError, WireError) as error:
            raise self._died(method, str(error)) from error
        except BaseException:
            # Interrupted: the worker still runs a call whose answer will not be read.
            self._end(EngineState.FAILED)
            raise
        if answer.get("ok"):
            result = answer.get("result")
            return result if isinstance(result, dict) else {"value": result}
        why = answer.get("error")
        raise self._refused(method, why if isinstance(why, dict) else {})

    def _send(self, method: str, params: Mapping[str, Any]) -> None:
        self.resume()  # a paused engine would not answer
        self._number += 1
        message = pack({"id": self._number, "call": method, "params": dict(params)})
        write_within(self._commands, message, STOP_TIMEOUT_S if method == "stop" else COMMAND_S)

    def _receive(
        self, method: str, timeout: float, on_event: OnEvent | None, on_tick: Callable[[], None] | None
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            while True:
                message = self._decoder.next()
                if message is not None:
                    if message.get("id") != self._number:
                        continue  # an event of an earlier call
                    if "event" not in message:
                        return message
                    if not isinstance(message["event"], dict):
                        raise WireError("an event that is no object")
                    if on_event is not None:
                        on_event(message["event"])
                    continue
                left = deadline - time.monotonic()
                # An answer may have come in time while this process was suspended (Ctrl-Z, a laptop's lid).
                if selector.select(max(0.0, min(left, 1.0))):
                    chunk = os.read(self._events, 1 << 18)
                    if not chunk:
                        raise self._died(method)
                    self._decoder.feed(chunk)
                elif left <= 0:
                    raise self._hung(method, timeout)
                elif on_tick is not None:
                    on_tick()

    # failures

    def _hung(self, method: str, timeout: float) -> EngineError:
        assert self._process is not None
        how = "was stopped (SIGSTOP)" if stopped(self.pid or self._process.pid) else "hung"
        try:
            # The guardian forwards the signal, and the engine writes the stacks of all threads to the log.
            os.kill(self._process.pid, signal.SIGUSR1)
            self._process.wait(0.3)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self._end(EngineState.FAILED)
        doing = "to start" if method in ("create", "start") else f"in {method!r}"
        mend = "\n  If it only needs longer, raise --slmperf-start-timeout." if doing == "to start" else ""
        return EngineError(
            f"{self.what}: no answer {doing} within {round(timeout, 1):g} s; it {how} and was killed{mend}",
            self.log_tail(),
        )

    def _died(self, method: str, detail: str = "") -> EngineError:
        assert self._process is not None
        try:
            code: int | None = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = None
        self._end(EngineState.FAILED)
        if code is None:
            how = f"its protocol pipe broke ({detail})" if detail else "it closed its protocol pipe"
        elif isinstance(self._process, ForkedProcess) and (end := self._process.host.end()):
            how = f"ended with its launch host, which {end},"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (by hand, or by the kernel because memory ran out: see dmesg; a smaller kv_cache_tokens helps)"
        else:
            how = f"ended with exit status {code}"
        when = "while it started" if method in ("create", "start") else f"in {method!r}"
        return EngineError(f"{self.what}: {how} {when}", self.log_tail())

    def _refused(self, method: str, error: Mapping[str, Any]) -> Exception:
        kind, mend = error.get("kind"), error.get("mend")
        text = f"{self.what}: {error.get('message', 'failed')}" + (f"\n  {mend}" if mend else "")
        if kind != "input" or method in ("create", "start"):
            self._end(EngineState.FAILED)  # after a fault of the engine, a further measurement would not be reliable
        if kind == "missing":
            return EngineMissing(text, "" if mend else self.log_tail())
        if kind == "input":
            return InvalidInput(text)
        tail = self.log_tail()
        # An engine with its core in another process reports only the end of the core; the cause is in the log.
        if kind == "memory" or "out of memory" in tail.lower():
            return OutOfMemory(text, tail)
        return EngineError(text, tail)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the engine's output, at most 16 KiB of them."""
        return read_file.tail(self.log_path, lines, self._log_start)
