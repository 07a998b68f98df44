"""One connection of a client process, which connects, shakes hands, sends and receives without blocking; the endpoint.

While the load runs only the end of an answer is looked for.  Everything else is read from the kept bytes afterwards.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import threading
import time
from typing import Any

from pytest_slmperf.load.http.limits import (
    MAX_ANSWER,
    MAX_HEAD,
    MAX_INTERIM,
    READS_AT_ONCE,
    TOO_LARGE,
    content_length,
)
from pytest_slmperf.load.http.receive_buffer import ROOM, Arena
from pytest_slmperf.load.http.wire import parse_head
from pytest_slmperf.load.plan import Target

CONNECTING, HANDSHAKE, IDLE, BUSY, CLOSED = range(5)
SO_TIMESTAMPNS = 35  # Linux; Python's socket module does not name it
ANCILLARY = socket.CMSG_SPACE(16)
SHORT = 8  # bytes: a read that may hold only a part of the end
TAIL = 4096
# The last chunk with extensions and trailers. A chunk of data ends with its own CRLF and not with an empty line.
END = re.compile(rb"(?:\A|\r\n)0+(?:[ \t]*;[^\r\n]*)?\r\n(?:[^\r\n:]+:[^\r\n]*\r\n)*\r\n\Z")


class Connection:
    """``serial``: its present request, −1 when idle. ``error``: how the connection ended, when it ended badly.

    While ``streaming`` (inside a chunked answer) on plain TCP the loop itself reads with ``receive``, the socket's
    ``recvmsg``, and calls ``ended`` on bytes that may end the answer.  ``limit``: bytes that the present answer may have.
    ``more``: the last ``on_readable`` left bytes unread.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_interim",
        "_left",
        "_out",
        "_stamped",
        "_tls",
        "deadline",
        "error",
        "fd",
        "keep",
        "last_data",
        "last_ns",
        "limit",
        "mask",
        "more",
        "receive",
        "serial",
        "sock",
        "state",
        "streaming",
        "used",
    )

    def __init__(
        self, address: Any, family: int, tls: tuple[ssl.SSLContext, str] | None, stamped: bool = False
    ) -> None:
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stamped = stamped and tls is None  # under TLS, a kernel stamp does not correspond to a byte of the answer
        if self._stamped:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receive = self.sock.recvmsg
        self.fd = self.sock.fileno()
        self._tls = tls
        self._out: bytes | memoryview | None = None
        self.serial = -1
        self.used = 0  # complete answers so far
        self.error: str | None = None
        self.state = CONNECTING
        self.deadline = 0
        self.last_ns = 0
        self.limit = MAX_ANSWER
        self.more = False
        self.mask = -1  # the epoll mask it is registered with
        self._begin()
        result = self.sock.connect_ex(address)
        if result not in (0, errno.EINPROGRESS):
            self._lose(named(OSError(result, "")))

    def _begin(self) -> None:
        self._head: bytes | None = b""
        self._chunked = False
        self._interim = 0
        self._left = -1  # body bytes to come; −1 unknown, until the end of the stream
        self.last_data = b""
        self.keep = True
        self.streaming = False

    @property
    def wants_write(self) -> bool:
        return self.state == CONNECTING or (self.state == BUSY and self._out is not None)

    @property
    def unanswered(self) -> bool:
        """Whether no byte of the current answer has arrived."""
        return self._head == b""

    def request(self, serial: int, data: bytes, limit: int = MAX_ANSWER) -> None:
        """Send ``data`` as soon as the connection is ready."""
        self.serial = serial
        self.limit = limit
        self._out = data
        self._begin()
        if self.state == IDLE:
            self.state = BUSY
            self._send()

    def _send(self) -> None:
        try:
            while self._out is not None:
                sent = self.sock.send(self._out)
                self._out = memoryview(self._out)[sent:] if sent < len(self._out) else None
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._lose(named(error))

    def on_writable(self) -> None:
        if self.state == CONNECTING:
            result = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if result:
                self._lose(named(OSError(result, "")))
                return
            if self._tls is None:
                self._ready()
                return
            context, host = self._tls
            self.sock = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
            self.state = HANDSHAKE
        if self.state == HANDSHAKE:
            self._shake()
        elif self.state == BUSY and self._out is not None:
            self._send()

    def _shake(self) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLCertVerificationError:
            self._lose("tls_certificate")
            return
        except (ssl.SSLError, OSError) as error:
            self._lose("tls" if isinstance(error, ssl.SSLError) else named(error))
            return
        self._ready()

    def _ready(self) -> None:
        self.state = IDLE
        if self._out is not None:
            self.state = BUSY
            self._send()

    def on_readable(self, arena: Arena, to_end: bool) -> bool:
        """Read what has come, with its time. True when the answer is complete.

        ``to_end``: read until nothing is left, as after a sign that the other side has closed; otherwise a read that is not
        full is the last, since the poll reports further bytes anew.  After ``READS_AT_ONCE`` reads ``more`` is set: a server
        that floods keeps neither the loop from other connections nor the memory from being emptied.
        """
        if self.state == HANDSHAKE:
            self._shake()
            if self.state != IDLE and self.state != BUSY:
                return False
        done = self.more = False
        for _ in range(READS_AT_ONCE):
            if self.state == CLOSED or (data := self._read(arena)) is None:
                return done
            done = self._take(data, arena) or done
            if len(data) < ROOM and self._tls is None and not to_end:
                return done
        self.more = self.state != CLOSED
        return done

    def _read(self, arena: Arena) -> bytes | None:
        """One read, whose bytes and stamp are kept. None if there is nothing to read, or if the connection is over."""
        try:
            if self._stamped:
                data, notes, _, _ = self.receive(ROOM, ANCILLARY)
            else:
                data, notes = self.sock.recv(ROOM), []
        except OSError as error:
            self.failed(error)
            return None
        if data and self.state == BUSY:
            arena.datas.append(data)
            arena.stamps.append(notes[0][2] if notes else arena.stamp())
            arena.serials.append(self.serial)
        return data

    def failed(self, error: OSError) -> None:
        """A read raised ``error``: nothing to read yet, or the end of the connection."""
        if isinstance(error, BlockingIOError | ssl.SSLWantReadError | ssl.SSLWantWriteError):
            return
        self._lose("tls" if isinstance(error, ssl.SSLError) else named(error))

    def _take(self, data: bytes, arena: Arena) -> bool:
        """Follow the answer by ``data``; True when it is complete."""
        if not data:
            # Without a length, the end of the connection is the end of the answer.
            whole = self.state == BUSY and self._head is None and not self._chunked and self._left < 0
            self._lose(None if whole else "disconnected")
            return whole
        if self.state != BUSY:  # bytes without a request
            self._lose("bad_http")
            return False
        done = self._progress(data) if not self.streaming else self.ended(data)
        if done:
            self.finish()
        return done

    def finish(self) -> None:
        """End a complete answer; the connection is then free, unless the server closes it."""
        self.used += 1
        self.state = IDLE
        self.streaming = False
        if not self.keep:
            self._lose(None)

    def ended(self, data: bytes) -> bool:
        """Whether ``data`` completes a chunked answer, whose end can only be at the end of the received bytes."""
        if len(data) < TAIL:
            data = (self.last_data + data)[-TAIL:]
        self.last_data = data
        return data.endswith(b"\r\n\r\n") and END.search(data[-TAIL:]) is not None

    def _progress(self, data: bytes) -> bool:
        """Follow head and length; True when the answer is complete."""
        while self._head is not None:
            head = self._head + data
            end = head.find(b"\r\n\r\n")
            if (len(head) if end < 0 else end) > MAX_HEAD:
                self._lose("bad_http")
                return False
            if end < 0:
                self._head = head
                return False
            try:
                status, headers = parse_head(head[:end])
                length = content_length(headers)
            except ValueError:
                self._lose("bad_http")
                return False
            data = head[end + 4 :]
            if 100 <= status < 200:  # an interim answer, which the real answer follows
                self._head = b""
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    self._lose("bad_http")
                    return False
                continue
            self._left = -1 if length is None else length
            if self._left > self.limit:
                self._lose(TOO_LARGE)
                return False
            self._head = None
            self.keep = headers.get("connection", "keep-alive").lower() != "close"
            if head.startswith(b"HTTP/1.0"):
                self.keep = headers.get("connection", "").lower() == "keep-alive"
            self._chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
            if self._chunked:
                self.streaming = True
                self.last_data = b"\r\n"  # the CRLF of the head precedes the last chunk of an empty body
                return self.ended(data)
            if status in (204, 304):
                self._left = 0
        if self._left >= 0:
            self._left -= len(data)
            if self._left < 0:  # more than the length in the head
                self._lose("bad_http")
            return self._left == 0
        return False

    def _lose(self, error: str | None) -> None:
        if self.state != CLOSED:
            self.state = CLOSED
            self.error = error
            self.sock.close()

    def close(self) -> None:
        self._lose(None)

    def abort(self, error: str) -> None:
        """Give up the current request."""
        self._lose(error)


