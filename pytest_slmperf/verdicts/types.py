"""The numbers that go into a verdict and the verdict that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_slmperf.record import VerdictName


@dataclass(frozen=True, slots=True)
class Gate:
    """How one metric of one test is judged. ``tolerance`` τ and ``limit`` λ are relative (0.01 = 1 %)."""

    metric: str
    better: Literal["higher", "lower"]
    tolerance: float = 0.01
    limit: float = 0.05
    gate: bool = True  # False: judged and shown, never fails


@dataclass(frozen=True, slots=True)
class LaunchSample:
    """The clean rounds of one engine launch for one metric. ``pair`` ties the two launches of a duet pair;
    ``session`` names the session that measured it; ``bound`` is the relative error bound of the readings (energy)."""

    rounds: Sequence[float]
    session: str = ""
    pair: int | None = None
    bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict with everything that led to it. ``change`` = candidate ÷ baseline − 1, ``ci`` its interval."""

    metric: str
    verdict: VerdictName
    change: float | None
    ci: tuple[float, float] | None
    reason: str
    more_launches: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)
