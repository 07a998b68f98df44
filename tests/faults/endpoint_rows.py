"""Rows: an endpoint that floods, drips, nests, lies, redirects or is no endpoint at all; in the answers to the load, in the
list of its models, and in what it publishes of itself."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

from faults.table import Bench, Ended, Fault
from support.hostile_server import (
    CHUNKED,
    DONE,
    MODEL,
    RESET,
    Answer,
    HostileServer,
    chunk,
    dripped,
    event,
    forever,
    once,
    plain,
    silent,
    stream,
)

SUITE = """
def test_load(slmperf):
    slmperf.serving(num_requests=2, concurrency=1, input_len=8, output_len=2, rounds=1, limit_s=4.0,
                    request_timeout_s=2.0, stall_timeout_s=1.0)
"""
USAGE = {"prompt_tokens": 8, "completion_tokens": 2}
GIB = b"x" * 2**20
DEEP = b"[" * 200_000
COLOURS = "\x1b[31mred\x1b]0;title\x07\r\n::error::fooled\n  ::set-output name=x::y"


def session(answers: dict[str, Answer], suite: str = SUITE) -> Callable[[Bench], Ended]:
    """A session against such an endpoint; no process may take more than 300 MB for it."""

    def act(bench: Bench) -> Ended:
        with HostileServer(answers) as server:
            ended = bench.pytest(
                "--slmperf-endpoint", server.url, "--slmperf-model", MODEL, "--slmperf-launches", "1",
                engine="openai", suite=suite,
            )  # fmt: skip
            assert all("secret" not in text for text in ended.output.splitlines())
            return ended

    return act


def load(id: str, injected: str, answer: Answer, says: str, exit_code: int = 1) -> Fault:
    return Fault(
        f"load-{id}", injected, session({"/completions": answer}), exit_code, says, "which request failed, and how"
    )


def models(id: str, injected: str, answer: Answer, says: str) -> Fault:
    return Fault(f"models-{id}", f"list of models: {injected}", session({"/models": answer}), 1, says)


def beside(id: str, injected: str, path: str, answer: Answer) -> Fault:
    """What is not needed for the measurement must not end it."""
    said = "results: .slmperf/results.json"
    return Fault(f"beside-{id}", f"`{path}`: {injected}", session({path: answer}), 0, said, "the measurement")


def bomb(wbits: int) -> bytes:
    """A body of 64 MiB in some kilobytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()


def encoded(name: str, body: bytes) -> Answer:
    return once(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (name.encode(), len(body), body))  # fmt: skip


def said(usage: object) -> Answer:
    """A stream of two tokens with this usage."""
    return once(stream(event("a"), event("b", "length"), b"data: " + json.dumps({"choices": [], "usage": usage}).encode()
                       + b"\n\n", DONE))  # fmt: skip


def one(data: bytes) -> Answer:
    """A stream of one event with this payload."""
    return once(stream(b"data: " + data + b"\n\n", DONE))


