"""The parent's handles of launch hosts, each of which imports an engine once and forks a process for each launch."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pytest_slmperf import text_out
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError
from pytest_slmperf.metrics.plausible import finite, shown, whole
from pytest_slmperf.util import read_file
from pytest_slmperf.util.framing import WireError, decode

HOST = Path(__file__).parent / "worker" / "host.py"
FIRST_HOSTS = (0, 1)  # of the two launches that every verdict needs at least; with two cores they import side by side
FORK_TIMEOUT_S = 30.0  # a fork of a process of a few GB takes milliseconds
FORK_IDLE_S = 60.0  # a starting launch without processor use for this time waits for a lock that the fork left locked
PACKET = 1 << 20
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HostProgram:
    """The program of a launch host. Launches with equal programs may share a host.

    worker_file:  the engine's side of the protocol, with a function ``prepare`` that imports the engine
    python:       interpreter; None: this one. ``flags``: its command-line flags
    env:          environment variables that the engine reads at import; a launch may have further variables
    """

    worker_file: Path
    python: str | None = None
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


class HostFailed(EngineError):
    """The host did not start or could not fork. A launch in a process of its own may still succeed."""


def spawn(
    command: list[str], env: Mapping[str, str], log: BinaryIO, inherited: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start a program of the folder ``worker`` in a session of its own, with ``env`` added to the environment."""
    if threading.current_thread() is threading.main_thread():
        # The kernel sends its signal at the end of the spawning *thread*, which must therefore be the main thread.
        command = [*command, "--with-parent", str(os.getpid())]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=dict(os.environ) | dict(env),
        pass_fds=inherited,
        start_new_session=True,
    )


