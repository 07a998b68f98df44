"""The clock a meter reads, handed in so that time can be simulated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """now: CLOCK_MONOTONIC seconds, the axis of every window; wall: seconds since 1970, only to place driver stamps."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


REAL = Clock()
