"""The parent's handle of a launch host, which imports an engine once and forks a process for each launch."""

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_slmperf.engines.base import Progress
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError

HOST = Path(__file__).parent / "worker" / "host.py"
FORK_TIMEOUT_S = 30.0  # a fork of a process of a few GB takes milliseconds
PACKET = 1 << 20


@dataclass(frozen=True, slots=True)
class HostProgram:
    """What a launch host imports. Launches with equal programs may come from one host.

    worker_file:  the engine's side of the protocol, with a function ``prepare`` that imports the engine
    python:       interpreter; None: this one. ``flags``: its command-line flags
    env:          environment variables that the engine reads while it is imported; a launch may be given others beside them
    """

    worker_file: Path
    python: str | None = None
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


class HostFailed(EngineError):
    """The host could not be started, or could not fork: a launch in a process of its own may well succeed."""


class LaunchHost:
    """One host process. Forks for one thread at a time; its children are then driven by any thread."""

    def __init__(self, program: HostProgram, log_path: Path, name: str) -> None:
        """``name`` is what the launches' records know it by. Nothing runs until ``start``."""
        self.program = program
        self.log_path = log_path
        self.name = name
        self.spent: dict[str, float] = {}  # import_s, import_cpu_s
        self.pid: int | None = None
        self._marker = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._codes: dict[int, int] = {}
        self._guard = threading.RLock()

    def start(self, progress: Progress, timeout_s: float) -> None:
        """Start the process and wait until the engine is imported. HostFailed where it cannot fork; nothing is left then."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = {worker_tools.MARKER: self._marker, "PYTHONSAFEPATH": "1"}
        python = self.program.python or sys.executable
        command = [python, *self.program.flags, str(HOST), str(self.program.worker_file), str(theirs.fileno())]
        if threading.current_thread() is threading.main_thread():
            command += ["--with-parent", str(os.getpid())]
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(os.environ) | dict(self.program.env) | own,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise HostFailed(f"launch host: cannot run {python}: {error.strerror or error}") from error
        finally:
            theirs.close()
        self.pid, self._channel = self._process.pid, ours
        try:
            answer = self._answer(("ready", "unfit"), timeout_s, progress)
        except BaseException:
            self.stop()
            raise
        if "unfit" in answer:
            self.stop()
            raise HostFailed(f"no process can be forked: {answer['unfit']}")
        self.spent = answer["ready"]

    def alive(self) -> bool:
        """Whether it can still fork."""
        return self._process is not None and self._channel is not None and self._process.poll() is None

    def fork(self, env: Mapping[str, str], commands: int, events: int, log: int) -> ForkedProcess:
        """Fork a child with these variables beside the host's own; it gets the three descriptors. HostFailed otherwise."""
        with self._guard:
            if self._channel is None or not self.alive():
                raise HostFailed(f"launch host: it {self.end() or 'is stopped'}")
            order = json.dumps({"fork": {"env": dict(env)}}).encode()
            try:
                socket.send_fds(self._channel, [order], [commands, events, log])
            except OSError as error:
                raise HostFailed(f"launch host: it {self.end() or error.strerror}") from error
            try:
                answer = self._answer(("forked", "failed"), FORK_TIMEOUT_S)
            except BaseException:
                self.stop()  # a child that it may have forked ends with it
                raise
            if "failed" in answer:
                raise HostFailed(f"launch host: {answer['failed']}")
            return ForkedProcess(self, answer["forked"])

    def end(self) -> str | None:
        """How it ended, for messages; None while it runs."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"

    def code_of(self, pid: int) -> int | None:
        """Exit code of a child (negative: a signal), as ``subprocess`` has it; None where it is not known."""
        with self._guard, contextlib.suppress(HostFailed):
            deadline = time.monotonic() + 1.0
            while pid not in self._codes and self._channel is not None:
                if not self._take(deadline - time.monotonic()):
                    break
        return self._codes.get(pid)

    def reap(self, pid: int) -> None:
        """The parent sends this child no more signals: its number may be used again."""
        with self._guard, contextlib.suppress(OSError):
            if self._channel is not None:
                self._channel.send(json.dumps({"reap": pid}).encode())

    def stop(self) -> None:
        """End the host and with it its children. Idempotent."""
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

    def _answer(
        self, wanted: tuple[str, ...], timeout_s: float, progress: Progress = lambda text: None
    ) -> dict[str, Any]:
        """The next message with one of these keys. HostFailed where none comes in time, or the host ends."""
        began = time.monotonic()
        while (left := began + timeout_s - time.monotonic()) > 0:
            message = self._take(min(left, 1.0))
            if message is None:
                progress(f"importing the engine for all launches ({time.monotonic() - began:.0f} s)")
            elif any(key in message for key in wanted):
                return message
        raise HostFailed(f"launch host: no answer within {timeout_s:.0f} s; it hung and was killed", self._log_tail())

    def _take(self, timeout_s: float) -> dict[str, Any] | None:
        """One message from the host; None where none came in time. HostFailed at its end."""
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
        message: dict[str, Any] = json.loads(data)
        if "ended" in message:
            pid, code = message["ended"]
            self._codes[pid] = code
        return message

    def _log_tail(self) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])
        except OSError:
            return ""


class ForkedProcess:
    """A child of a host with what its parent's handle needs of a ``subprocess.Popen``."""

    def __init__(self, host: LaunchHost, pid: int) -> None:
        self.host = host
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit code, None while it runs. One whose code died with its host counts as killed."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            code = self.host.code_of(self.pid)
            self.returncode = -signal.SIGKILL if code is None else code
            os.close(self._descriptor)
            self._descriptor = -1
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code. ``subprocess.TimeoutExpired`` where it still runs after ``timeout`` seconds."""
        if self.returncode is None:
            select.select([self._descriptor], [], [], max(0.0, timeout))
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(["launch", str(self.pid)], timeout)
        return code

    def let_go(self) -> None:
        """No further signal will be sent to its number."""
        if self.poll() is not None:
            self.host.reap(self.pid)
