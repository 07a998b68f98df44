"""Wake-ups of a client process: an absolute timer, and naps that let one wake-up serve many answers."""

from __future__ import annotations

import ctypes
import os
import time

# An absolute CLOCK_MONOTONIC timer as a file descriptor. ``epoll_wait`` takes whole milliseconds in Python and is
# subject to timer slack; a timerfd fires to some microseconds. Python has ``os.timerfd_create`` from 3.13 on; before
# that libc is called through ctypes.

_NS = 1_000_000_000
_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class Timer:
    """``fd`` becomes readable at the time of the last ``arm`` (CLOCK_MONOTONIC nanoseconds)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._libc.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC_NONBLOCK))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._armed = 0
        self._spec = _Itimerspec()
        self._reference = ctypes.byref(self._spec)

    def arm(self, at_ns: int) -> None:
        """Fire at ``at_ns``, or at once for a past time. Arming again for the same time costs nothing."""
        if at_ns == self._armed:
            return
        self._armed = at_ns
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(1, at_ns), _NS)
        if self._libc.timerfd_settime(self.fd, _ABSTIME, self._reference, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def clear(self) -> None:
        """Reset after it fired."""
        self._armed = 0
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.fd)


# Naps before reading, so that one wake-up of the client serves many answers. The kernel stamps bytes at their arrival: a nap
# costs no accuracy as long as no connection receives twice in it.

LONGEST_NS = 500_000
SHORTEST_NS = 100_000
LEAST_READS = 4  # a nap with fewer reads in it costs more than it saves
SHARE = 0.1  # longest nap, of the mean time between two reads of a connection
SPAN_NS = 5_000_000  # the rate of reads is measured over this time


class Nap:
    """``length_ns``: time for which the loop may sleep before it polls for events; 0: no sleep."""

    def __init__(self) -> None:
        self.length_ns = 0
        self._wanted = 0
        self._since = 0
        self._reads = 0

    def after_pass(self, reads: int, now_ns: int, running: int, drained: bool) -> None:
        """``running``: number of requests that wait for bytes; ``drained``: whether the pass read all received bytes."""
        self._reads += reads
        span = now_ns - self._since
        if span >= SPAN_NS:
            rate = self._reads / span
            length = min(float(LONGEST_NS), SHARE * running / rate) if rate else 0.0
            self._wanted = round(length) if length >= SHORTEST_NS and length * rate >= LEAST_READS else 0
            self._since, self._reads = now_ns, 0
        self.length_ns = self._wanted if drained else 0
