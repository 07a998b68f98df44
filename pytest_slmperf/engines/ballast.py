"""Holds the scattered pieces of free memory, so that a duet's first engine is not the one that gets them.

The kernel hands out the smallest free pieces first.  On a machine that has been up for a while the first engine of a
session is built out of single pages, and ran 2 to 5 % slower than the next ones, started a moment later, in 27 of 28
duets of unchanged code on a two-core machine; with those pieces held by another process it did not.  Linux, CPU engines.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from pytest_slmperf.engines.memory import host_memory_bytes

PIECES = 5  # orders 0 … 4: free blocks of less than 128 KiB, where a page has 4 KiB
SHARE = 1 / 8  # of the memory that is available, at most
WORTH = 64 << 20  # bytes; less cannot slow an engine
_HOLD = """
import mmap, sys
size = int(sys.argv[1])
held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held.madvise(mmap.MADV_NOHUGEPAGE)
for page in range(0, size, mmap.PAGESIZE):
    held[page] = 1
print("held", flush=True)
sys.stdin.read()
"""


def scattered_bytes(buddyinfo: str, page: int = 4096) -> int:
    """Free memory in blocks of fewer than 2^PIECES pages, from the text of /proc/buddyinfo."""
    total = 0
    for line in buddyinfo.splitlines():
        counts = line.partition("zone")[2].split()[1:]
        total += sum(int(count) * page << order for order, count in enumerate(counts[:PIECES]))
    return total


def wanted_bytes() -> int:
    """How much to hold on this machine now; 0 where it would be of no use, or nothing is known."""
    try:
        available = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("MemAvailable:")
        )
        size = int(
            min(scattered_bytes(Path("/proc/buddyinfo").read_text()), SHARE * min(available, host_memory_bytes()))
        )
    except (OSError, ValueError, StopIteration):
        return 0  # not Linux, or hidden from this container
    return size if size >= WORTH else 0


class Ballast:
    """Memory held by a process of its own until ``release``; the process ends with this one, whatever happens."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _HOLD, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"held\n":  # no memory after all: go on without
            self.release()
            self.size = 0

    def release(self) -> None:
        """Give the memory back. Idempotent."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()
