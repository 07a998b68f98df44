"""Groups of ``fuzz_readers.py`` for what arrives over pipes and sockets, read in process from bytes in random reads.

Beside the rules of every group: the reads into which the bytes are split do not change what is read, a token has the time of
the read that completed it, the fast path for like events reads what the slow path reads, and each request has one record.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fuzz_mutations import TOKENS, changed_bytes, changed_value

from pytest_slmperf.engines.base import Batch, EngineState
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.engines.launch_host import HostFailed, HostProgram, LaunchHost
from pytest_slmperf.engines.openai.adapter import describe, models_of
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.reading_gate import checked_report, checked_round
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.load.http import plain
from pytest_slmperf.load.http.client import Reading
from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.http.receive_buffer import ROOM, Arena
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import LoadSums, PlannedRequest, RequestRecord
from pytest_slmperf.load.schedule import Schedule
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.util.framing import Decoder, WireError, pack

KEY = "sk-planted-0123456789"


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

Pieces = list[bytes]  # bytes in the order of arrival; a piece is a head, a chunk or a frame


@dataclass(frozen=True)
class Stream:
    """A valid answer. ``head``: with its empty line; ``parts``: events or bodies; ``wrap``: makes a part's piece."""

    head: bytes
    parts: Sequence[bytes]
    wrap: Callable[[bytes], bytes]
    end: bytes = b""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def bare(data: bytes) -> bytes:
    return data


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


HEADERS = [
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 9" + b"9" * 30, b"content-length: 0",
    b"Content-Length: x",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
    b"Content-Encoding: gzip", b"Content-Encoding: identity", b"Content-Type: text/event-stream",
    b"Content-Type: application/json", b"Retry-After: 3", b"Retry-After: " + b"9" * 100, b"X", b": x",
    b"X-Y: " + b"z" * 70_000,
    b"Connection: close", b" folded", b"\xff\xfe: \x00", b"Set-Cookie: " + KEY.encode(),
]  # fmt: skip
STATUS = [
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 100 C\r\n\r\n" * 20 + b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 503 Busy", b"HTTP/1.1 429 Too Many", b"HTTP/1.1 301 Moved", b"HTTP/2 200 OK",
    b"HTTP/1.1 2000 OK", b"HTTP/1.1 200", b"HTTP/1.1", b"HTTP/1.1 -20 OK", b"HTTP/1.1 \xb2\xb3\xb9 OK", b"ICY 200 OK", b"",
    b"HTTP/1.1 099 Low", b"HTTP/1.1  200 OK",
]  # fmt: skip
LINES = [
    b": alive\n\n", b":\n", b"event: error\ndata: {}\n\n", b"event: ping\n\n", b"id: 1\n", b"retry: 5\n", b"nonsense\n\n",
    b"data\n\n",
    b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"\n", b"\r", b"\r\n\r\n", b"data: {}\n\n", b"data: null\n\n",
    b"data: 1\ndata: 2\n\n",
    b"\xef\xbb\xbf", b": " + b"c" * 30_000 + b"\n\n", b"data: " + b"[" * 50_000 + b"\n\n", b"0\r\n\r\n", b"5;x=y\r\n",
]  # fmt: skip


def mutated(seeds: Sequence[Stream], draw: random.Random) -> Pieces:
    """A valid stream with one to four changes: of its parts, its head, and the bytes of its pieces."""
    seed = draw.choice(seeds)
    head, parts = seed.head, list(seed.parts)
    level = draw.random()
    for _ in range(draw.choice((1, 1, 2, 3))):
        if level < 0.5 or not head:
            change_parts(parts, draw, seeds)
        elif level < 0.7:
            head = changed_head(head, draw)
    pieces = [piece for piece in (head, *map(seed.wrap, parts), seed.end) if piece]
    if pieces and draw.random() < (0.15 if level < 0.7 else 1.0):
        at = draw.randrange(len(pieces))
        pieces[at] = changed_bytes(pieces[at], draw, draw.choice(pieces))
    return pieces


