"""A client process: plays its slice of a load, times the answers, reports them. Standard library only.

It is a function of its slice.  Frames on standard input: ``{"target", "load", "requests": how many}``, then frames of
``{"requests": rows}`` with these, and last ``{"start_ns"}``.  On standard output, each with a ``type``: "ready", "progress",
then "records" (rows of ``RequestRecord``) and last "done" with the ``LoadSums``.  Times are CLOCK_MONOTONIC nanoseconds.
While the load runs the process only moves bytes; they are read when it is over.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pytest_slmperf.load.http.event_loop import LAG_BITS, EventLoop, Progress
from pytest_slmperf.load.http.limits import LEAST_EVENT, MAX_EVENT, TEMPLATE_TOKENS, TOO_LARGE, UNFINISHED
from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import LoadSums, PlannedRequest, RequestRecord, peak_memory_bytes
from pytest_slmperf.load.schedule import FAR
from pytest_slmperf.load.token_counter import Tally, spread
from pytest_slmperf.util.framing import Decoder, pack, read_message, write_all

# After the load: the kept bytes become records and sums. Standard library only.

RECORDS_PER_FRAME = 2000
HELD = 16 * 2**20  # most bytes that wait for their assignment to answers

SendRecords = Callable[[Sequence[RequestRecord]], None]


class Reading:
    """Reading of the kept bytes after the load. ``read`` passes every record to ``send``, in portions, and returns the sums.

    ``key`` is removed from error texts.  Answers receive their reads in bundles, which share most of the cost of a read.
    """

    def __init__(
        self, loop: EventLoop, key: str | None, send: SendRecords, alive: Callable[[], None] = lambda: None
    ) -> None:
        """``alive`` is called from time to time, since reading the answers of a long load takes long."""
        self._loop, self._key, self._send, self._alive = loop, key, send, alive
        start, schedule = loop.schedule.start_ns, loop.schedule
        self.window_ns = schedule.window_ns or (start, max(loop.ended_ns, start + 1))
        seconds = (self.window_ns[1] - self.window_ns[0]) / 1e9
        self._tally = Tally(*self.window_ns, max(1, min(600, round(seconds))))
        self._answers: dict[int, Answer] = {}
        self._bundles: dict[int, tuple[list[int], list[bytes]]] = {}
        self._records: list[RequestRecord] = []
        self._counted_by_events = 0

    def read(self) -> LoadSums:
        cpu = time.process_time()
        self._replay()
        self._send(self._records)
        loop, tally = self._loop, self._tally
        return LoadSums(
            gaps=tally.gaps,
            gap_sum_ns=tally.gap_sum,
            gap_count=tally.gap_count,
            tiles=tally.tiles,
            window_ns=self.window_ns,
            read_lag=[(lag << LAG_BITS, times) for lag, times in sorted(loop.lags.items())],
            cpu_s=loop.cpu_s,
            reading_cpu_s=time.process_time() - cpu,
            wall_s=(loop.ended_ns - loop.schedule.start_ns) / 1e9,
            stale_reconnects=loop.stale_reconnects,
            repeats=loop.schedule.repeats,
            counted_by_events=self._counted_by_events,
            received_bytes=loop.arena.received,
            max_rss_bytes=peak_memory_bytes(),
        )

    def _replay(self) -> None:
        """Process the reads in their order; an answer is settled as soon as all of its reads are processed."""
        bundles = self._bundles
        ends = [*self._loop.ends, (FAR, -1)]
        settled = held = 0
        over = ends[0][0]
        for number, (at, serial, data) in enumerate(self._loop.arena.replay(), 1):
            bundle = bundles.get(serial)
            if bundle is None:
                bundle = bundles[serial] = [], []
            bundle[0].append(at)
            bundle[1].append(data)
            held += len(data)
            if number >= over:
                while ends[settled][0] <= number:
                    self._settle(ends[settled][1])
                    settled += 1
                over = ends[settled][0]
            if held > HELD:
                self._feed_all()
                held = 0
        for _, serial in self._loop.ends[settled:]:
            self._settle(serial)

    def _answer(self, serial: int) -> Answer | None:
        """The answer to a request so far; None for an answer that was given up because of its size."""
        request = self._loop.requests[serial]
        if request.error == TOO_LARGE:
            return None
        answer = self._answers.get(serial)
        if answer is None:
            most_event = max(LEAST_EVENT, min(MAX_EVENT, UNFINISHED // (1 + len(self._answers))))
            most_in = len(self._loop.data[request.place]) + TEMPLATE_TOKENS
            answer = self._answers[serial] = Answer(request.planned.n_out, most_in, most_event)
        return answer

    def _feed_all(self) -> None:
        for serial, (times, reads) in self._bundles.items():
            self._alive()
            if (answer := self._answer(serial)) is not None:
                answer.feed(times, reads)
        self._bundles.clear()

    def _settle(self, serial: int) -> None:
        """Write the record of a request that is over."""
        bundle = self._bundles.pop(serial, None)
        if bundle is not None and (answer := self._answer(serial)) is not None:
            answer.feed(*bundle)
        answer = self._answers.pop(serial, None)
        self._alive()
        self._records.append(self._record(serial, answer))
        if len(self._records) >= RECORDS_PER_FRAME:
            self._send(self._records)
            self._records.clear()

    def _record(self, serial: int, answer: Answer | None) -> RequestRecord:
        request = self._loop.requests[serial]
        measured = self._loop.schedule.measures(request)
        begun = request.planned.number, request.due_ns, request.sent_ns
        if answer is None:
            return RequestRecord(*begun, error=request.error, measured=measured)
        answer.finished(request.error)
        first = last = None
        n_out = inside = hidden = 0
        if answer.times:
            self._counted_by_events += answer.n_out is None
            n_out = answer.n_out or sum(answer.tokens) + answer.tokens.count(0)
            counts = measured and answer.error is None
            hidden = 0 if answer.thought else min(answer.reasoning, n_out - 1)
            tokens = spread(answer.tokens, n_out - hidden)
            tokens = [tokens[0] + hidden, *tokens[1:]]  # reasoning that was not sent came before the first token
            inside = self._tally.add(answer.times, tokens, counts)
            first, last = answer.times[0], answer.times[-1]
        text = scrubbed(answer.error_text, self._key)
        return RequestRecord(*begun, first, last, answer.n_in, n_out, answer.status, answer.error, text,
                             answer.retry_after, inside, measured, hidden)  # fmt: skip


def scrubbed(text: str, key: str | None) -> str:
    """An error text for users: short, on one line, and without the key, which a server may send back."""
    if key:
        text = text.replace(key, "***")
        if len(key) > 8:  # some servers mask only the middle and show both ends
            text = text.replace(key[:8], "***").replace(key[-8:], "***")
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(text[:2000].split())[:300])


PROGRESS_NS = 1_000_000_000
PR_SET_PDEATHSIG = 1


def receive_slice(receive: Callable[[], dict[str, Any] | None]) -> tuple[Target, LoadPlan] | None:
    """The slice of this client; None if the parent has ended."""
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


def reading_reporter(send: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Reports about once a second that the answers are still being read."""
    last = time.monotonic_ns()

    def alive() -> None:
        nonlocal last
        if (now := time.monotonic_ns()) - last > PROGRESS_NS:
            last = now
            send({"type": "reading"})

    return alive


