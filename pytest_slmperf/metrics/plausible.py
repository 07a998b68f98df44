"""Plausible values of readings. A value outside is a fault of its source and never leads to a verdict."""

from __future__ import annotations

import math

# unit → (least, most): far beyond the figures of any machine, so that only absurd values are refused.
BOUNDS = {
    "tok/s": (0.0, 1e10),
    "req/s": (0.0, 1e9),
    "ms": (0.0, 1e10),
    "s": (0.0, 1e7),
    "J/tok": (0.0, 1e9),
    "J/req": (0.0, 1e12),
    "J": (0.0, 1e15),
    "W": (0.0, 1e7),
    "%": (0.0, 100.5),  # engines may round
    "count": (0.0, 1e12),
}
LEAST_RATE = 1e-6  # tokens or requests a second: one in eleven days


def whole(value: object, most: float = 1e15) -> str | None:
    """Why ``value`` is not a count of 0 to ``most``; None if it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{shown(value)} is no whole number"
    return None if 0 <= value <= most else f"{shown(value)} is not within 0 and {most:g}"


def finite(value: object) -> str | None:
    """Why ``value`` is not a finite number; None if it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{shown(value)} is no number"
    try:
        return None if math.isfinite(value) else f"{shown(value)} is not finite"
    except OverflowError:  # an integer that is too large for a float
        return f"{shown(value)} is beyond every number that can be"


def absurd(value: object, unit: str) -> str | None:
    """Why a reading in ``unit`` cannot be ``value``; None if it can."""
    if reason := finite(value):
        return reason
    assert isinstance(value, int | float)
    least, most = BOUNDS.get(unit, (-math.inf, math.inf))
    if not least <= value <= most:
        return f"{shown(value)} {unit} is not within {least:g} and {most:g}"
    if unit in ("tok/s", "req/s") and 0 < value < LEAST_RATE:
        return f"{shown(value)} {unit} is slower than anything that runs"
    return None


def shown(value: object) -> str:
    """Any value as short text for a message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
