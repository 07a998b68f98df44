"""Servers that are right in unusual ways, and some that are not: what the whole client makes of the bytes they send."""

import gzip
import json
import socket
import threading
import time
import zlib

from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_END = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def message(text, finish=None, chat=False, **more):
    source = {"delta": {"content": text}} if chat else {"text": text}
    return json.dumps({"choices": [{"index": 0, **source, "finish_reason": finish}], **more}, ensure_ascii=False)


def event(*args, end="\n", **more) -> bytes:
    return f"data: {message(*args, **more)}{end}{end}".encode()


def chunk(data: bytes, size: str = "%x") -> bytes:
    return (size % len(data)).encode() + b"\r\n" + data + b"\r\n"


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


class Server:
    """Answers a request with the pieces of the answer that its body names, a moment between them; b"" closes."""

    def __init__(self, answers: dict[str, list[bytes]], pause: float = 0.001) -> None:
        self.answers, self.pause = answers, pause
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                while request := connection.recv(65536):
                    for part in self.answers[json.loads(request.rpartition(b"\r\n")[2])]:
                        if not part:
                            return
                        connection.sendall(part)
                        time.sleep(self.pause)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def asked(answers, n_out=3, api="completions", pause=0.001):
    """Every answer once, one after the other; what became of each, by name, and all of it measured."""
    names = list(answers)
    with Server(answers, pause) as server:
        load = LoadPlan([PlannedRequest(k, json.dumps(name), n_out=n_out) for k, name in enumerate(names)], loop="closed",
                    concurrency=1, preconnect=1, stall_timeout_s=1.0, request_timeout_s=4.0, limit_s=30.0)  # fmt: skip
        outcome = drive(Target(server.url, api=api, key_env=None), load)
    rows = outcome.requests
    came = {names[index]: (rows.error[k], rows.n_out[k]) for k, index in enumerate(rows.number)}
    return came, measure(outcome)


DONE = b"data: [DONE]\n\n"
THREE = event("a") + event("b") + event("c", "length")


def chunks(*parts: bytes) -> list[bytes]:
    return [CHUNKED, *(chunk(part) for part in parts), b"0\r\n\r\n"]


def encoded(name: bytes) -> bytes:
    return CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: " + name + b"\r\n\r\n")


