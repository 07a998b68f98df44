"""How the latencies of a session were distributed, as a baseline keeps them: percentiles, never the single requests."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_slmperf.model.baseline import BaselineSession, Distribution
from pytest_slmperf.model.latency_sample import LatencySample, Samples, sample_of
from pytest_slmperf.util.quantiles import percentiles

LEVELS = 101  # 0 %, 1 %, … 100 %: p99 and both ends stand among them, one line of a diff holds them all
_DIGITS = 4


def distributions(samples: Samples) -> dict[str, Distribution]:
    """Each latency of ``Result.samples`` as at most ``LEVELS`` quantiles.

    With fewer values than levels every value is kept: the quantiles of n values are then the values themselves.
    """
    distributions = {}
    for name in samples:
        sample = sample_of(samples, name)
        values = [value for value in sample.values if value >= 0]
        if values:
            levels = min(LEVELS, len(values))
            distributions[name] = Distribution(unit=sample.unit, quantiles=_at(values, levels))
    return distributions


def pooled(sessions: Sequence[BaselineSession]) -> dict[str, LatencySample]:
    """The distributions of all sessions together, each session with the same weight, in the shape of ``Result.samples``."""
    rows: dict[str, list[Distribution]] = {}
    for session in sessions:
        for name, distribution in session.distributions.items():
            if distribution.quantiles:
                rows.setdefault(name, []).append(distribution)
    samples = {}
    for name, several in rows.items():
        alike = len({len(distribution.quantiles) for distribution in several}) == 1
        values = sorted(
            value
            for distribution in several
            for value in (distribution.quantiles if alike else _at(sorted(distribution.quantiles), LEVELS))
        )
        quantiles = _at(values, min(2 * LEVELS - 1, len(values)))
        samples[name] = LatencySample(unit=several[-1].unit, values=quantiles)
    return samples


def _at(ordered: Sequence[float], levels: int) -> list[float]:
    """Quantiles of a rising, non-empty sequence at evenly spaced levels, both ends included."""
    shares = [index / (levels - 1) for index in range(levels)] if levels > 1 else [0.5]
    return [float(f"{value:.{_DIGITS}g}") for value in percentiles(ordered, shares)]
