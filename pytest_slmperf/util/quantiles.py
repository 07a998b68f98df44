"""Quantiles and thinning of ascending values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MOST_SAMPLES = 512  # latencies kept of one round or load, for the ECDF of the report


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value at ``share`` (0 to 1) of ascending values; None where there are none.

    Linear interpolation between ranks, numpy's default; +∞ where it touches +∞.
    """
    return percentiles(ordered, [share])[0] if ordered else None


def percentiles(ordered: Sequence[float], shares: Iterable[float]) -> list[float]:
    """The values at several shares of an ascending, non-empty sequence, by the rule of ``percentile``."""
    return [_interpolated(ordered, share * (len(ordered) - 1)) for share in shares]


def _interpolated(ordered: Sequence[float], rank: float) -> float:
    low = math.floor(rank)
    part = rank - low
    if part == 0 or ordered[low] == math.inf:
        return ordered[low]
    return ordered[low] + part * (ordered[low + 1] - ordered[low])


def least_reaching(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending values that at least ``share`` of them do not exceed (numpy's "inverted_cdf")."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def even_ranks(count: int, most: int) -> list[int]:
    """At most ``most`` (2 or more) ranks below ``count``, evenly spaced, both ends included."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def thin(ordered: Sequence[float], most: int = MOST_SAMPLES) -> list[float]:
    """At most ``most`` of the finite ascending values, evenly by rank with both ends, to six significant digits."""
    finite = [value for value in ordered if value != math.inf]
    return [float(f"{finite[rank]:.6g}") for rank in even_ranks(len(finite), most)]
