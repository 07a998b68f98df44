"""An absolute CLOCK_MONOTONIC timer as a file descriptor.

``epoll_wait`` takes whole milliseconds in Python and is subject to timer slack; a timerfd fires to some microseconds.
Python has ``os.timerfd_create`` from 3.13 on; before that libc is called through ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time

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
        """Fire at ``at_ns``; a time already past fires at once. Arming for the same time again costs nothing."""
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
