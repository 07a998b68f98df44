"""Groups of ``fuzz_readers.py`` for what arrives over pipes and sockets, read in process from bytes in random reads.

Beside the rules of every group: the reads into which the bytes are split do not change what is read, a token has the time of
the read that completed it, the fast path for like events reads what the slow path reads, and each request has one record.
"""

from __future__ import annotations

import os
import random
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fuzz_stream_seeds import (
    KEY,
    Pieces,
    Stream,
    seeds_of_answers,
    seeds_of_frames,
    seeds_of_packets,
    seeds_of_plain,
)

from pytest_slmperf.engines.base import Batch, EngineState
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.engines.launch_host import HostFailed, HostProgram, LaunchHost
from pytest_slmperf.engines.openai.adapter import describe, models_of
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.reading_gate import checked_report, checked_round
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.load.http import plain
from pytest_slmperf.load.http.client import Reading
from pytest_slmperf.load.http.connection import BUSY, CLOSED, Connection
from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.http.receive_buffer import ROOM, Arena
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest, RequestRecord
from pytest_slmperf.load.schedule import Schedule
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.util.framing import Decoder, WireError


class RuleBroken(Exception):
    """A rule of streams does not hold. ``rule``: the same for finds of the same cause."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def require_equal(rule: str, first: Any, second: Any) -> None:
    if first != second:
        raise RuleBroken(rule, f"\n{first!r}\n{second!r}"[:4000])


def require_short(error: Exception, lines: int = 1) -> None:
    """The error's text is printable and has at most that many lines."""
    rows = str(error).split("\n")
    if len(rows) > lines or not all(map(str.isprintable, rows)):
        raise RuleBroken(f"an error in {lines} printable lines", repr(str(error))[:2000]) from error


# ---- inputs ------------------------------------------------------------------------------------------------------------


def split(data: bytes, draw: random.Random, most: int = ROOM) -> tuple[list[int], list[bytes]]:
    """Reads of the bytes: the number of bytes up to the end of each, which is its time, and its bytes."""
    count = draw.choice((0, 1, 2, 5, 12))
    ends = {*range(most, len(data), most), len(data), *(draw.randrange(len(data) + 1) for _ in range(count))}
    return cut(data, sorted(ends - {0}))


def cut(data: bytes, ends: Sequence[int]) -> tuple[list[int], list[bytes]]:
    begins = [0, *ends[:-1]]
    return list(ends), [data[begin:end] for begin, end in zip(begins, ends, strict=bool(ends))]


# ---- answers of endpoints to requests of a load -------------------------------------------------------------------------

N_OUT, MOST_IN, MOST_EVENT = 24, 4096, 20_000


def what_was_read(answer: Answer) -> tuple[Any, ...]:
    """All that a record is made of, except the times."""
    return (
        answer.status, answer.error, answer.error_text, answer.n_in, answer.n_out, answer.tokens, answer.reasoning,
        answer.thought, answer.finish, answer.done, answer.retry_after,
    )  # fmt: skip


def played(times: list[int], reads: list[bytes], ended: str | None, bundled: bool = True, fast: bool = True) -> Answer:
    """The answer from these reads, given at once (``bundled``) or one by one; ``fast``: by the fast path where that fits."""
    answer = Answer(N_OUT, MOST_IN, MOST_EVENT)
    if not fast:
        answer._tries = 0
    if bundled:
        answer.feed(times, reads)
    else:
        for at, data in zip(times, reads, strict=True):
            answer.feed([at], [data])
    answer.finished(ended)
    require_equal("as many times as tokens", len(answer.times), len(answer.tokens))
    require_equal("times in order", answer.times, sorted(answer.times))
    if any(count < 0 for count in (*answer.tokens, answer.n_in or 0, answer.n_out or 0)):
        raise RuleBroken("counts of 0 or more", repr(what_was_read(answer)))
    return answer


def answers(pieces: Pieces, draw: random.Random) -> None:
    """The same bytes in few reads and in more reads: the same answer."""
    data = b"".join(pieces)
    few, reads = split(data, draw)
    more = sorted({*few, *(draw.randrange(1, len(data) + 1) for _ in range(draw.choice((1, 5, 40))))} if data else ())
    ended = draw.choice((None, None, "disconnected", "stalled"))
    coarse, fine = played(few, reads, ended), played(*cut(data, more), ended)
    require_equal("the split changes the answer", what_was_read(coarse), what_was_read(fine))
    rounded = [few[bisect_left(few, at)] for at in fine.times]
    require_equal("the time of the read that completes an event", coarse.times, rounded)


