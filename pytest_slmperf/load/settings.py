"""The settings of a load, each declared once: name, default, valid values, and whether it is part of the work.

Standard library only and Python 3.10: an engine's worker loads this file by its path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """The valid values of a setting. ``text`` completes "NAME must be …"."""

    text: str
    holds: Callable[[Any], bool]


def is_number(value: object) -> bool:  # as in util/checks.py, which a worker cannot import
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ABOVE_ZERO = Rule("a number above 0 (seconds)", lambda value: is_number(value) and 0 < value < math.inf)
ZERO_OR_MORE = Rule("0 seconds or more", lambda value: is_number(value) and 0 <= value < math.inf)
COUNT = Rule("a whole number of at least 1", lambda value: is_whole(value) and value >= 1)
WHOLE = Rule("a whole number", is_whole)


def setting(default: Any, rule: Rule | None = None, *, work: bool = False) -> Any:
    """A field of a load. ``work``: whether results are comparable only if it is equal."""
    return field(default=default, metadata={"rule": rule, "work": work})


def _declared(settings: Any) -> Iterator[tuple[Field[Any], Any]]:
    return ((part, getattr(settings, part.name)) for part in fields(settings))


def first_wrong(settings: Any) -> str | None:
    """The message about the first value that its rule refuses: "NAME must be …, not VALUE". None is not checked."""
    for part, value in _declared(settings):
        rule = part.metadata.get("rule")
        if rule is not None and value is not None and not rule.holds(value):
            return f"{part.name} must be {rule.text}, not {value!r}"
    return None


def work_of(settings: Any) -> dict[str, Any]:
    """The settings that are part of the work and differ from their default."""
    return {
        part.name: value for part, value in _declared(settings) if part.metadata.get("work") and value != part.default
    }


def values_of(kind: type, settings: Any) -> Mapping[str, Any]:
    """The values that ``settings`` has for the fields of the dataclass ``kind``, which it extends."""
    return {part.name: getattr(settings, part.name) for part in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """The user's settings of a load.

    concurrency:       users of a closed loop, who enter over ``ramp_s``
    warmup_s:          time under load before the measured window
    limit_s:           longest duration of the whole load
    request_timeout_s: longest duration of one request
    stall_timeout_s:   longest time without a byte of an answer
    seed:              of prompts and times
    ignore_eos:        each answer has the requested length
    """

    concurrency: int | None = setting(None, COUNT)
    warmup_s: float = setting(0.0, ZERO_OR_MORE, work=True)
    ramp_s: float = setting(0.0, ZERO_OR_MORE, work=True)
    limit_s: float = setting(600.0, ABOVE_ZERO)
    request_timeout_s: float = setting(300.0, ABOVE_ZERO)
    stall_timeout_s: float = setting(60.0, ABOVE_ZERO)
    seed: int = setting(0, WHOLE)
    ignore_eos: bool = setting(True, work=True)


@dataclass(frozen=True, kw_only=True)
class Pacing(LoadSettings):
    """All that a schedule needs in addition to the requests.

    loop:     "open" (requests are due by the clock) or "closed" (each user waits for the answer)
    cycle:    a closed loop repeats its requests
    window_s: length of the measured window, which begins ``warmup_s`` after the start; None: everything is measured
    drain_s:  longest wait for answers after the last request was due
    """

    loop: str = "open"
    cycle: bool = False
    window_s: float | None = setting(None, ABOVE_ZERO)
    drain_s: float = setting(30.0, ABOVE_ZERO)
