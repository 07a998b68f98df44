"""The mock server's state of a connection and of a request that it is answering."""

from __future__ import annotations

import socket
import struct
import time
from array import array
from typing import Any

SO_TIMESTAMPNS = 35
ROOM = 1 << 18
MAX_TOKENS = 1 << 20  # the model's length in /v1/models
_ANCILLARY = socket.CMSG_SPACE(16)


class Stream:
    """One request being answered. ``due_ns``: when its next event is due; ``data``: its most frequent event."""

    __slots__ = (
        "at_ns",
        "chat",
        "counted",
        "data",
        "due_ns",
        "fault",
        "fault_at",
        "left",
        "n_in",
        "n_out",
        "peer",
        "sized",
        "times",
        "user",
        "want_usage",
        "whole",
    )

    def __init__(
        self, peer: Peer, at_ns: int, chat: bool, request: dict[str, Any], usage: bool, most: int | None
    ) -> None:
        options = request.get("stream_options") or {}
        self.peer = peer
        self.at_ns = at_ns
        self.chat = chat
        self.n_out = max(1, int(request.get("max_tokens") or request.get("max_completion_tokens") or 16))
        if self.n_out > MAX_TOKENS:
            raise ValueError(f"more than {MAX_TOKENS} tokens")
        self.n_out = min(self.n_out, most or self.n_out)
        self.n_in = count_input(request)
        self.left = self.n_out
        self.want_usage = usage and bool(options.get("include_usage"))
        self.counted = usage and bool(options.get("continuous_usage_stats"))
        self.whole = not request.get("stream")
        self.user = request.get("user")
        self.fault: str | None = None
        self.fault_at = max(1, self.n_out // 2)
        self.due_ns = 0
        self.data = b""
        self.times = array("q")
        self.sized = array("i")  # tokens of each event


class Peer:
    """One connection. ``out``: bytes that the kernel has not accepted yet."""

    __slots__ = ("at_ns", "buffer", "closed", "fd", "out", "sock", "stream")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sock = sock
        self.fd = sock.fileno()
        self.buffer = b""
        self.at_ns = 0
        self.out = b""
        self.stream: Stream | None = None
        self.closed = False

    def receive(self) -> bytes:
        """The received bytes. ``at_ns`` becomes the time at which the kernel received them, so that the record includes the
        delay of a busy server.

        The kernel stamps with CLOCK_REALTIME; the difference to CLOCK_MONOTONIC is measured right away.
        """
        data, ancillary, _, _ = self.sock.recvmsg(ROOM, _ANCILLARY)
        real = time.time_ns()  # read first: a delay between both clocks can only make the recorded time later
        self.at_ns = time.monotonic_ns()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(value) >= 16:
                seconds, nanoseconds = struct.unpack("qq", value[:16])
                age = real - (seconds * 1_000_000_000 + nanoseconds)
                if 0 <= age < 60_000_000_000:
                    self.at_ns -= age
        return data


def count_input(request: dict[str, Any]) -> int:
    """Number of tokens in the prompt: its ids, or else its words."""
    prompt = request.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    if isinstance(prompt, str):
        return max(1, len(prompt.split()))
    messages = request.get("messages") or []
    return max(1, sum(len(str(message.get("content", "")).split()) for message in messages))
