"""One side of a measurement: its points and what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_slmperf.frontier.points import Key
from pytest_slmperf.measuring.launch import Measured
from pytest_slmperf.scenarios.sweep import SweepPoint


@dataclass
class Side:
    """``points`` by key (a plain scenario has one), and the launches of each that may be used."""

    role: Literal["candidate", "baseline"]
    points: dict[Key, SweepPoint]
    measured: dict[Key, list[Measured]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)  # why a point failed for good
    disturbed: dict[Key, str] = field(default_factory=dict)  # why a launch of a point was spoilt
    seconds: dict[Key, float] = field(default_factory=dict)  # of a point's first measurement
    facts: dict[str, Any] = field(default_factory=dict)  # of the engine that ran last
    log_tail: str = ""