def like_events(pieces: Pieces, draw: random.Random) -> None:
    """Events as a server sends them, one a read: the same answer with and without the fast path."""
    reads = list(pieces)
    if draw.random() < 0.3 and len(reads) > 2:  # what arrived together is one read
        at = draw.randrange(1, len(reads) - 1)
        upto = at + draw.choice((2, 3, 8))
        reads[at:upto] = [b"".join(reads[at:upto])]
    reads = [read[begin : begin + ROOM] for read in reads for begin in range(0, len(read), ROOM)]
    times = list(range(1, len(reads) + 1))
    fast, slow = played(times, reads, None), played(times, reads, None, fast=False)
    require_equal("the fast path changes the answer", what_was_read(fast), what_was_read(slow))
    require_equal("the fast path changes times", fast.times, slow.times)
    singly = played(times, reads, None, bundled=False)
    require_equal("bundles change the answer", what_was_read(fast), what_was_read(singly))
    require_equal("bundles change times", fast.times, singly.times)


PLANNED = [PlannedRequest(number, "{}", due=0.0, n_in=5, n_out=N_OUT) for number in range(2)]
LOAD = LoadPlan(PLANNED, window_s=1.0)
SECOND = 10**9


def loads(pieces: Pieces, draw: random.Random) -> None:
    """Two answers at once, through the kept bytes, to records: one each, the same however the bytes came."""
    first = one_load(pieces, random.Random(0), draw.random() < 0.5)
    second = one_load(pieces, draw, False)
    require_equal("the split changes a record", [timeless(record) for record in first], [timeless(r) for r in second])


def timeless(record: RequestRecord) -> RequestRecord:
    return record._replace(due_ns=0, sent_ns=0, first_ns=None, last_ns=None)


def one_load(pieces: Pieces, draw: random.Random, as_sent: bool) -> list[RequestRecord]:
    schedule = Schedule(LOAD, PLANNED)
    schedule.begin(start := time.monotonic_ns() - 2 * SECOND)
    serials = [serial for _ in PLANNED if (serial := schedule.take(start + SECOND)) is not None]
    arena = Arena()
    arena.set_clock()
    rows: list[tuple[int, int, bytes]] = []
    whole = b"".join(pieces)
    for serial in serials:
        schedule.requests[serial].sent_ns = start + 1
        reads = pieces if as_sent else split(whole, draw)[1]
        rows += [(place, serial, read) for place, read in enumerate(reads) if read]
    rows.sort(key=lambda row: row[:2])
    for place, serial, read in rows:
        at = start + 1000 * (place + 1) - arena.to_monotonic
        arena.datas.append(read)
        arena.stamps.append(_stamp(at))
        arena.serials.append(serial)
    if rows:
        arena.end_pass(0, start + SECOND)
    for serial in serials:
        schedule.finish(serial, start + SECOND)
    sent: list[RequestRecord] = []
    loop: Any = SimpleNamespace(
        arena=arena, schedule=schedule, requests=schedule.requests, data=[b"x" * 100] * len(PLANNED), lags={}, cpu_s=0.0,
        ends=[(len(rows), serial) for serial in serials], ended_ns=start + SECOND, stale_reconnects=0,
    )  # fmt: skip
    sums = Reading(loop, KEY, sent.extend).read()
    require_equal("one record a request", [record.number for record in sent], [request.number for request in PLANNED])
    require_equal("tokens in tiles are those in records", sum(sums.tiles), sum(record.inside for record in sent))
    for record in sent:
        if KEY in record.error_text or not record.error_text.isprintable() or len(record.error_text) > 400:
            raise RuleBroken("an error text in one line without the key", repr(record.error_text))
        if record.error is None and not record.n_out > 0:
            raise RuleBroken("a good answer has tokens", repr(record))
    return sent


def _stamp(real_ns: int) -> bytes:
    seconds, nanoseconds = divmod(real_ns, SECOND)
    return seconds.to_bytes(8, "little") + nanoseconds.to_bytes(8, "little")


class NoSocket:
    """The socket of a connection whose bytes come from the test."""

    def close(self) -> None:
        pass


def connections(pieces: Pieces, draw: random.Random) -> None:
    """The connection that follows an answer under load: it finds the end or a fault, and closes on both where it must."""
    data = b"".join(pieces)
    for _ in range(2):
        connection: Any = object.__new__(Connection)
        connection._tls, connection._stamped, connection.sock = None, False, NoSocket()
        connection.used, connection.error, connection.state, connection.limit = 0, None, BUSY, 2**20
        connection._begin()
        done, reads = 0, split(data, draw)[1]
        for read in [*reads, b""]:
            if connection.state == CLOSED:
                break
            done += connection._take(read, None)
        if done > 1 or connection.used > 1 or connection.state != CLOSED:
            raise RuleBroken("at most one answer, then the end", f"{done} {connection.used} {connection.state}")
        if not done and connection.error is None:
            raise RuleBroken("no answer has a reason", repr(data[:500]))
        answer = played(list(range(len(reads))), reads, None if done else connection.error)
        if done and connection.error is None and answer.status is None:
            raise RuleBroken("a whole answer has a status", repr(data[:500]))


# ---- plain answers ------------------------------------------------------------------------------------------------------

ENDPOINT = Http(Target("http://stream/v1", key_env=None), "m")
SPEC = EngineSpec("openai", "m")


