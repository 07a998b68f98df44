"""The clock of a meter, passed in so that tests can simulate time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """now: CLOCK_MONOTONIC seconds, the axis of every window; wall: seconds since 1970, to place timestamps of the
    driver.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


REAL = Clock()
