"""The mock server's loop: raw sockets, epoll, a timer wheel. One thread, one core, ~100,000 events a second.

The truth of each answer is the time just before each of its events was passed to the kernel, in CLOCK_MONOTONIC
nanoseconds, comparable with times of a client on the same machine.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import select
import signal
import socket
import sys
import time
from random import Random
from typing import Any

from pytest_slmperf.contrib.mock_server import bodies
from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.streams import MAX_TOKENS, Peer, Stream
from pytest_slmperf.load.http.wakeups import Timer

TICK = 17  # the wheel turns every 2¹⁷ ns = 131 µs
MAX_REQUEST = 64 * 2**20
NS = 1_000_000_000

REFUSALS = {
    "401": ("Unauthorized", "Incorrect API key provided: {key}"),
    "422": ("Unprocessable Entity", "body.ignore_eos: Extra inputs are not permitted"),
    "429": ("Too Many Requests", "rate limit"),
    "500": ("Internal Server Error", "the engine died"),
}


class MockLoop:
    """Serves until SIGTERM or SIGINT, or until ``stop`` is set."""

    def __init__(self, plan: MockPlan, host: str, port: int, truth_path: str | None = None) -> None:
        self.plan = plan
        self.stop = False
        self.random = Random(f"mock:{plan.seed}")
        self.listener = socket.create_server((host, port), backlog=4096)
        self.listener.setblocking(False)
        self.port = int(self.listener.getsockname()[1])
        self._poll = select.epoll()
        self._poll.register(self.listener, select.EPOLLIN)
        self._timer = Timer()
        self._poll.register(self._timer.fd, select.EPOLLIN)
        self._peers: dict[int, Peer] = {}
        self._wheel: dict[int, list[Stream]] = {}
        self._ticks: list[int] = []
        self._truth: list[dict[str, Any]] = []
        self._truth_path = truth_path
        self._spare = open(os.devnull, "rb")  # noqa: SIM115  # closed at the limit of open files
        self.served = 0

    def serve(self) -> None:
        poll, timer = self._poll.poll, self._timer
        listen_fd = self.listener.fileno()
        while not self.stop:
            ticks = self._ticks
            # Wakes at least this often, so that a signal to end is noticed.
            soon = time.monotonic_ns() + NS // 20
            timer.arm(min(soon, (ticks[0] + 1) << TICK) if ticks else soon)
            for fd, event in poll(-1, 128):
                if fd == timer.fd:
                    timer.clear()
                elif fd == listen_fd:
                    self._accept()
                else:
                    peer = self._peers.get(fd)
                    if peer is None:
                        continue
                    if event & select.EPOLLOUT:
                        self._flush(peer)
                    if event & ~select.EPOLLOUT and not peer.closed:
                        self._read(peer)
            now = time.monotonic_ns() >> TICK
            while ticks and ticks[0] < now:
                for stream in self._wheel.pop(heapq.heappop(ticks)):
                    if not stream.peer.closed:
                        self._step(stream)
        self._write_truth()

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                    return
                continue  # the client is gone again
            peer = Peer(sock)
            self._peers[peer.fd] = peer
            self._poll.register(peer.fd, select.EPOLLIN)

    def _turn_away(self) -> None:
        """At the limit of open files: accept a connection in place of the spare file, and close it.

        A connection that stays in the queue would wake the loop again and again.
        """
        self._spare.close()
        try:
            self.listener.accept()[0].close()
        except OSError:
            pass
        self._spare = open(os.devnull, "rb")  # noqa: SIM115  # held open for the next time

    def _close(self, peer: Peer, reset: bool = False) -> None:
        if peer.closed:
            return
        peer.closed = True
        self._peers.pop(peer.fd, None)
        if peer.stream is not None:
            self._done(peer.stream)
        if reset:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.sock.close()

    def _send(self, peer: Peer, data: bytes) -> None:
        if peer.out:
            peer.out += data
            return
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(peer)
            return
        if sent < len(data):
            peer.out = data[sent:]
            self._poll.modify(peer.fd, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, peer: Peer) -> None:
        data, peer.out = peer.out, b""
        self._poll.modify(peer.fd, select.EPOLLIN)
        self._send(peer, data)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(peer.buffer) > MAX_REQUEST:
            self._close(peer)
            return
        peer.buffer += data
        self._parse(peer)

    def _parse(self, peer: Peer) -> None:
        while peer.stream is None and not peer.closed:
            end = peer.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = peer.buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            length = headers.get("content-length", "0") or "0"
            if not (length.isascii() and length.isdigit() and len(length) < 12):
                self._send(peer, bodies.document("400 Bad Request", {"error": {"message": "no such Content-Length"}}))
                self._close(peer)
                return
            size = int(length)
            if len(peer.buffer) < end + 4 + size:
                return
            body = peer.buffer[end + 4 : end + 4 + size]
            peer.buffer = peer.buffer[end + 4 + size :]
            method, target, *_ = [*head[0].split(" "), "", ""]
            self._route(peer, method, target, headers, body)

    def _route(self, peer: Peer, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path, _, query = target.partition("?")
        if method == "POST" and path in ("/v1/completions", "/v1/chat/completions"):
            self._begin(peer, path.endswith("/chat/completions"), headers, body)
        elif path == "/v1/models":
            card = {"id": self.plan.model, "object": "model", "owned_by": "slmperf", "max_model_len": MAX_TOKENS}
            self._send(peer, bodies.document("200 OK", {"object": "list", "data": [card]}))
        elif path in ("/health", "/ping"):
            self._send(peer, bodies.document("200 OK", {}))
        elif path == "/version":
            self._send(peer, bodies.document("200 OK", {"version": "slmperf-mock"}))
        elif path == "/truth":
            self._send(peer, bodies.document("200 OK", self._truth))
            if "clear" in query:
                self._truth = []
        else:
            self._send(peer, bodies.document("404 Not Found", {"error": {"message": f"no such path: {path}"}}))

    def _begin(self, peer: Peer, chat: bool, headers: dict[str, str], body: bytes) -> None:
        plan = self.plan
        try:
            request = json.loads(body)
            stream = Stream(peer, peer.at_ns, chat, request, plan.usage, plan.most_tokens)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            self._send(peer, bodies.document("400 Bad Request", {"error": {"message": "the body is not a request"}}))
            return
        stream.fault = plan.fault(self.random) if plan.faults else None
        if stream.fault == "422" and not request.get("ignore_eos"):
            stream.fault = None
        stream.data = bodies.content(chat, plan.model, plan.chunk)
        peer.stream = stream
        if stream.fault in REFUSALS:
            self._refuse(stream, headers)
        elif stream.fault == "bad_http":
            self._send(peer, b"this is not HTTP at all\r\n\r\n")
            self._close(peer)
        elif stream.fault == "silent":
            pass
        elif stream.whole or stream.fault == "not_a_stream":
            stream.whole = True
            self._later(stream, stream.at_ns + round((plan.ttft_s + plan.itl_s * (stream.n_out - 1)) * NS))
        else:
            head = bodies.STREAM_HEAD
            if chat or plan.empty_first:
                head += bodies.role(chat, plan.model)
            self._send(peer, head)
            self._later(stream, stream.at_ns + self._wait(plan.ttft_s))

    def _refuse(self, stream: Stream, headers: dict[str, str]) -> None:
        key = headers.get("authorization", "").removeprefix("Bearer ")
        reason, text = REFUSALS[str(stream.fault)]
        text = text.format(key=key)
        extra = f"Retry-After: {self.plan.retry_after_s}\r\n" if stream.fault == "429" else ""
        self._send(stream.peer, bodies.document(f"{stream.fault} {reason}", {"error": {"message": text}}, extra))
        self._done(stream)

    def _wait(self, seconds: float) -> int:
        jitter = self.plan.jitter
        return round(seconds * NS * (1 + jitter * (2 * self.random.random() - 1))) if jitter else round(seconds * NS)

    def _later(self, stream: Stream, due_ns: int) -> None:
        stream.due_ns = due_ns
        tick = due_ns >> TICK
        bucket = self._wheel.get(tick)
        if bucket is None:
            self._wheel[tick] = [stream]
            heapq.heappush(self._ticks, tick)
        else:
            bucket.append(stream)

    def _step(self, stream: Stream) -> None:
        """Send the next event of a stream."""
        peer, plan = stream.peer, self.plan
        tokens = plan.chunk
        if stream.left > tokens and stream.fault is None and not stream.counted and not stream.whole:
            data = stream.data
            stream.left -= tokens
        else:
            if stream.whole:
                tokens = stream.n_out
                data = bodies.whole(stream.chat, plan.model, stream.n_in, stream.n_out)
                stream.left = 0
            elif stream.fault is not None and (
                stream.n_out - stream.left >= stream.fault_at or stream.fault == "no_tokens"
            ):
                self._misbehave(stream)
                return
            else:
                tokens = min(tokens, stream.left)
                stream.left -= tokens
                data = self._event(stream, tokens)
        stream.times.append(time.monotonic_ns())
        stream.sized.append(tokens)
        self._send(peer, data)
        if stream.left:
            # Relative to its due time, so that a late event does not delay all later events.
            self._later(stream, stream.due_ns + self._wait(plan.itl_s * min(plan.chunk, stream.left)))
        elif not peer.closed:
            self._done(stream)

    def _event(self, stream: Stream, tokens: int) -> bytes:
        """An unusual event: with a token count, or the last event with all that follows it."""
        plan, chat, n_in = self.plan, stream.chat, stream.n_in
        finish = None if stream.left or plan.separate_finish else "length"
        if stream.counted:
            data = bodies.counted(chat, plan.model, tokens, finish, n_in, stream.n_out - stream.left)
        else:
            data = bodies.content(chat, plan.model, tokens, finish)
        if not stream.left:
            if plan.separate_finish:
                data += bodies.content(chat, plan.model, 0, "length")
            if stream.want_usage:
                data += bodies.usage(chat, plan.model, n_in, stream.n_out)
            data += bodies.DONE + bodies.LAST
        return data

    def _misbehave(self, stream: Stream) -> None:
        peer, fault = stream.peer, stream.fault
        if fault == "stall":
            return
        if fault in ("disconnect", "reset"):
            self._close(peer, reset=fault == "reset")
            return
        data = {
            "error_event": bodies.event({"error": {"message": "the engine died", "code": 500}}),
            "malformed_sse": bodies.chunk(b"this is no event\n\n"),
            "bad_json": bodies.chunk(b'data: {"choices": [\n\n'),
            "no_tokens": bodies.content(stream.chat, self.plan.model, 0, "stop"),
        }.get(str(fault), b"")
        if fault != "cut_short":
            data += bodies.DONE
        self._send(peer, data + bodies.LAST)
        self._done(stream)

    def _done(self, stream: Stream) -> None:
        """Record the sent events; the connection is then free for its next request."""
        stream.peer.stream = None
        self.served += 1
        self._truth.append(
            {
                "user": stream.user,
                "received_ns": stream.at_ns,
                "times_ns": stream.times.tolist(),
                "tokens": stream.sized.tolist(),
                "n_in": stream.n_in,
                "n_out": sum(stream.sized),
                "fault": stream.fault,
            }
        )
        if stream.peer.buffer and not stream.peer.closed:
            self._parse(stream.peer)

    def _write_truth(self) -> None:
        if self._truth_path:
            with open(self._truth_path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in self._truth)

    def close(self) -> None:
        for peer in list(self._peers.values()):
            self._close(peer)
        self.listener.close()
        self._spare.close()
        self._timer.close()
        self._poll.close()


def run(plan: MockPlan, host: str, port: int, truth_path: str | None = None) -> int:
    """Serve until a signal ends it; prints one line with the address when it listens."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = MockLoop(plan, host, port, truth_path)

    def end(*_: object) -> None:
        loop.stop = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"slmperf mock server on http://{host}:{loop.port}/v1", flush=True)
    try:
        loop.serve()
    finally:
        loop.close()
    print(f"served {loop.served} requests", file=sys.stderr)
    return 0