class FedCall(plain._Call):
    """A call whose answer is ``reads`` instead of what a socket brings."""

    reads: Iterator[bytes] = iter(())

    def send(self, path: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> None:
        pass

    def _receive(self) -> bytes:
        return next(self.reads, b"")


plain._Call = FedCall  # type: ignore[misc]


def plain_answers(pieces: Pieces, draw: random.Random) -> None:
    """The models, the version, the counters and the body of an answer, the same for any reads."""
    data = b"".join(pieces)
    use = draw.choice((the_models, the_version, the_counters, the_body))
    results: list[Any] = []
    for _ in range(2):
        FedCall.reads = iter([read for read in split(data, draw)[1] if read])
        try:
            results.append(use())
        except (plain.NoAnswer, SlmperfError) as error:
            results.append(f"{type(error).__name__}: {error}")
            require_short(error)
    require_equal("the split changes a plain answer", repr(results[0]), repr(results[1]))


def the_models() -> Any:
    return models_of(ENDPOINT)


def the_version() -> Any:
    return describe(ENDPOINT, SPEC, {"id": "m", "owned_by": "x"})


def the_counters() -> Any:
    return ENDPOINT.counters()


def the_body() -> Any:
    return ENDPOINT.get("models")


# ---- frames of a worker ---------------------------------------------------------------------------------------------------

WORK = Batch(batch=2, input_len=4, output_len=3)


class Ended:
    """A process that has ended."""

    pid, returncode = 2**22 + 1, 1  # no process has it

    def poll(self) -> int:
        return 1

    def wait(self, timeout: float) -> int:
        return 1


class FedProcess(EngineProcess):
    """An engine's process whose frames are in a pipe, which then ends."""

    def __init__(self, data: bytes) -> None:
        super().__init__(SPEC, Path("worker.py"), Path("/nonexistent"))
        self._process = Ended()  # type: ignore[assignment]
        self.state = EngineState.READY
        self._events, write = os.pipe()
        os.write(write, data[:60_000])
        os.close(write)

    def _spawn(self, host: LaunchHost | None) -> float:
        return time.monotonic()

    def _send(self, method: str, params: Any) -> None:
        self._number += 1

    def _end(self, state: EngineState) -> None:
        self.state = state

    def close(self) -> None:
        os.close(self._events)


def frames(pieces: Pieces, draw: random.Random) -> None:
    """Frames in any reads are the same messages, and the calls that they answer end in a checked reading or an error."""
    data = b"".join(pieces)
    require_equal("the split changes the messages", messages(split(data, draw)[1]), messages(split(data, draw)[1]))
    engine = FedProcess(data)
    if draw.random() < 0.8:  # or all times lie outside of the call
        engine.facts["clock"] = "virtual"
    use = draw.choice((a_start, a_round, a_report, a_few_calls))
    try:
        use(engine)
    except SlmperfError as error:
        require_short(error, lines=60)  # the mend, and the log's end, have lines of their own
    finally:
        engine.close()


def messages(reads: list[bytes]) -> list[Any]:
    decoder, out = Decoder(), []
    try:
        for read in reads:
            decoder.feed(read)
            while (message := decoder.next()) is not None:
                out.append(repr(message))
    except WireError as error:
        out.append(str(error))
    return out


def a_start(engine: FedProcess) -> None:
    engine.state = EngineState.STARTING
    engine.start({}, timeout_s=0.5)
    engine.facts.version, engine.facts.max_model_len, engine.facts.pids, engine.facts.virtual_clock  # noqa: B018


def a_round(engine: FedProcess) -> None:
    checked_round(engine, WORK, 0.5)


def a_report(engine: FedProcess) -> None:
    checked_report(engine, LOAD, 0.5)


def a_few_calls(engine: FedProcess) -> None:
    engine.clock()
    engine.reset_caches()
    engine.counters()


# ---- packets of a launch host ---------------------------------------------------------------------------------------------

OURS, THEIRS = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
OURS.setblocking(False)
THEIRS.setblocking(False)


def packets(pieces: Pieces, draw: random.Random) -> None:
    """Packets of a launch host at its start and after an order: an answer, or HostFailed."""
    host = LaunchHost(HostProgram(Path("worker.py")), Path("/nonexistent"))
    host._channel = OURS
    for piece in pieces[:20]:
        if piece:
            with suppress(BlockingIOError):  # the channel is full
                THEIRS.send(piece[:20_000])
    try:
        host._ready(0.001) if draw.random() < 0.5 else host._forked(0.001)
    except HostFailed as error:
        require_short(error)
    finally:
        with suppress(BlockingIOError):
            while OURS.recv(1 << 20):
                pass


Read = Callable[[Pieces, random.Random], None]
STREAMS: dict[str, tuple[Callable[[], Iterator[Stream]], Read]] = {
    "answers": (seeds_of_answers, answers),
    "like-events": (seeds_of_answers, like_events),
    "loads": (seeds_of_answers, loads),
    "connections": (seeds_of_answers, connections),
    "plain": (seeds_of_plain, plain_answers),
    "frames": (seeds_of_frames, frames),
    "packets": (seeds_of_packets, packets),
}
