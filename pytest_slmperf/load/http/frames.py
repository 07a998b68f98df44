"""Framed JSON between the parent and a client process: four bytes of length (big endian), then UTF-8 JSON."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

MAX_FRAME = 256 * 2**20


class FrameError(Exception):
    """The other side sent what is not a frame, or ended inside one."""


def write_frame(stream: IO[bytes], message: Any) -> None:
    data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MAX_FRAME:
        raise FrameError(f"a frame of {len(data)} bytes is more than the {MAX_FRAME} a frame may have")
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Any:
    """The next message, or None at the end of the stream."""
    head = _exactly(stream, 4)
    if not head:
        return None
    (size,) = struct.unpack(">I", head)
    if size > MAX_FRAME:
        raise FrameError(f"a frame announces {size} bytes, more than the {MAX_FRAME} a frame may have")
    data = _exactly(stream, size)
    if len(data) < size:
        raise FrameError("the stream ended inside a frame")
    try:
        return json.loads(data)
    except ValueError as error:
        raise FrameError(f"a frame is not JSON: {error}") from error


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
