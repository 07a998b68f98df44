"""Frames between two processes: a length of four bytes (big-endian), then a JSON object in UTF-8.

Standard library only and Python 3.10: an engine's worker and a load client load this file too.  Messages of a worker:

parent → worker   ``{"id": 7, "call": "generate", "params": {…}}``
worker → parent   ``{"id": 7, "event": {…}}`` any number of times while the call runs, then
                  ``{"id": 7, "ok": true, "result": {…}}`` or ``{"id": 7, "ok": false, "error": {…}}``
                  where error is ``{"kind", "message", "mend", "traceback"}``
Those of a load client are in ``load/http/client.py``.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 512 * 2**20  # a frame larger than this is a fault, not a message


class WireError(Exception):
    """The stream does not hold a frame of this protocol."""


def pack(message: dict[str, Any]) -> bytes:
    """The frame of ``message``. ValueError on NaN and infinity, which JSON lacks; WireError where it is too large."""
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a message of {len(body)} bytes is larger than the {MAX_FRAME_BYTES} a frame may have")
    return HEADER.pack(len(body)) + body


def write_all(fd: int, data: bytes) -> None:
    """Write every byte to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_within(fd: int, data: bytes, timeout_s: float) -> None:
    """Write every byte to a pipe, which is not blocking from then on. TimeoutError where its reader takes longer."""
    os.set_blocking(fd, False)
    until = time.monotonic() + timeout_s
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            left = until - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                raise TimeoutError(f"the other side did not read within {timeout_s:.0f} s") from None


def decode(body: bytes) -> dict[str, Any]:
    """The message in the body of a frame. WireError unless it is a JSON object."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame holds no JSON ({error})") from error
    if not isinstance(message, dict):
        raise WireError("a frame holds JSON that is not an object")
    return message


class Decoder:
    """Turns chunks of bytes, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def inside_a_frame(self) -> bool:
        """Whether bytes of an unfinished frame are kept."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk

    def next(self) -> dict[str, Any] | None:
        """The next whole message, or None when more bytes are needed. WireError on bytes that are no frame."""
        if len(self._buffer) < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise WireError(f"a frame claims {length} bytes; something wrote to the protocol's pipe")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return decode(body)


def read_message(fd: int, decoder: Decoder) -> dict[str, Any] | None:
    """The next message from a blocking descriptor; None at its end. WireError where it ends inside a frame."""
    while True:
        message = decoder.next()
        if message is not None:
            return message
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            if decoder.inside_a_frame:
                raise WireError("the stream ended inside a frame")
            return None
        decoder.feed(chunk)