ENDLESS_HEAD = forever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 8000 + b"\r\n")
REDIRECT = once(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
LENGTHS = b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nabcde"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
LOADS = [
    load("endless-line", "an event without end", forever(CHUNKED + chunk(b"data: {"), chunk(GIB)), "too_large"),
    load("endless-plain-body", "a body without length and without end", forever(HEAD + b"\r\n", GIB), "too_large"),
    load("gigabyte-told", "a length of 1 GB", forever(HEAD + b"Content-Length: 1073741824\r\n\r\n", GIB), "too_large"),
    load("gzip-bomb", "64 MiB in a gzip body of 64 kB", encoded("gzip", bomb(31)), "bad_http"),
    load("deflate-bomb", "64 MiB in a deflate body", encoded("deflate", bomb(15)), "bad_http"),
    load("brotli", "a body in brotli", encoded("br", b"xxxx"), "bad_http"),
    load("endless-events", "events without end", forever(CHUNKED, chunk(event("a") * 1000)), "too_large"),
    load("endless-small-events", "empty events without end", forever(CHUNKED, chunk(b":\n\n" * 5000)), "too_large"),
    load(
        "comments-for-ever",
        "comments for ever",
        forever(CHUNKED, chunk(b": x\n\n"), 0.1),
        "timeout",
    ),
    load("dripped", "a byte at a time", dripped(stream(event("a"), event("b", "length"), DONE)), "timeout"),
    load(
        "interim-for-ever", "answers of 1xx without end", forever(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), "bad_http"
    ),
    load(
        "head-for-ever",
        "header lines without end",
        forever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 8000 + b"\r\n"),
        "bad_http",
    ),
    load("line-for-ever", "a header line without end", forever(b"HTTP/1.1 200 OK\r\nX: ", b"b" * 8192), "bad_http"),
    load("chunk-negative", "a chunk of negative size", once(CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"), "bad_http"),
    load("chunk-huge", "a chunk of 2⁶⁴ bytes", once(CHUNKED + b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n"), "bad_http"),
    load("chunk-no-size", "a chunk without a size", once(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"), "bad_http"),
    load(
        "chunk-endless-extension", "a chunk extension without end", forever(CHUNKED + b"5;", b"a" * 65536), "too_large"
    ),
    load("length-negative", "a negative length", once(HEAD + b"Content-Length: -5\r\n\r\n"), "bad_http"),
    load("length-word", "a length that is no number", once(HEAD + b"Content-Length: many\r\n\r\n"), "bad_http"),
    load(
        "lengths-differ",
        "two different lengths",
        once(HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nabcde"),
        "bad_http",
    ),
    load("status-odd", "a status of letters", once(b"HTTP/1.1 abc OK\r\n\r\n"), "bad_http"),
    load("status-negative", "a negative status", once(b"HTTP/1.1 -12 OK\r\nContent-Length: 0\r\n\r\n"), "bad_http"),
    load("http-2", "HTTP/2", once(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18, b""), "bad_http"),
    load("http-0.9", "no head at all", once(b"<html>hello</html>\r\n\r\n"), "bad_http"),
    load(
        "redirect",
        "a redirect",
        once(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"),
        "http_302",
    ),
    load(
        "html", "an HTML page", once(plain(b"<html>login</html>", more=b"Content-Type: text/html\r\n")), "not_a_stream"
    ),
    load("deep-event", "an event nested 200,000 deep", one(DEEP), "bad_json"),
    load("deep-error", "an error body nested deeply", once(plain(b'{"error":' + DEEP, "500 Oops")), "http_500"),
    load(
        "big-number",
        "a number of 10,000 digits",
        one(b'{"a":' + b"9" * 10_000 + b"}"),
        "bad_json",
    ),
    load(
        "error-colours",
        "an error event with terminal sequences and runner's commands",
        one(json.dumps({"error": {"message": COLOURS}}).encode()),
        "error_event",
    ),
    load(
        "status-colours", "an error body with terminal sequences", once(plain(COLOURS.encode(), "500 Oops")), "http_500"
    ),
    load("choices-object", "choices that are an object", one(b'{"choices":{"a":1}}'), "bad_json"),
    load("choices-numbers", "choices that are numbers", one(b'{"choices":[1,2]}'), "bad_json"),
    load(
        "text-number",
        "a text that is a list",
        one(b'{"choices":[{"text":[1],"delta":[2]}]}'),
        "bad_json",
    ),
    load("event-nan", "NaN in an event", one(b'{"choices":[],"usage":{"completion_tokens":NaN}}'), "bad_usage"),
    load("event-bytes", "bytes that are no UTF-8", one(b'{"choices":[{"text":"\xff\xfe"}]}'), "bad_json"),
    load("event-nul", "NUL bytes", once(stream(b"\0\0\0\n\n", DONE)), "malformed_sse"),
    load("usage-negative", "a usage of −3 tokens", said({"prompt_tokens": 8, "completion_tokens": -3}), "bad_usage"),
    load("usage-huge", "a usage of 10¹² tokens", said({"prompt_tokens": 8, "completion_tokens": 10**12}), "bad_usage"),
    load("usage-boolean", "a usage of `true`", said({"prompt_tokens": 8, "completion_tokens": True}), "bad_usage"),
    load("usage-text", "a usage of text", said({"prompt_tokens": 8, "completion_tokens": "2"}), "bad_usage"),
    load(
        "usage-above-asked",
        "a usage above `max_tokens`",
        said({"prompt_tokens": 8, "completion_tokens": 3}),
        "bad_usage",
    ),
    load(
        "usage-prompt-huge",
        "a prompt of 10⁹ tokens",
        said({"prompt_tokens": 10**9, "completion_tokens": 2}),
        "bad_usage",
    ),
    load(
        "two-answers",
        "two answers to one request",
        once(stream(event("a"), event("b", "length"), DONE) * 2),
        "bad_http",
    ),
    load(
        "more-than-told",
        "more bytes than told",
        once(HEAD + b"Content-Length: 3\r\n\r\nabcdefgh"),
        "bad_http",
    ),
    load("reset", "a reset in the middle of the stream", once(CHUNKED + chunk(event("a")), RESET), "reset"),
    load(
        "closed",
        "the connection's end in the middle of the stream",
        once(CHUNKED + chunk(event("a"))),
        "disconnected",
    ),
    load("closed-before", "the end of the connection before the head", once(), "disconnected"),
    load("cut-short", "a stream that ends without its end", once(stream(event("a"))), "cut_short"),
    load("no-tokens", "a stream without a token", once(stream(DONE)), "no_tokens"),
    load("silent", "no answer at all", silent, "stalled"),
]

CARD = {"id": MODEL, "object": "model"}


def listed(data: object) -> Answer:
    return once(plain(json.dumps(data).encode()))


MANY = {"data": [{"id": f"model-{k}"} for k in range(100_000)]}
COLOURED = {"data": [{"id": COLOURS}]}
PROBES = [
    models("endless-line", "a body without end", forever(HEAD + b"\r\n", GIB), "more than"),
    models(
        "gigabyte-told", "a length of 1 GB", forever(HEAD + b"Content-Length: 1073741824\r\n\r\n", GIB), "more than"
    ),
    models(
        "interim-for-ever", "answers of 1xx without end", forever(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), "interim"
    ),
    models(
        "head-for-ever",
        "header lines without end",
        forever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 8000 + b"\r\n"),
        "head",
    ),
    models("gzip-bomb", "a gzip body", encoded("gzip", bomb(31)), "encoding"),
    models("chunk-negative", "a chunk of negative size", once(CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"), "chunk"),
    models("deep", "nested 200,000 deep", once(plain(DEEP)), "does not list its models"),
    models("a-list", "a list", listed([CARD]), "does not list its models"),
    models("data-number", "data that is a number", listed({"data": 5}), "does not list its models"),
    models("data-null", "data that is null", listed({"data": None}), "does not list its models"),
    models("ids-lists", "ids that are lists", listed({"data": [{"id": [1]}, 7, None]}), "not 'hostile'"),
    models(
        "hundred-thousand",
        "100,000 names",
        listed(MANY),
        "and 99,9",
    ),
    models(
        "colours",
        "names with terminal sequences and runner's words",
        listed(COLOURED),
        "not 'hostile'",
    ),
    models("html", "an HTML page", once(plain(b"<html></html>")), "does not list its models"),
    models("error", "an error with terminal sequences", once(plain(COLOURS.encode(), "500 Oops")), "answers 500"),
    models(
        "redirect",
        "a redirect",
        once(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"),
        "redirect",
    ),
    models("closed", "no answer", once(), "cannot be reached"),
    models("reset", "a reset", once(RESET), "cannot be reached"),
    models("no-http", "what is no HTTP", once(b"SSH-2.0-OpenSSH_9.6\r\n"), "cannot be reached"),
    beside("version-deep", "nested deeply", "/version", once(plain(DEEP))),
    beside("version-list", "a list", "/version", listed([1])),
    beside("version-huge", "a body without end", "/version", forever(HEAD + b"\r\n", GIB)),
    beside(
        "metrics-garbage",
        "values that are no numbers",
        "/metrics",
        once(plain(b"vllm:num_preemptions_total ----\nvllm:kv_cache_usage_perc 1e\nvllm:num_requests_running +Inf\n")),
    ),
    beside(
        "metrics-absurd",
        "NaN, infinite and negative values",
        "/metrics",
        once(plain(b"vllm:num_preemptions_total NaN\nvllm:kv_cache_usage_perc -7\nvllm:num_requests_running -Inf\n")),
    ),
    beside("metrics-huge", "a body without end", "/metrics", forever(HEAD + b"\r\n", GIB)),
    beside("reset-cache-broken", "what is no HTTP", "/reset_prefix_cache", once(b"\0\0\0\r\n\r\n")),
]

ROWS = LOADS + PROBES