class LaunchHost:
    """One host process. One thread at a time may call ``fork``; any thread may use the forked children."""

    def __init__(self, program: HostProgram, log_path: Path, tell: Tell = lambda text: None) -> None:
        """Nothing runs until ``start``. ``name``: the host's name in the records of its launches; ``tell``: receives
        messages about its launches that the user should see at the end too.
        """
        self.program = program
        self.tell = tell
        self.log_path = log_path
        self.spent: dict[str, float] = {}  # import_s, import_cpu_s
        self.pid: int | None = None
        self._marker = uuid.uuid4().hex
        self.name = self._marker[:12]
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._codes: dict[int, int] = {}
        self._guard = threading.RLock()

    def start(self, progress: Tell, timeout_s: float) -> None:
        """Start the process and wait until the engine is imported. HostFailed, with the process ended, if it cannot fork."""
        self.begin()
        self.await_import(progress, timeout_s)

    def begin(self) -> None:
        """Start the process, which begins to import the engine. HostFailed if it cannot be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = {worker_tools.MARKER: self._marker, "PYTHONSAFEPATH": "1"}
        python = self.program.python or sys.executable
        command = [python, *self.program.flags, str(HOST), str(self.program.worker_file), str(theirs.fileno())]
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._process = spawn(command, dict(self.program.env) | own, log, (theirs.fileno(),))
        except OSError as error:
            ours.close()
            raise HostFailed(f"launch host: cannot run {python}: {error.strerror or error}") from error
        finally:
            theirs.close()
        self.pid, self._channel = self._process.pid, ours

    def await_import(self, progress: Tell, timeout_s: float) -> None:
        """Wait until the engine is imported. HostFailed, with the process ended, if it cannot fork."""
        try:
            self.spent = self._ready(timeout_s, progress)
        except BaseException:
            self.stop()
            raise

    def alive(self) -> bool:
        """Whether the host can still fork."""
        return self._process is not None and self._channel is not None and self._process.poll() is None

    def fork(self, env: Mapping[str, str], commands: int, events: int, log: int) -> ForkedProcess:
        """Fork a child with this process's variables and ``env``, in its folder, and with these descriptors.

        HostFailed if that fails.
        """
        with self._guard:
            if self._channel is None or not self.alive():
                raise HostFailed(f"launch host: it {self.end() or 'is stopped'}")
            try:
                here = {"env": dict(os.environ) | dict(env), "cwd": os.getcwd()}
                order = json.dumps({"fork": here}).encode()
                socket.send_fds(self._channel, [order], [commands, events, log])
            except OSError as error:
                raise HostFailed(f"launch host: it {self.end() or error.strerror}") from error
            try:
                answer = self._forked(FORK_TIMEOUT_S)
            except BaseException:
                self.stop()  # ends a child that it may have forked
                raise
            if isinstance(answer, str):
                raise HostFailed(f"launch host: {answer}")
            return ForkedProcess(self, answer)

    def end(self) -> str | None:
        """How the host ended, for messages; None while it runs."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"

    def code_of(self, pid: int) -> int | None:
        """Exit code of a child (negative: a signal), as in ``subprocess``; None if it is unknown."""
        with self._guard, contextlib.suppress(HostFailed):
            deadline = time.monotonic() + 1.0
            while pid not in self._codes and self._channel is not None:
                if not self._take(deadline - time.monotonic()):
                    break
        return self._codes.get(pid)

    def reap(self, pid: int) -> None:
        """Acknowledge the end of a child, whose process id may be reused from now on."""
        with self._guard, contextlib.suppress(OSError):
            if self._channel is not None:
                self._channel.send(json.dumps({"reap": pid}).encode())
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # as a subreaper, this process inherits the children of a dead host

    def stop(self) -> None:
        """End the host and its children. Idempotent."""
        with self._guard:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        process = self._process
        if process is None:
            return
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            pass  # killed below
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        worker_tools.kill_marked(self._marker)
        process.wait()

    def _ready(self, timeout_s: float, progress: Tell = lambda text: None) -> dict[str, float]:
        """What the import took, once the host can fork. HostFailed if it cannot."""
        answer = self._answer(("ready", "unfit"), timeout_s, progress)
        if "unfit" in answer:
            raise HostFailed(f"no process can be forked: {_line(answer['unfit'])}")
        spent = answer["ready"]
        if not isinstance(spent, dict) or finite(spent.get("import_s")) or any(map(finite, spent.values())):
            raise HostFailed(f"launch host: it said {_line(spent)} of its import, which is no time", self._log_tail())
        return spent

    def _forked(self, timeout_s: float) -> int | str:
        """The process id of the child that was ordered, or why there is none. HostFailed without an answer."""
        answer = self._answer(("forked", "failed"), timeout_s)
        if "failed" in answer:
            return _line(answer["failed"])
        if not _is_pid(pid := answer["forked"]):
            raise HostFailed(f"launch host: it forked {_line(pid)}, which is no process", self._log_tail())
        return int(pid)

    def _answer(self, wanted: tuple[str, ...], timeout_s: float, progress: Tell = lambda text: None) -> dict[str, Any]:
        """The next message with one of these keys. HostFailed if none comes in time, or if the host ends."""
        began = time.monotonic()
        while (left := began + timeout_s - time.monotonic()) > 0:
            message = self._take(min(left, 1.0))
            if message is None:
                progress(f"importing the engine for all launches ({time.monotonic() - began:.0f} s)")
            elif any(key in message for key in wanted):
                return message
        raise HostFailed(f"launch host: no answer within {timeout_s:.0f} s; it hung and was killed", self._log_tail())

    def _take(self, timeout_s: float) -> dict[str, Any] | None:
        """One message from the host; None if none came in time. HostFailed at the host's end."""
        assert self._channel is not None
        if not select.select([self._channel], [], [], max(0.0, timeout_s))[0]:
            return None
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._channel.recv(PACKET)
        if not data:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
            raise HostFailed(f"launch host: it {self.end() or 'closed its channel'}", self._log_tail())
        try:
            message = decode(data)
            if "ended" in message:
                pid, code = message["ended"]
                if not _is_pid(pid) or whole(abs(code), 255):
                    raise ValueError(pid, code)
                self._codes[pid] = code
        except (WireError, TypeError, ValueError):
            raise HostFailed(f"launch host: it sent {shown(data)}, which is no message", self._log_tail()) from None
        return message

    def _log_tail(self) -> str:
        return read_file.tail(self.log_path)


def _is_pid(value: object) -> bool:
    return whole(value, 2**22) is None and value != 0  # the kernel's largest


def _line(value: object) -> str:
    """What a host said, in one line."""
    return text_out.shortened(text_out.printable(str(value)), 400)


