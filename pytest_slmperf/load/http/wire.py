"""HTTP/1.1 as it is sent: the head of an answer, and the chunked transfer coding. Standard library only."""

from __future__ import annotations

import re
from functools import lru_cache

from pytest_slmperf.load.http.limits import MAX_CHUNK_LINE, MAX_HEAD, chunk_size

_STATUS = re.compile(r"[1-9][0-9]{2}")


@lru_cache(64)
def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and lower-case headers of a response head (without its blank line). ValueError on bytes that are no head.

    The caller must not change the result, which is cached, since the heads of a server are mostly equal.
    """
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("not an HTTP/1 response")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            if name == "content-length" and headers.get(name, value) != value:
                raise ValueError("two different content lengths")
            headers[name] = value
    if not _STATUS.fullmatch(rest[:3]):
        raise ValueError(f"a status of {rest[:3]!r}")
    return int(rest[:3]), headers


class Dechunker:
    """Removes the chunked transfer coding. ``done`` after the last chunk; ``fault``: why the bytes are not chunked.

    What came before a fault is given out, in whichever reads the bytes came.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the present chunk still to come, its CRLF included
        self._whole = False  # the empty line after the trailers has arrived
        self.done = False
        self.fault: str | None = None

    def feed(self, data: bytes) -> bytes:
        """The contents of the chunks in ``data``; empty after a fault."""
        if self.fault is not None:
            return b""
        buffer = self._buffer + data if self._buffer else data
        out: list[bytes] = []
        pos, size = 0, len(buffer)
        while pos < size and not self.done:
            if self._left:
                take = min(self._left, size - pos)
                body = min(take, max(0, self._left - 2))
                if body:
                    out.append(buffer[pos : pos + body])
                self._left -= take
                pos += take
                continue
            end = buffer.find(b"\r\n", pos)
            if end < 0 and size - pos <= MAX_CHUNK_LINE + 1:  # of which the last may be half of the line's end
                break
            try:
                self._begin(buffer[pos : end if end >= 0 else size])
            except ValueError as error:
                self.fault, self._buffer = str(error), b""
                return b"".join(out)
            pos = end + 2
        self._buffer = buffer[pos:] if pos < size else b""
        if self.done:
            self._end()
        return out[0] if len(out) == 1 else b"".join(out)

    def _begin(self, line: bytes) -> None:
        """Begin the chunk of this line. ValueError for a line that gives no size."""
        if len(line) > MAX_CHUNK_LINE:
            raise ValueError("a chunk without a size")
        length = chunk_size(line)
        if length:
            self._left = length + 2
        else:
            self.done = True

    def _end(self) -> None:
        """Read the trailers; a fault are bytes after them, which belong to no request."""
        while not self._whole and 0 <= (end := self._buffer.find(b"\r\n")) <= MAX_HEAD:
            self._whole = end == 0
            self._buffer = self._buffer[end + 2 :]
        if self._buffer and (self._whole or len(self._buffer) > MAX_HEAD + 1):
            self.fault = "bytes behind the end of the answer"

    def between(self) -> bool:
        """Whether the bytes so far end with a chunk."""
        return not self._left and not self._buffer and not self.done
