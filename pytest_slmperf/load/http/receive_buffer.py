"""Received bytes until the load is over: some blocks in memory, the rest in a temporary file.

Memory is bounded for runs of any length.  Under load a read costs three appends; its contents, including the kernel's stamp,
are parsed afterwards.
"""

from __future__ import annotations

import struct
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import IO

ROOM = 16384  # bytes that one read may bring
READS = 1024  # in a block
MEMORY = 32 * 2**20
SAMPLED = 8  # every eighth read is counted
BULKY = 1024  # mean bytes per read of a flood, whose bytes are counted, in contrast to a stream of tokens
NS = 1_000_000_000
STEP_NS = 1_000_000  # more than a clock that is only steered can gain or lose between two looks at it
_TIMESPEC = struct.Struct("qq")
_HEAD = struct.Struct("qqq")


class Arena:
    """``datas``, ``stamps``, ``serials``: one entry a read, appended by the reader; ``end_pass`` after some of them.

    A stamp is the kernel's ``struct timespec`` of CLOCK_REALTIME, 16 bytes; ``stamp`` makes one where the kernel gave none.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.datas: list[bytes] = []
        self.stamps: list[bytes] = []
        self.serials: list[int] = []
        self._passes: list[int] = []  # flat triples: reads so far, time after the pass, distance of the clocks
        self._blocks: list[tuple[list[int], bytes, bytes, bytes, bytes]] = []
        self._room = memory
        self._spill: IO[bytes] | None = None
        self.spilled = 0
        self._flushed_reads = 0
        self._flushed_bytes = 0
        self.reads_of: Counter[int] = Counter()  # approximate number of reads of each request
        self.bytes_of: Counter[int] = Counter()  # bytes of each request in floods
        self.flooded = False  # the last bytes were a flood, whose requests should be checked
        self.to_monotonic = 0  # CLOCK_MONOTONIC − CLOCK_REALTIME, ns
        self._looked = 0  # CLOCK_MONOTONIC of that measurement
        self._steps: list[tuple[int, int]] = []  # spans (CLOCK_MONOTONIC ns) in which somebody set CLOCK_REALTIME

    @property
    def reads(self) -> int:
        return self._flushed_reads + len(self.datas)

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._flushed_bytes + sum(map(len, self.datas))

    def set_clock(self) -> None:
        """Measure the difference of the two clocks again, since the clock of the kernel's stamps can be set.

        Stamps of a span in which it was set have the time of their read: they may be before or after that.
        """
        before = time.monotonic_ns()
        real = time.time_ns()
        now = time.monotonic_ns()
        distance = (before + now) // 2 - real
        if self._looked and abs(distance - self.to_monotonic) > STEP_NS + now - before:
            self._steps.append((self._looked, now))
        self.to_monotonic, self._looked = distance, now

    def stamp(self) -> bytes:
        """The current time as a kernel stamp: for TLS, and for the first packets after stamps are switched on."""
        return _TIMESPEC.pack(*divmod(time.monotonic_ns() - self.to_monotonic, NS))

    def end_pass(self, first: int, now_ns: int) -> int:
        """Close a pass whose reads began at ``first`` of ``datas``; an upper bound on the time (ns) that its bytes waited.

        The oldest bytes are read first, so the bound runs from the first read's stamp to the end of the pass.
        """
        seconds, nanoseconds = _TIMESPEC.unpack(self.stamps[first])
        lag = now_ns - (seconds * NS + nanoseconds + self.to_monotonic)
        self._passes += (len(self.datas), now_ns, self.to_monotonic)
        if len(self.datas) >= READS:
            self._flush()
        return lag if 0 <= lag < 60 * NS else 0

    def _flush(self) -> None:
        data = b"".join(self.datas)
        block = (
            self._passes,
            b"".join(self.stamps),
            array("q", self.serials).tobytes(),
            array("i", map(len, self.datas)).tobytes(),
            data,
        )
        self._count(len(data))
        self._flushed_reads += len(self.datas)
        self._flushed_bytes += len(data)
        self.datas.clear()  # in place: the loop holds their append methods
        self.stamps.clear()
        self.serials.clear()
        self._passes = []
        self._room -= len(data)
        if self._room > 0:
            self._blocks.append(block)
            return
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(prefix="slmperf-load-")  # noqa: SIM115
        passes, stamps, serials, sizes, data = block
        self._spill.write(_HEAD.pack(len(passes), len(sizes) // 4, len(data)))
        for part in (array("q", passes).tobytes(), stamps, serials, sizes, data):
            self._spill.write(part)
        self.spilled += 1

    def _count(self, size: int) -> None:
        """Add the reads in memory to the counts of their requests, by a sample, which suffices to detect a flood."""
        for serial, times in Counter(self.serials[::SAMPLED]).items():
            self.reads_of[serial] += times * SAMPLED
        self.flooded = size > BULKY * len(self.datas)
        if self.flooded:
            for serial, data in zip(self.serials, self.datas, strict=True):
                self.bytes_of[serial] += len(data)

    def replay(self) -> Iterator[tuple[int, int, bytes]]:
        """(time in CLOCK_MONOTONIC ns, request serial, bytes) of every read, in the order of reading."""
        if self.datas:
            self._flush()
        for block in self._blocks:
            yield from _cut(self._steps, *block)
        if self._spill is not None:
            self._spill.seek(0)
            for _ in range(self.spilled):
                passes, count, size = _HEAD.unpack(self._spill.read(_HEAD.size))
                marks = array("q", self._spill.read(8 * passes)).tolist()
                yield from _cut(
                    self._steps, marks, *(self._spill.read(n) for n in (16 * count, 8 * count, 4 * count, size))
                )

    def close(self) -> None:
        if self._spill is not None:
            self._spill.close()


def _cut(
    steps: list[tuple[int, int]], passes: list[int], stamps: bytes, serials: bytes, sizes: bytes, data: bytes
) -> Iterator[tuple[int, int, bytes]]:
    ends = [0]
    for size in array("i", sizes):
        ends.append(ends[-1] + size)
    pieces = [data[begin:end] for begin, end in pairwise(ends)]
    return zip(_times(steps, passes, array("q", stamps)), array("q", serials), pieces, strict=True)


def _times(steps: list[tuple[int, int]], passes: list[int], stamps: array[int]) -> list[int]:
    """Arrival times of the bytes in the kernel; the end of their pass for impossible times, and within ``steps``, in which
    the clock of the stamps was set.

    Segments that the kernel merges before a read have the time of the last segment.
    """
    times: list[int] = []
    for place in range(0, len(passes), 3):
        upto, end, offset = passes[place : place + 3]
        begin = len(times)
        seconds, nanoseconds = stamps[2 * begin : 2 * upto : 2], stamps[2 * begin + 1 : 2 * upto : 2]
        part = [s * NS + n + offset for s, n in zip(seconds, nanoseconds, strict=True)]
        if any(first <= end <= last for first, last in steps):
            part = [end] * len(part)
        elif min(part) < end - 60 * NS or max(part) > end + 100_000:
            part = [at if end - 60 * NS <= at <= end + 100_000 else end for at in part]
        times += part
    return times