RIGHT = {
    "utf8-and-prefix-split": pieces(
        CHUNKED + chunk(event("日本")) + chunk(event("é") + event("ü", "stop")) + chunk(DONE) + b"0\r\n\r\n", 5
    ),
    "byte-by-byte": pieces(CHUNKED + chunk(THREE + DONE) + b"0\r\n\r\n", 1),
    "crlf": chunks(*(event(text, end="\r\n") for text in "ab"), event("c", "stop", end="\r\n"), b"data: [DONE]\r\n\r\n"),
    "cr-only": chunks(*(event(text, end="\r") for text in "ab"), event("c", "stop", end="\r"), b"data: [DONE]\r\r"),
    "comments": chunks(b": hello\n\n", event("a"), b": ping\n\n:\n\n", event("b"), event("c", "stop"), DONE),
    "fields": chunks(b"retry: 100\n\n", b"event: message\nid: 7\n" + event("a"), event("b"), event("c", "stop"), DONE),
    "no-space": chunks(*(part.replace(b"data: ", b"data:") for part in (event("a"), event("b"), event("c", "stop"), DONE))),
    "many-in-one": [CHUNKED + chunk(THREE) + chunk(DONE) + b"0\r\n\r\n"],
    "no-done": chunks(event("a"), event("b"), event("c", "length")),
    "usage-last": chunks(THREE, b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n', DONE),
    "usage-without-choices": chunks(THREE, b'data: {"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n', DONE),
    "filter-first": chunks(b'data: {"choices":[],"prompt_filter_results":[]}\n\n', THREE, DONE),
    "upper-case-size-and-extension": [CHUNKED, chunk(THREE, "00%X;a=b"), chunk(DONE), b"000;last\r\n\r\n"],
    "trailers": [CHUNKED, chunk(THREE + DONE), b"0\r\nServer-Timing: x\r\n", b"X-More: y\r\n\r\n"],
    "last-chunk-cut": [CHUNKED, chunk(THREE + DONE), b"0", b"\r\n", b"\r", b"\n"],
    "length-told": [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
                    % len(THREE + DONE), THREE, DONE],
    "interim-answer": [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", *chunks(THREE, DONE)],
    "lower-case-head": [CHUNKED.replace(b"Transfer-Encoding: chunked", b"transfer-encoding:   Chunked"),
                        chunk(THREE), b"0\r\n\r\n"],
}  # fmt: skip


COMPRESSED = {
    "gzip": [encoded(b"gzip"),
             *(chunk(part) for part in pieces(gzip.compress(THREE + DONE), 30)), b"0\r\n\r\n"],
    "deflate": [encoded(b"deflate"),
                chunk(zlib.compress(THREE + DONE)), b"0\r\n\r\n"],
}  # fmt: skip


def test_right_answers_in_unusual_forms():
    came, result = asked(RIGHT)
    assert came == dict.fromkeys(RIGHT, (None, 3)), result.examples
    assert result.sender.stale_reconnects == 0


def test_compressed_answers_are_not_asked_for_and_not_taken():
    """What a body unpacks to is known only when it is too late: a bomb of 64 kB took the machine's memory."""
    came, _ = asked(COMPRESSED)
    assert came == dict.fromkeys(COMPRESSED, ("bad_http", 0))


def test_answers_that_end_with_their_connection():
    closing = OPEN_END.replace(b"1.0", b"1.1").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = {
        f"{head[5:8]!r} {end!r}": [head, event("a"), event("b") + event("c", "stop"), end, b""]
        for head in (OPEN_END, closing)
        for end in (DONE, b"data: [DONE]\n", b": bye\n\n")
    }
    came, result = asked(answers)
    assert came == dict.fromkeys(answers, (None, 3)), result.examples


def test_chat_with_a_role_first_reasoning_and_tool_calls():
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    call = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}\n\n'
    parts = [CHUNKED, chunk(role), chunk(thought), chunk(call), chunk(event("c", "stop", chat=True)), b"0\r\n\r\n"]
    came, result = asked({"chat": parts}, api="chat", pause=0.1)
    assert came == {"chat": (None, 3)}
    # the role came 0.1 s after the request, the first token another 0.1 s later
    assert result.values["ttft_mean"] > 190


def test_several_choices_are_tokens_of_one_request():
    both = b'data: {"choices":[{"index":0,"text":"a"},{"index":1,"text":"b","finish_reason":null}]}\n\n'
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":4}'
    last = b'data: {"choices":[{"index":1,"text":"","finish_reason":"stop"}],' + usage + b"}\n\n"
    assert asked({"two": chunks(both, both, last, DONE)}, n_out=4)[0] == {"two": (None, 4)}


WRONG = {
    "no-gzip": ([encoded(b"gzip"), chunk(b"no gzip"), b"0\r\n\r\n"], "bad_http"),
    "encoding": ([encoded(b"br"), chunk(THREE), b"0\r\n\r\n"], "bad_http"),
    "error-event": (chunks(event("a"), b'event: error\ndata: {"message": "out of memory"}\n\n'), "error_event"),
    "page": ([b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>"], "not_a_stream"),
    "redirect": ([b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2\r\nContent-Length: 0\r\n\r\n"], "http_307"),
    "unauthorised": ([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"], "http_401"),
    "error-chunked": ([b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"plain text\r\n"), b"0\r\n\r\n"],
                      "http_500"),
    # the head and half an event come, then nothing, and the connection stays open
    "half-open": ([CHUNKED, chunk(event("a")), event("b")[:20]], "stalled"),
    "huge-head": ([b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 70_000], "bad_http"),
    "negative-length": ([b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], "bad_http"),
}  # fmt: skip


def test_wrong_answers_have_a_name():
    came, result = asked({name: parts for name, (parts, _) in WRONG.items()})
    assert {name: error for name, (error, _) in came.items()} == {name: kind for name, (_, kind) in WRONG.items()}
    assert result.examples["error_event"] == "out of memory"


def test_localhost_with_a_server_on_one_family_only():
    with Server({"x": chunks(THREE, DONE)}) as server:
        target = Target(server.url.replace("127.0.0.1", "localhost"), key_env=None)
        result = measure(drive(target, LoadPlan([PlannedRequest(0, '"x"', n_out=3)], loop="closed", concurrency=1)))
    assert result.failures == {}
