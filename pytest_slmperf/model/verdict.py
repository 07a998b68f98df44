"""The numbers that go into a verdict, the verdict that comes out, and how it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from pytest_slmperf.model.defaults import LIMIT, TOLERANCE


class Verdict(StrEnum):
    """What a comparison says of one metric, the worst first. In JSON it is the plain word."""

    REGRESSED = "regressed"
    INCOMPARABLE = "incomparable"
    INCONCLUSIVE = "inconclusive"
    NEW = "new"
    IMPROVED = "improved"
    SAME = "same"

    @property
    def severity(self) -> int:
        """Rank among all verdicts: 0 is the worst."""
        return _WORST_FIRST.index(self)


_WORST_FIRST = tuple(Verdict)

UNDECIDED = (Verdict.INCOMPARABLE, Verdict.INCONCLUSIVE, Verdict.NEW)
"""The verdicts that answer nothing: neither a regression nor its absence was shown."""


def worst(verdicts: Iterable[str]) -> Verdict | None:
    """The verdict that names the outcome of everything that was judged; None where nothing was."""
    return min(map(Verdict, verdicts), key=lambda verdict: verdict.severity, default=None)


class VerdictRecord(msgspec.Struct, kw_only=True):
    """One verdict. ``change`` is the relative change candidate ÷ baseline − 1, with its interval ``ci``."""

    metric: str
    verdict: Verdict
    change: float | None = None
    ci: tuple[float, float] | None = None
    baseline: str | None = None
    tolerance: float | None = None
    limit: float | None = None
    gate: bool = True
    reason: str = ""  # one line for a reader
    detail: dict[str, Any] = {}  # everything that led to it, for the report
    more_launches: int | None = None  # inconclusive: how many more launches it would take


@dataclass(frozen=True, slots=True)
class Gate:
    """How one metric of one test is judged. ``tolerance`` τ and ``limit`` λ are relative (0.01 = 1 %)."""

    metric: str
    better: Literal["higher", "lower"]
    tolerance: float = TOLERANCE
    limit: float = LIMIT
    gate: bool = True  # False: judged and shown, never fails


@dataclass(frozen=True, slots=True)
class LaunchSample:
    """The clean rounds of one engine launch for one metric. ``pair`` ties the two launches of a duet pair;
    ``session`` names the session that measured it; ``bound`` is the relative error bound of the readings (energy);
    ``host`` the launch host that the engine was forked from, None for a process of its own."""

    rounds: Sequence[float]
    session: str = ""
    pair: int | None = None
    bound: float = 0.0
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict with everything that led to it. ``change`` = candidate ÷ baseline − 1, ``ci`` its interval."""

    metric: str
    verdict: Verdict
    change: float | None = None
    ci: tuple[float, float] | None = None
    reason: str = ""
    more_launches: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


# What changed between the two sides of a comparison.


class Difference(msgspec.Struct, kw_only=True):
    """One thing that is not the same on both sides and yet may be compared: a version, a setting, a clock, …"""

    what: str
    baseline: Any = None
    candidate: Any = None
