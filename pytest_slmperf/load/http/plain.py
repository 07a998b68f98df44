"""One plain HTTP request within limits of time for the whole call, of bytes, and of interim answers.

Redirects are not followed, so that the key and the load reach only the server that the user named.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from pytest_slmperf.load.http.connection import reachable, tls_context
from pytest_slmperf.load.http.limits import MAX_HEAD, MAX_INTERIM, MAX_PLAIN, content_length, refuse_encoding
from pytest_slmperf.load.http.wire import Dechunker, parse_head
from pytest_slmperf.load.plan import Target

PIECE = 64 * 2**10


class NoAnswer(OSError):
    """A failed call. ``reason``: for the user, without the key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(NoAnswer):
    """An answer whose ``status`` is an error or a redirect."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answered {status}")
        self.status = status


def fetch(
    target: Target, path: str, headers: Sequence[tuple[str, str]], timeout_s: float, body: bytes | None = None
) -> bytes:
    """The body of the answer to a GET of ``path``, or to a POST of ``body``. NoAnswer in every other case.

    ``timeout_s``: for the whole call, even if its bytes keep arriving slowly.
    """
    call = _Call(target, timeout_s)
    try:
        call.send(path, headers, body)
        return call.answer()
    except NoAnswer:
        raise
    except TimeoutError:
        raise NoAnswer(f"no whole answer within {timeout_s:g} s") from None
    except OSError as error:
        # No "from": a traceback would show this frame, which holds the key.
        raise NoAnswer(error.strerror or str(error)) from None
    except ValueError as error:
        raise NoAnswer(f"no HTTP answer: {error}") from None
    finally:
        call.close()


class _Call:
    def __init__(self, target: Target, timeout_s: float) -> None:
        self._target = target
        self._until = time.monotonic() + timeout_s
        self._sock: socket.socket | None = None

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, path: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> None:
        target = self._target
        family, address = reachable(target.host, target.port, self._left())
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.settimeout(self._left())
        self._sock.connect(address)
        if target.tls:
            self._sock.settimeout(self._left())
            self._sock = tls_context(target).wrap_socket(self._sock, server_hostname=target.host)
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {target.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += ["Accept-Encoding: identity", "Connection: close"]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self._sock.settimeout(self._left())
        self._sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))

    def _receive(self) -> bytes:
        assert self._sock is not None
        self._sock.settimeout(self._left())
        return self._sock.recv(PIECE)

    def answer(self) -> bytes:
        status, headers, rest = self._head()
        if not 200 <= status < 300:
            raise Refused(status)
        refuse_encoding(headers)
        if headers.get("transfer-encoding", "").lower().endswith("chunked"):
            return self._chunked(rest)
        length = content_length(headers)
        if length is not None and length > MAX_PLAIN:
            raise ValueError(f"a body of {length} bytes, more than {MAX_PLAIN}")
        pieces, size = [rest], len(rest)
        while length is None or size < length:
            piece = self._receive()
            if not piece:
                if length is not None:
                    raise ValueError(f"{size} of {length} bytes came")
                break
            pieces.append(piece)
            size = _within(size + len(piece))
        return b"".join(pieces)[:length]

    def _head(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and the first bytes of the body."""
        data = b""
        for _ in range(MAX_INTERIM):
            while True:
                end = data.find(b"\r\n\r\n")
                if not data.startswith(b"HTTP/1."[: len(data)]):
                    raise ValueError("it does not begin as one")
                if (len(data) if end < 0 else end) > MAX_HEAD:
                    raise ValueError(f"a head of more than {MAX_HEAD} bytes")
                if end >= 0:
                    break
                piece = self._receive()
                if not piece:
                    raise ValueError("the connection was closed" if not data else "its head was cut short")
                data += piece
            status, headers = parse_head(data[:end])
            data = data[end + 4 :]
            if status >= 200:
                return status, headers, data
        raise ValueError(f"more than {MAX_INTERIM} interim answers")

    def _chunked(self, rest: bytes) -> bytes:
        dechunker, pieces, size = Dechunker(), [], 0
        while True:
            piece = dechunker.feed(rest)
            pieces.append(piece)
            size = _within(size + len(piece))
            if dechunker.done:
                return b"".join(pieces)
            if dechunker.fault is not None:
                raise ValueError(dechunker.fault)
            rest = self._receive()
            if not rest:
                raise ValueError("its body was cut short")

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


def _within(size: int) -> int:
    if size > MAX_PLAIN:
        raise ValueError(f"a body of more than {MAX_PLAIN} bytes")
    return size
