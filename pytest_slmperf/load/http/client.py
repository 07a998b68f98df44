"""A client process: plays its slice of a load, times the answers, reports them. Standard library only.

It is a function of its slice.  Frames on standard input: ``{"target", "load", "requests": how many}``, then frames of
``{"requests": rows}`` with these, and last ``{"start_ns"}``.  On standard output, each with a ``type``: "ready", "progress",
then "records" (rows of ``RequestRecord``) and last "done" with the ``LoadSums``.  Times are CLOCK_MONOTONIC nanoseconds.
While the load runs the process only moves bytes; they are read when it is over.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pytest_slmperf.load.http.event_loop import EventLoop, Progress
from pytest_slmperf.load.http.reading import Reading
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.util.framing import Decoder, pack, read_message, write_all

PROGRESS_NS = 1_000_000_000


def receive_slice(receive: Callable[[], dict[str, Any] | None]) -> tuple[Target, LoadPlan] | None:
    """The slice of this client; None where the parent has gone."""
    head = receive()
    requests: list[PlannedRequest] = []
    while head is not None and len(requests) < head["requests"]:
        part = receive()
        if part is None:
            return None
        requests += map(PlannedRequest._make, part["requests"])
    return None if head is None else (Target(**head["target"]), LoadPlan.from_wire(head["load"], requests))


def reporter(send: Callable[[dict[str, Any]], None]) -> Progress:
    """Sends progress about once a second."""
    last = time.monotonic_ns()

    def progress(sent: int, finished: int, running: int, now_ns: int) -> None:
        nonlocal last
        if now_ns - last > PROGRESS_NS:
            last = now_ns
            send({"type": "progress", "sent": sent, "finished": finished, "running": running})

    return progress


def main() -> int:
    source, out, decoder = sys.stdin.fileno(), sys.stdout.fileno(), Decoder()
    sys.stdout = sys.stderr  # nothing else may reach the frames

    def send(message: dict[str, Any]) -> None:
        write_all(out, pack(message))

    work = receive_slice(lambda: read_message(source, decoder))
    if work is None:
        return 0
    target, load = work
    if load.cpus:
        os.sched_setaffinity(0, load.cpus)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    key = target.key()
    loop = EventLoop(target, load, key)
    del work, load  # the bodies are in the loop's data, and would be in memory twice
    loop.preconnect()
    send({"type": "ready", "connections": len(loop.connections)})
    begin = read_message(source, decoder)
    if begin is None:
        return 0
    gc.collect()
    gc.disable()  # a collection in the window would show as latency; what is read afterwards makes no cycles either
    loop.run(int(begin["start_ns"]), reporter(send))
    sums = Reading(loop, key, lambda records: send({"type": "records", "records": records})).read()
    send({"type": "done", "sums": asdict(sums)})
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
