"""Valid streams for ``fuzz_streams.py``, and their mutations."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fuzz_mutations import TOKENS, changed_bytes, changed_value

from pytest_slmperf.load.rows import LoadSums, RequestRecord
from pytest_slmperf.util.framing import pack

KEY = "sk-planted-0123456789"


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


def seeds_of_packets() -> Iterator[Stream]:
    for lines in (
        [{"ready": {"import_s": 1.5, "import_cpu_s": 1.2}}],
        [{"unfit": "threads run"}],
        [{"ended": [5, -9]}, {"forked": 1234}],
        [{"ended": [5, 0]}, {"failed": "fork: no memory"}],
    ):
        yield Stream(b"", [json.dumps(line).encode() for line in lines], bare)