def end_with(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def main(parent: int) -> int:
    """Play one slice. ``parent``: the process that sends it. A full disk or memory ends this process with one line."""
    end_with(parent)
    try:
        return _play()
    except (OSError, MemoryError) as error:
        what = "no memory is left" if isinstance(error, MemoryError) else error.strerror or str(error)
        full = isinstance(error, MemoryError) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kept = f"; answers are kept in {tempfile.gettempdir()} until the load is over (TMPDIR names another folder)"
        print(what + (kept if full else ""), file=sys.stderr)
        return 3


def _play() -> int:
    source, out, decoder = sys.stdin.fileno(), sys.stdout.fileno(), Decoder()
    sys.stdout = sys.stderr  # other output must not mix with the frames

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
    del work, load  # the loop's data contain the bodies, which would be in memory twice
    loop.preconnect()
    send({"type": "ready", "connections": len(loop.connections)})
    begin = read_message(source, decoder)
    if begin is None:
        return 0
    gc.collect()
    gc.disable()  # a garbage collection in the window would add latency; reading afterwards creates no cycles either
    loop.run(int(begin["start_ns"]), reporter(send))
    reading = Reading(loop, key, lambda records: send({"type": "records", "records": records}), reading_reporter(send))
    sums = reading.read()
    send({"type": "done", "sums": asdict(sums)})
    loop.close()
    return 0
