"""The parent's side: starts the client processes, sends each its slice and the start time, joins their reports."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import EngineError
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import LoadSums, records_of
from pytest_slmperf.load.samples import Outcome, Requests
from pytest_slmperf.util.checks import stopped
from pytest_slmperf.util.framing import Decoder, WireError, pack, read_message, write_within

FRAME_BYTES = 8 * 2**20
START_S = 60.0  # time for a client process to be ready
REPORT_S = 300.0  # for reading the kept bytes after the load
SILENT_S = 60.0  # longest silence of a client, which reports once a second while it plays and reads
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pytest_slmperf.load.http.client import main; "
    "sys.exit(main(int(sys.argv[2])))"
)


class LoadClient:
    """One client process and the thread that reads its frames."""

    def __init__(self, number: int, inbox: queue.Queue[tuple[int, Any]]) -> None:
        root = str(Path(__file__).parents[3])
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _PROGRAM, root, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(number, inbox), daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int, inbox: queue.Queue[tuple[int, Any]]) -> None:
        assert self.process.stdout is not None
        decoder = Decoder()
        try:
            while (message := read_message(self.process.stdout.fileno(), decoder)) is not None:
                inbox.put((number, message))
        except (WireError, OSError, ValueError) as error:
            inbox.put((number, {"type": "broken", "text": str(error)}))
        inbox.put((number, {"type": "ended"}))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.decode("utf-8", "replace").rstrip())
            del self.errors[:-20]

    def give(self, load: LoadPlan, target: Target) -> None:
        """Send the client its slice: first the settings, then the requests in frames of a moderate size."""
        requests = load.requests
        self.send({"target": asdict(target), "load": load.to_wire(), "requests": len(requests)})
        begin = size = 0
        for end, request in enumerate(requests, 1):
            size += len(request.body)
            if size >= FRAME_BYTES or end == len(requests):
                self.send({"requests": requests[begin:end]})
                begin, size = end, 0

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            write_within(self.process.stdin.fileno(), pack(message), START_S)
        except TimeoutError:
            raise EngineError("a load client hung while it was given its work", "\n".join(self.errors)) from None
        except OSError as error:
            raise EngineError("a load client ended before it was given its work", "\n".join(self.errors)) from error

    def stop(self) -> None:
        """Kill the client and all that it started."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass


def drive(
    target: Target,
    load: LoadPlan,
    progress: Callable[[str], None] | None = None,
    on_start: Callable[[float], None] | None = None,
) -> Outcome:
    """Play ``load`` against ``target`` and return every request's times and the sums over all tokens.

    ``on_start`` is called with the start time (CLOCK_MONOTONIC seconds) just before the start.  EngineError if a client
    process dies or hangs; failed requests are part of the outcome.
    """
    target.check()
    inbox: queue.Queue[tuple[int, Any]] = queue.Queue()
    clients: list[LoadClient] = []
    try:
        for number, part in enumerate(load.slices()):
            clients.append(LoadClient(number, inbox))
            clients[-1].give(part, target)
        _await_ready(clients, inbox)
        start_ns = time.monotonic_ns() + 200_000_000
        if on_start is not None:
            on_start(start_ns / 1e9)
        for client in clients:
            client.send({"start_ns": start_ns})
        return _collect(clients, inbox, load, start_ns, progress)
    finally:
        for client in clients:
            client.stop()


def _take(clients: list[LoadClient], inbox: queue.Queue[tuple[int, Any]], until: float, doing: str) -> tuple[int, Any]:
    try:
        number, message = inbox.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise _silent(clients, doing) from None
    if message["type"] in ("ended", "broken"):
        client = clients[number]
        try:
            code: int | str = client.process.wait(2)
        except subprocess.TimeoutExpired:
            code = "unknown"
        reason = f"ended with code {code}" if message["type"] == "ended" else f"sent broken data ({message['text']})"
        raise EngineError(f"load client {number} {reason} while {doing}", "\n".join(client.errors))
    return number, message


def _silent(clients: list[LoadClient], doing: str) -> EngineError:
    """The error of clients that say nothing more. What they measured is lost."""
    still = [number for number, client in enumerate(clients) if stopped(client.process.pid)]
    if still:
        return EngineError(f"load client {still[0]} was stopped (SIGSTOP) while {doing}, and was killed")
    errors = [line for client in clients for line in client.errors]
    return EngineError(f"a load client hung while {doing}, and was killed", "\n".join(errors))


def _await_ready(clients: list[LoadClient], inbox: queue.Queue[tuple[int, Any]]) -> None:
    until = time.monotonic() + START_S
    for _ in clients:
        _take(clients, inbox, until, "starting")


def _collect(
    clients: list[LoadClient],
    inbox: queue.Queue[tuple[int, Any]],
    load: LoadPlan,
    start_ns: int,
    progress: Callable[[str], None] | None,
) -> Outcome:
    requests = Requests()
    sums: list[LoadSums] = []
    state: dict[int, tuple[int, int, int]] = {}
    done: set[int] = set()
    until = start_ns / 1e9 + load.limit_s + REPORT_S
    heard = dict.fromkeys(range(len(clients)), max(time.monotonic(), start_ns / 1e9))
    while len(done) < len(clients):
        number, message = _take_open(clients, inbox, min(until, min(heard.values()) + SILENT_S), done)
        heard[number] = time.monotonic()
        if message["type"] == "records":
            requests.extend(records_of(message["records"]))
        elif message["type"] == "progress":
            state[number] = (message["sent"], message["finished"], message["running"])
            if progress is not None:
                sent, finished, running = (sum(values) for values in zip(*state.values(), strict=True))
                progress(f"{sent} requests sent, {finished} answered, {running} running")
        elif message["type"] == "done":
            sums.append(LoadSums(**message["sums"]))
            done.add(number)
            del heard[number]
    return Outcome.merge(load, start_ns, requests, sums)


def _take_open(
    clients: list[LoadClient], inbox: queue.Queue[tuple[int, Any]], until: float, done: set[int]
) -> tuple[int, Any]:
    """The next message, ignoring the end of a client that has reported."""
    while True:
        try:
            number, message = inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise _silent(clients, "the load was running") from None
        if number in done and message["type"] == "ended":
            continue
        if message["type"] in ("ended", "broken"):
            inbox.put((number, message))
            return _take(clients, inbox, until, "the load was running")
        return number, message