def named(error: OSError) -> str:
    known = {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.ETIMEDOUT: "connect_timeout",
        errno.EHOSTUNREACH: "unreachable",
        errno.ENETUNREACH: "unreachable",
        errno.EMFILE: "too_many_files",
        errno.EADDRNOTAVAIL: "no_local_port",
    }
    return known.get(error.errno or 0, f"oserror_{errno.errorcode.get(error.errno or 0, 'unknown')}")


# The endpoint of a client process: an address that answers, a TLS context, the head of each request.


def addresses_of(host: str, port: int, timeout_s: float) -> list[tuple[Any, ...]]:
    """What ``getaddrinfo`` says of the name. OSError if there is no such host, or if no name server answers in that time,
    which the system itself does not bound."""
    answers: list[list[tuple[Any, ...]]] = []
    errors: list[OSError] = []

    def ask() -> None:
        try:
            answers.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            errors.append(error)
        except UnicodeError:  # a label that no name server knows: empty, or too long
            errors.append(OSError(errno.EINVAL, "no name of a host"))

    asking = threading.Thread(target=ask, name="slmperf-name", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if answers:
        return answers[0]
    reason = (errors[0].strerror or str(errors[0])) if errors else f"no name server answered within {timeout_s:.3g} s"
    raise OSError(errno.EHOSTUNREACH, f"the address of {host} is not known: {reason}")


def reachable(host: str, port: int, timeout_s: float) -> tuple[int, Any]:
    """Family and address of ``host``; of several (localhost: ::1 and 127.0.0.1) the first that accepts a connection.

    OSError if none is known within ``timeout_s``.
    """
    until = time.monotonic() + timeout_s
    addresses = addresses_of(host, port, timeout_s)
    for family, _, _, _, address in addresses if len(addresses) > 1 else ():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(min(2.0, max(0.01, until - time.monotonic())))
            if probe.connect_ex(address) == 0:
                return int(family), address
    return int(addresses[0][0]), addresses[0][4]


def tls_context(target: Target) -> ssl.SSLContext:
    """The TLS context of an https endpoint, without checks for an ``insecure`` target."""
    context = ssl.create_default_context(cafile=target.ca_file)
    if target.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def request_head(target: Target, key: str | None) -> bytes:
    """The head of every request up to the value of Content-Length, which comes last."""
    path = target.path("chat/completions" if target.api == "chat" else "completions")
    headers = {
        "Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity",
        **dict(target.headers),
    }  # fmt: skip
    if key:
        headers["Authorization"] = f"Bearer {key}"
    lines = [f"POST {path} HTTP/1.1", f"Host: {target.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