def change_parts(parts: list[bytes], draw: random.Random, seeds: Sequence[Stream]) -> None:
    if not parts:
        parts.append(draw.choice(LINES))
        return
    at = draw.randrange(len(parts))
    match draw.randrange(12):
        case 0:
            del parts[at]
        case 1:
            parts[at:at] = [parts[at]] * draw.choice((1, 2, 30))
        case 2:
            parts[at], parts[-1] = parts[-1], parts[at]
        case 3:
            parts.insert(at, draw.choice(draw.choice(seeds).parts or (b"",)))
        case 4:
            parts.insert(at, draw.choice(LINES))
        case 5:
            parts[at] += parts[at - 1]
        case 6:
            begin = draw.randrange(len(parts[at]) + 1)
            parts[at : at + 1] = [parts[at][:begin], parts[at][begin:]]
        case 7:
            parts[at] = changed_bytes(parts[at], draw, parts[at - 1])
        case 8:
            parts[at] = parts[at].replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\r", b"")))
        case _:
            parts[at] = changed_payload(parts[at], draw)


def changed_payload(part: bytes, draw: random.Random) -> bytes:
    """The part with another value or name in its JSON, or with other bytes if it holds none."""
    begin, end = part.find(b"{"), part.rfind(b"}") + 1
    try:
        document = json.loads(part[begin:end])
        text = json.dumps(changed_value(document, draw, document), ensure_ascii=draw.random() < 0.5)
    except (ValueError, RecursionError):
        return changed_bytes(part, draw, draw.choice(TOKENS))
    return part[:begin] + text.encode("utf-8", "surrogatepass") + part[end:]


