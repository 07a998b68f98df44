"""The kinds of values of settings: valid values in a marker, conversion of the text of an option, and messages.

Standard library only: the table of settings is imported whenever pytest loads the plugin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pytest_slmperf.util.checks import is_number, is_whole


class Kind:
    """Text; the base of the other kinds. ``wanted`` completes "must be …"."""

    wanted = "a non-empty text"

    def accepts(self, value: Any) -> bool:
        """Whether a marker may hold this value."""
        return isinstance(value, str) and bool(value)

    def from_text(self, text: str) -> Any:
        """The value of a text from an option or the ini file; ValueError with the expected kind of value."""
        return text


class Bounds(NamedTuple):
    """An interval of numbers, and its wording in messages."""

    wording: str
    contains: Callable[[float], bool]


AT_LEAST_1 = Bounds("at least 1", lambda value: 1 <= value < math.inf)
ABOVE_0 = Bounds("more than 0", lambda value: 0 < value < math.inf)
ABOVE_0_SECONDS = Bounds("more than 0 seconds", ABOVE_0.contains)
SHARE = Bounds("at least 0 and less than 1 (100%)", lambda value: 0 <= value < 1)


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number within bounds, other than True and False. ``read``: converts text."""

    noun: str
    bounds: Bounds
    wanted: str
    read: Callable[[str], float] = float
    whole: bool = False

    def accepts(self, value: Any) -> bool:
        return (is_whole(value) if self.whole else is_number(value)) and self.bounds.contains(value)

    def from_text(self, text: str) -> Any:
        try:
            value = self.read(text.strip())
        except ValueError:
            raise ValueError(f"must be {self.noun}, not {text!r}") from None
        if not self.bounds.contains(value):
            raise ValueError(f"must be {self.bounds.wording}, not {text!r}")
        return value


def percent_or_share(text: str) -> float:
    """'2%' or '0.02' as a share."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def duration(text: str) -> float:
    """'90', '90s', '4m' or '1h' in seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    return float(text[:-1]) * unit if unit else float(text)


TEXT = Kind()
WHOLE = Number("a whole number", AT_LEAST_1, "a whole number of at least 1", int, whole=True)
POSITIVE = Number("a number", ABOVE_0, "a number, more than 0")
SECONDS = Number("a time such as 90s, 4m or 1h", ABOVE_0_SECONDS, "seconds, more than 0", duration)
FRACTION = Number("a share such as 0.02 or 2%", SHARE, "a share in [0, 1)", percent_or_share)


class FalseAlarmShare(Kind):
    """A share below 0.5: with a larger alpha a verdict would be no better than a coin toss."""

    wanted = "a share in (0, 0.5)"

    def from_text(self, text: str) -> float:
        value = float(FRACTION.from_text(text))
        if not 0 < value < 0.5:
            raise ValueError(f"must lie between 0 and 0.5, both excluded, not {text!r}")
        return value


class OneOf(Kind):
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.wanted = " or ".join(map(repr, choices))

    def accepts(self, value: Any) -> bool:
        return value in self.choices

    def from_text(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {text!r}")
        return text


class Margin(Kind):
    """A change of a metric. As text '0.02' (every metric) or 'ttft_p99=0.1', read as the pair (metric or None, share)."""

    wanted = "a share in [0, 1), or a mapping of metric names to shares"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Mapping):
            return FRACTION.accepts(value)
        return all(isinstance(metric, str) and FRACTION.accepts(share) for metric, share in value.items())

    def from_text(self, text: str) -> tuple[str | None, float]:
        metric, equals, share = text.rpartition("=")
        return (metric.strip() or None) if equals else None, FRACTION.from_text(share)


class KeyValue(Kind):
    """KEY=VALUE, read as a pair of texts."""

    wanted = "KEY=VALUE"

    def from_text(self, text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"must be KEY=VALUE, not {text!r}")
        return key.strip(), value.strip()


class EvidenceLimit(Kind):
    """'cpu_wait_share=0.2' or 'psi_cpu_some=off': a limit of ``measuring.evidence_checks.Limits`` by its name."""

    wanted = "NAME=VALUE"

    def from_text(self, text: str) -> tuple[str, float | None]:
        from dataclasses import fields

        from pytest_slmperf.measuring.evidence_checks import Limits

        name, _, limit = (part.strip() for part in text.partition("="))
        known = [field.name for field in fields(Limits)]
        if name not in known:
            raise ValueError(f"unknown limit {name!r}; known are {', '.join(known)}")
        if limit == "off":
            return name, None
        try:
            value = percent_or_share(limit)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of at least 0, such as {name}=0.2, or off; not {limit!r}")
        return name, value


class Gate(Kind):
    """Whether a test may fail, or by which metrics."""

    wanted = "True, False or a list of metric names"

    def accepts(self, value: Any) -> bool:
        names = isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in value)
        return isinstance(value, bool) or names


class EngineArguments(Kind):
    """Arguments of an engine by the engine's own names."""

    wanted = "a mapping of engine arguments to plain values"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and (item is None or isinstance(item, (str, int, float, bool)))
            for name, item in value.items()
        )