class ForkedProcess:
    """A child of a host, with the part of ``subprocess.Popen``'s interface that ``EngineProcess`` needs."""

    def __init__(self, host: LaunchHost, pid: int) -> None:
        self.host = host
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit code, None while the child runs. After an exit code, the process id may be reused. A child without its
        host counts as killed."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            code = self.host.code_of(self.pid)
            self.returncode = -signal.SIGKILL if code is None else code
            os.close(self._descriptor)
            self._descriptor = -1
            self.host.reap(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code. ``subprocess.TimeoutExpired`` if the child still runs after ``timeout`` seconds."""
        if self.returncode is None:
            select.select([self._descriptor], [], [], max(0.0, timeout))
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(["launch", str(self.pid)], timeout)
        return code


class LaunchHosts:
    """The hosts of a session: for each program, by number, the hosts among which its launches alternate."""

    def __init__(self, log_dir: Path, progress: Tell = lambda text: None, tell: Tell = lambda text: None) -> None:
        """``tell`` receives messages that the user should see at the end too: why launches were not forked."""
        self._log_dir = log_dir
        self._progress = progress
        self._notes, self._said = tell, set[str]()
        self._hosts: dict[tuple[HostProgram, int], LaunchHost] = {}
        self._started = 0
        self.import_s = 0.0  # during which this session has waited for hosts to import their engine
        self._given_up: set[HostProgram] = set()
        self._finalizer = weakref.finalize(self, _stop_all, self._hosts)  # also when this process ends

    def of(self, program: HostProgram, number: int, timeout_s: float) -> LaunchHost | None:
        """The host of this ``number``, started at its first use; None if launches of this program cannot be forked."""
        if program in self._given_up:
            return None
        started = in_this_environment(program)
        host = self._hosts.get((started, number))
        if host is not None and host.alive():
            return host
        if host is not None:
            self._tell(f"launch host {host.name} {host.end() or 'has ended'}; a new one takes its place")
            host.stop()
        numbers = [number]
        if number in FIRST_HOSTS and len(os.sched_getaffinity(0)) > 1:
            numbers = [first for first in FIRST_HOSTS if first == number or (started, first) not in self._hosts]
        try:
            self._start(started, numbers, timeout_s)
        except HostFailed as error:
            self.give_up(program, error)
            return None
        return self._hosts[started, number]

    def _start(self, started: HostProgram, numbers: Sequence[int], timeout_s: float) -> None:
        """Start these hosts, which import the engine side by side. HostFailed, and none is kept, if one cannot fork."""
        began = time.monotonic()
        hosts: dict[int, LaunchHost] = {}
        try:
            for number in numbers:
                self._started += 1
                log_path = self._log_dir / f"host{self._started}-{started.worker_file.parent.name}.log"
                hosts[number] = LaunchHost(started, log_path, self._tell)
                hosts[number].begin()
            for host in hosts.values():
                host.await_import(self._progress, timeout_s)
        except BaseException:
            for host in hosts.values():
                host.stop()
            raise
        self._hosts |= {(started, number): host for number, host in hosts.items()}
        self.import_s += time.monotonic() - began

    def give_up(self, program: HostProgram, error: EngineError) -> None:
        """Start further launches of this program in processes of their own, because of ``error``."""
        if program not in self._given_up:
            self._given_up.add(program)
            first = str(error).splitlines()[0]
            self._tell(f"launches are not forked, each starts in a process of its own: {first}")

    def _tell(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notes(text)

    def spent(self) -> list[dict[str, float]]:
        """The seconds of each host's import: ``import_s`` and ``import_cpu_s``."""
        return [dict(host.spent) for host in self._hosts.values()]

    def expected_s(self, number: int) -> float:
        """Seconds that imports would take for a launch of the hosts of that number, by those so far."""
        if any(started == number for _, started in self._hosts):
            return 0.0
        last = max((started for _, started in self._hosts), default=-1)
        return sum(host.spent["import_s"] for (_, started), host in self._hosts.items() if started == last)

    def stop(self) -> None:
        """End every host and the remaining processes of its launches. Idempotent."""
        _stop_all(self._hosts)


def in_this_environment(program: HostProgram) -> HostProgram:
    """The program with all variables of this process: a host started under other ones has imported another engine."""
    # pytest's own variables change with each test, and say nothing to an engine
    here = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return replace(program, env=tuple(sorted((here | dict(program.env)).items())))


def _stop_all(hosts: dict[tuple[HostProgram, int], LaunchHost]) -> None:
    while hosts:
        hosts.popitem()[1].stop()