def changed_head(head: bytes, draw: random.Random) -> bytes:
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    at = draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            lines[0] = draw.choice(STATUS)
        case 1:
            del lines[at]
        case 2:
            lines[at] = changed_bytes(lines[at], draw, draw.choice(HEADERS))
        case _:
            lines.insert(at or 1, draw.choice(HEADERS))
    return b"\r\n".join(lines) + draw.choice((b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n"))


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


def event(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": None} | more.pop("choice", {})
    message = {"id": "cmpl-1", "object": "text_completion", "choices": [choice], **more}
    return b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\n\n"


def usage(n_out: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 5, "completion_tokens": n_out, "total_tokens": 5 + n_out, **more}


DONE = b"data: [DONE]\n\n"


def seeds_of_answers() -> Iterator[Stream]:
    ok = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    sized = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    closed = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    last = event("!", choice={"finish_reason": "length"})
    total = b"data: " + json.dumps({"choices": [], "usage": usage(9)}).encode() + b"\n\n"
    chat = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in (" a", "é", "日本")]
    talk = [b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n" for choice in chat]
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    thinking = usage(4, completion_tokens_details={"reasoning_tokens": 2})
    tail = b"0\r\n\r\n"
    words = [event(word) for word in (" a", " longer", " é", "x", '"', "\n", " y", " zz")]
    for parts in (
        [*words, last, total, DONE],
        [*[event("a")] * 9, last, DONE],
        [event(f" {n}", usage=usage(n + 1)) for n in range(6)] + [last, total, DONE],
        [thought, thought, *talk, event("", choice={"finish_reason": "stop"}, usage=thinking), DONE],
        [*talk, *talk, b": alive\n\n", *talk, last, DONE],
        [event(" b", choice={"token_ids": [1, 2]}), event(" c"), last, DONE],
        [event(" b"), b'data: {"error": {"message": "died ' + KEY.encode() + b'"}}\n\n'],
    ):
        yield Stream(ok, parts, chunk, tail)
        yield Stream(closed, parts, bare)
    body = [*words, last, DONE]
    yield Stream(sized % sum(map(len, body)), body, bare)
    error = json.dumps({"error": {"message": f"bad key {KEY}\n\x1b[31mred", "code": 401}}).encode()
    for status in (b"401 Unauthorized", b"503 Busy\r\nRetry-After: 2", b"200 OK\r\nContent-Type: application/json"):
        yield Stream(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(error)), [error], bare)
        yield Stream(b"HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\n\r\n" % status, [error, b"x" * 9000], chunk, tail)


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


def seeds_of_plain() -> Iterator[Stream]:
    card = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 4096}
    metrics = "\n".join(
        f'{name}{{model_name="m"}} {value}'
        for name, value in (("vllm:num_preemptions_total", "3.0"), ("vllm:kv_cache_usage_perc", "0.25"), ("x", "NaN"))
    )
    for text in (
        json.dumps({"object": "list", "data": [card, card | {"id": "n"}]}),
        json.dumps({"version": "0.11.0"}),
        f"# HELP x\n# TYPE x counter\n{metrics}\n",
        json.dumps({"error": {"message": "no"}}),
    ):
        body = text.encode()
        yield Stream(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), [body], bare)
        yield Stream(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [body[:30], body[30:]], chunk, b"0\r\n\r\n"
        )
        yield Stream(b"HTTP/1.0 200 OK\r\n\r\n", [body], bare)
    yield Stream(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n", [b"no"], bare)


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
    engine.facts["clock"] = "virtual"
    engine.clock()
    engine.reset_caches()
    engine.counters()


def seeds_of_frames() -> Iterator[Stream]:
    now = time.monotonic()
    rows = [[now - 0.02, now - 0.015, now - 0.01, 4, 3]] * 2
    reading = {
        "t_start": now - 0.03, "t_end": now, "n_in": 8, "n_out": 6, "completed": 2, "requests": rows,
        "itl_s": [0.001, 0.002],
        "preemptions": 0, "kv_cache_peak": 12.5, "mean_running": 1.5, "evidence": {"nvcsw": 3, "cpu_s": 0.01},
    }  # fmt: skip
    at = round(now * 1e9)
    sums = LoadSums([(1000, 3)], 3000, 3, [4, 2], (at + 10, at + 1000))
    report = {
        "start_ns": at, "records": [list(RequestRecord(n, at, at + 5, at + 50, at + 90, 5, 3, 200)) for n in range(3)],
        "sums": {name: getattr(sums, name) for name in LoadSums.__slots__},
        "engine": {"preemptions": 0, "kv_cache_peak": 1.0, "mean_running": 2.0, "steps": 5}, "evidence": {"cpu_s": 0.1},
    }  # fmt: skip
    facts = {"version": "1", "max_model_len": 64, "pid": 5, "start_time_s": 1.5, "t_first_served": now}
    error = {"kind": "input", "message": "too long", "mend": "shorten it", "traceback": "Traceback"}

    def stream(*answers: dict[str, Any]) -> Stream:
        return Stream(b"", [pack(answer)[4:] for answer in answers], framed)

    yield stream(*({"id": 1, "ok": True, "result": result} for result in (reading, report)))
    yield stream(
        {"id": 0, "event": {}}, {"id": 1, "event": {"progress": "x"}}, {"id": 1, "ok": True, "result": reading}
    )
    yield stream({"id": 1, "ok": True, "result": report})
    yield stream({"id": 1, "ok": True, "result": reading})
    yield stream({"id": 1, "ok": True, "result": {"pid": 5}}, {"id": 2, "event": {"progress": "loading"}},
                 {"id": 2, "ok": True, "result": facts})  # fmt: skip
    yield stream({"id": 1, "ok": True, "result": {"now": 1.5}}, {"id": 2, "ok": True, "result": None},
                 {"id": 3, "ok": True, "result": {"steps": 5}})  # fmt: skip
    for kind in ("input", "missing", "memory", "engine"):
        yield stream({"id": 1, "ok": False, "error": error | {"kind": kind}})


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


def seeds_of_packets() -> Iterator[Stream]:
    for lines in (
        [{"ready": {"import_s": 1.5, "import_cpu_s": 1.2}}],
        [{"unfit": "threads run"}],
        [{"ended": [5, -9]}, {"forked": 1234}],
        [{"ended": [5, 0]}, {"failed": "fork: no memory"}],
    ):
        yield Stream(b"", [json.dumps(line).encode() for line in lines], bare)


Read = Callable[[Pieces, random.Random], None]
STREAMS: dict[str, tuple[Callable[[], Iterator[Stream]], Read]] = {
    "answers": (seeds_of_answers, answers),
    "like-events": (seeds_of_answers, like_events),
    "loads": (seeds_of_answers, loads),
    "plain": (seeds_of_plain, plain_answers),
    "frames": (seeds_of_frames, frames),
    "packets": (seeds_of_packets, packets),
}
