"""Where received bytes are kept until the window is over: one fixed buffer, spilled to a temporary file when full.

Memory stays bounded whatever the length of a run, and receiving costs no allocation of the bytes themselves.
"""

from __future__ import annotations

import struct
import tempfile
import time
from array import array
from collections.abc import Iterator

_TIMESPEC = struct.Struct("qq")
ROOM = 65536  # what one read may bring


class Arena:
    """``view[pos:pos + ROOM]`` is where the next read goes; ``keep`` says whose bytes they were and when they came."""

    def __init__(self, size: int = 16 * 2**20) -> None:
        self._buffer = bytearray(max(size, 2 * ROOM))
        self.view = memoryview(self._buffer)
        self.pos = 0
        self._last = len(self._buffer) - ROOM
        self._marks = array("q")  # flat triples: time in ns, request serial, bytes
        self._spill: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._blocks: list[tuple[int, int]] = []  # (marks, bytes) of each spilled block
        self.received = 0
        self.to_monotonic = 0  # CLOCK_MONOTONIC − CLOCK_REALTIME, ns
        self.worst_lag = 0  # longest that bytes waited to be read, since it was last taken

    def set_clock(self) -> None:
        """Take the distance of the two clocks again; the kernel stamps with the one that can be set."""
        before = time.monotonic_ns()
        real = time.time_ns()
        self.to_monotonic = (before + time.monotonic_ns()) // 2 - real

    def arrived(self, stamps: list[tuple[int, int, bytes]], now_ns: int) -> int:
        """When the kernel had the bytes of a read that ended at ``now_ns``, from the stamps that came with it.

        ``now_ns`` where there is none (the first packets after the stamps were switched on) or it cannot be right.
        Segments that melted together in the kernel before they were read carry the last one's time.
        """
        if not stamps:
            return now_ns
        seconds, nanoseconds = _TIMESPEC.unpack_from(stamps[0][2])
        at: int = seconds * 1_000_000_000 + nanoseconds + self.to_monotonic
        lag = now_ns - at
        if not -100_000 <= lag < 60_000_000_000:
            return now_ns
        if lag > self.worst_lag:
            self.worst_lag = lag
        return at

    def keep(self, at_ns: int, serial: int, size: int) -> None:
        self._marks.extend((at_ns, serial, size))
        self.received += size
        self.pos += size
        if self.pos > self._last:
            self._flush()

    def _flush(self) -> None:
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(prefix="slmperf-load-")  # type: ignore[assignment] # noqa: SIM115
        assert self._spill is not None
        self._spill.write(self._marks.tobytes())
        self._spill.write(self.view[: self.pos])
        self._blocks.append((len(self._marks), self.pos))
        self._marks = array("q")
        self.pos = 0

    def replay(self) -> Iterator[tuple[int, int, bytes]]:
        """(time in ns, request serial, bytes) in the order of arrival."""
        if self._spill is not None:
            self._spill.seek(0)
            for count, size in self._blocks:
                marks = array("q")
                marks.frombytes(self._spill.read(count * marks.itemsize))
                yield from _cut(marks, memoryview(self._spill.read(size)))
        yield from _cut(self._marks, self.view[: self.pos])

    def close(self) -> None:
        if self._spill is not None:
            self._spill.close()


def _cut(marks: array[int], data: memoryview) -> Iterator[tuple[int, int, bytes]]:
    pos = 0
    for index in range(0, len(marks), 3):
        size = marks[index + 2]
        yield marks[index], marks[index + 1], bytes(data[pos : pos + size])
        pos += size
