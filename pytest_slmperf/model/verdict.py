"""The input of a verdict (gates, samples), the judgement, and its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from pytest_slmperf.model.defaults import LIMIT, TOLERANCE


class Verdict(StrEnum):
    """The outcome of a comparison of one metric, the worst first. JSON has the plain word."""

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


NEXT_TIME = "the next session here compares with this one"
"""The end of a reason where the session's result is kept on this machine, so that the next session can judge."""


def worst(verdicts: Iterable[str]) -> Verdict | None:
    """The worst of the verdicts, which names their common outcome; None without a verdict."""
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
    detail: dict[str, Any] = {}  # all grounds of the verdict, for the report
    more_launches: int | None = None  # for inconclusive: the number of further launches that it needs
    provisional: bool = False  # compared with this machine's last sessions, which nobody approved


@dataclass(frozen=True, slots=True)
class Gate:
    """The rule for one metric of one test. ``tolerance`` τ and ``limit`` λ are relative (0.01 = 1 %)."""

    metric: str
    better: Literal["higher", "lower"]
    tolerance: float = TOLERANCE
    limit: float = LIMIT
    gate: bool = True  # False: judged and shown, never fails


@dataclass(frozen=True, slots=True)
class LaunchSample:
    """The clean rounds of one engine launch for one metric.

    pair:    number of the pair in a duet, equal for its two launches
    session: the session that measured it
    bound:   relative error bound of the readings (energy)
    host:    the launch host that forked the engine; None for a process of its own
    """

    rounds: Sequence[float]
    session: str = ""
    pair: int | None = None
    bound: float = 0.0
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict with its grounds. ``change`` = candidate ÷ baseline − 1, ``ci``: its interval."""

    metric: str
    verdict: Verdict
    change: float | None = None
    ci: tuple[float, float] | None = None
    reason: str = ""
    more_launches: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


# Differences between the two sides of a comparison.


class Difference(msgspec.Struct, kw_only=True):
    """One difference that does not prevent a comparison: a version, a setting, a clock, …"""

    what: str
    baseline: Any = None
    candidate: Any = None
