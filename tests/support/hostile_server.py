"""An endpoint that does anything but what it should: bytes, counts and time without end, readings that cannot be."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

Answer = Callable[[], Iterator[bytes]]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET = b"\0reset"  # a piece that resets the connection
DONE = b"data: [DONE]\n\n"
MODEL = "hostile"


def plain(body: bytes, status: str = "200 OK", more: bytes = b"") -> bytes:
    """A whole answer with its length."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), more, len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str = "a", finish: str | None = None, **more: object) -> bytes:
    message = {"choices": [{"index": 0, "text": text, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def stream(*events: bytes) -> bytes:
    """A whole chunked stream."""
    return CHUNKED + b"".join(map(chunk, events)) + b"0\r\n\r\n"


def once(*pieces: bytes) -> Answer:
    """These pieces, then the end of the connection."""
    return lambda: iter(pieces)


def forever(first: bytes, piece: bytes, pause_s: float = 0.0) -> Answer:
    """``first``, and ``piece`` again and again."""

    def pieces() -> Iterator[bytes]:
        yield first
        while True:
            yield piece
            time.sleep(pause_s)

    return pieces


def dripped(data: bytes, pause_s: float = 0.2) -> Answer:
    """A byte at a time."""

    def pieces() -> Iterator[bytes]:
        for place in range(len(data)):
            yield data[place : place + 1]
            time.sleep(pause_s)

    return pieces


def silent() -> Iterator[bytes]:
    """Nothing, for a minute."""
    time.sleep(60)
    yield b""


MODELS = plain(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
NOT_FOUND = plain(b"{}", "404 Not Found")
GOOD = once(stream(event("a"), event("b", "length", usage={"prompt_tokens": 8, "completion_tokens": 2}), DONE))


class HostileServer:
    """Answers a path that ends in a name of ``answers`` with its pieces; models are listed rightly unless they are there.

    ``keys``: the Authorization headers that came; ``requests``: the paths of the load's requests.
    """

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers: dict[str, Answer] = {"/models": once(MODELS), "/completions": GOOD, **answers}
        self.keys: list[str] = []
        self.requests: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            head = data.partition(b"\r\n\r\n")[0].decode("latin-1")
            self.keys += [line for line in head.split("\r\n") if line.lower().startswith("authorization:")]
            path = head.split(" ")[1]
            if path.endswith("completions"):
                self.requests.append(path)
            answer = next((self.answers[name] for name in self.answers if path.endswith(name)), once(NOT_FOUND))
            for part in answer():
                if part == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                connection.sendall(part)

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
