"""A bounded sample of single requests' latencies, for distribution charts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec


class LatencySample(msgspec.Struct, kw_only=True):
    """Latencies of single requests, or quantiles of them, in ``unit``."""

    unit: str = "ms"
    values: list[float] = []


Samples = dict[str, LatencySample | list[float]]
"""Latency (ttft, itl, …) → its sample. A measured result holds bare lists, in ms."""


def sample_of(samples: Mapping[str, LatencySample | list[float]], name: str) -> LatencySample:
    """The sample of one latency, its finite values rising; without values where there is none."""
    sample = samples.get(name, [])
    if isinstance(sample, list):
        sample = LatencySample(values=sample)
    return LatencySample(unit=sample.unit, values=sorted(filter(math.isfinite, sample.values)))
