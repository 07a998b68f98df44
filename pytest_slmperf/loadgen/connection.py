"""One connection of a client process: connects, shakes hands, sends, receives; never blocks.

Only what must be known while the load runs is looked at here: where an answer ends.  Everything else is read from the
kept bytes after the window.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

from pytest_slmperf.loadgen.arena import ROOM, Arena
from pytest_slmperf.loadgen.wire import MAX_HEAD, parse_head

CONNECTING, HANDSHAKE, IDLE, BUSY, CLOSED = range(5)
SO_TIMESTAMPNS = 35  # Linux; Python's socket module does not name it
ANCILLARY = socket.CMSG_SPACE(16)
END = b"0\r\n\r\n"


class Connection:
    """``serial`` is the request it works on, −1 when idle. ``error`` says how it ended, when it ended badly."""

    __slots__ = (
        "_chunked",
        "_head",
        "_left",
        "_out",
        "_stamped",
        "_tail",
        "_tls",
        "deadline",
        "error",
        "fd",
        "keep",
        "last_ns",
        "mask",
        "serial",
        "sock",
        "state",
        "used",
    )

    def __init__(
        self, address: Any, family: int, tls: tuple[ssl.SSLContext, str] | None, stamped: bool = False
    ) -> None:
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stamped = stamped and tls is None  # under TLS the kernel does not know what a byte belongs to
        if self._stamped:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.fd = self.sock.fileno()
        self._tls = tls
        self._out: memoryview | None = None
        self.serial = -1
        self.used = 0  # answers it has brought
        self.error: str | None = None
        self.state = CONNECTING
        self.deadline = 0
        self.last_ns = 0
        self.mask = -1  # the epoll mask it is registered with
        self.keep = True
        self._begin()
        result = self.sock.connect_ex(address)
        if result not in (0, errno.EINPROGRESS):
            self._lose(_named(OSError(result, "")))

    def _begin(self) -> None:
        self._head: bytes | None = b""
        self._chunked = False
        self._left = -1  # body bytes to come; −1 unknown, until the end of the stream
        self._tail = b""

    @property
    def wants_write(self) -> bool:
        return self.state == CONNECTING or (self.state == BUSY and self._out is not None)

    def request(self, serial: int, data: bytes) -> None:
        """Send ``data`` as soon as it may."""
        self.serial = serial
        self._out = memoryview(data)
        self._begin()
        if self.state == IDLE:
            self.state = BUSY
            self._send()

    def _send(self) -> None:
        try:
            while self._out is not None:
                sent = self.sock.send(self._out)
                self._out = self._out[sent:] if sent < len(self._out) else None
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._lose(_named(error))

    def on_writable(self) -> None:
        if self.state == CONNECTING:
            result = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if result:
                self._lose(_named(OSError(result, "")))
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
            self._lose("tls" if isinstance(error, ssl.SSLError) else _named(error))
            return
        self._ready()

    def _ready(self) -> None:
        self.state = IDLE
        if self._out is not None:
            self.state = BUSY
            self._send()

    def on_readable(self, arena: Arena, now: Any) -> bool:
        """Take what has come, with its time. True when the answer is complete."""
        if self.state == HANDSHAKE:
            self._shake()
            return False
        if self._tls is None:
            return self._read(arena, now) is True
        while True:  # TLS may hold more decrypted bytes than the kernel's readiness tells of
            result = self._read(arena, now)
            if result is not False:
                return result is True
            if self.state == CLOSED:
                return False

    def _read(self, arena: Arena, now: Any) -> bool | None:
        """One read: True when the answer is complete, None when there was nothing to read."""
        pos = arena.pos
        try:
            if self._stamped:
                size, stamps, _, _ = self.sock.recvmsg_into((arena.view[pos : pos + ROOM],), ANCILLARY)
                at = arena.arrived(stamps, now())
            else:
                at = now()
                size = self.sock.recv_into(arena.view[pos : pos + ROOM])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            self._lose("tls" if isinstance(error, ssl.SSLError) else _named(error))
            return None
        if size == 0:
            # without a length the end of the connection is the end of the answer
            whole = self.state == BUSY and self._head is None and not self._chunked and self._left < 0
            self._lose(None if whole else "disconnected")
            return whole
        if self.state != BUSY:  # bytes that nobody asked for
            self._lose("bad_http")
            return None
        self.last_ns = at
        view = arena.view
        if self._head is None and self._chunked:
            # the common case: the end can only be at the end of what has come
            if size >= 7:
                tail = bytes(view[pos + size - 7 : pos + size])
            else:
                tail = (self._tail + bytes(view[pos : pos + size]))[-7:]
            self._tail = tail
            done = tail.endswith(END) and tail[:2] == b"\r\n"
        else:
            done = self._progress(bytes(view[pos : pos + size]))
        arena.keep(at, self.serial, size)
        if done:
            self.used += 1
            self.state = IDLE
            if not self.keep:
                self._lose(None)
        return done

    def _progress(self, data: bytes) -> bool:
        """Follow head and length; True when the answer is complete."""
        if self._head is not None:
            head = self._head + data
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self._head = head
                if len(head) > MAX_HEAD:
                    self._lose("bad_http")
                return False
            self._head = None
            try:
                status, headers = parse_head(head[:end])
                self._left = int(headers["content-length"]) if "content-length" in headers else -1
            except ValueError:
                self._lose("bad_http")
                return False
            self.keep = headers.get("connection", "").lower() != "close"
            self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
            data = head[end + 4 :]
            if self._chunked:
                self._tail = (b"\r\n" + data)[-7:]  # the CRLF of the head stands before an empty body's last chunk
                return self._tail.endswith(END) and self._tail[:2] == b"\r\n"
            if status in (204, 304):
                self._left = 0
        if self._left >= 0:
            self._left -= len(data)
            return self._left <= 0
        return False

    def _lose(self, error: str | None) -> None:
        if self.state != CLOSED:
            self.state = CLOSED
            self.error = error
            self.sock.close()

    def close(self) -> None:
        self._lose(None)

    def abort(self, error: str) -> None:
        """Give up on the present request."""
        self._lose(error)


def _named(error: OSError) -> str:
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
