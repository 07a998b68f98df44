"""The knee, where throughput stops growing: by 95 % of the peak, by Kneedle, and the uncertainty of either."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.points import Key, Point, by_key, require_values
from pytest_slmperf.metrics.registry import KNEE_SHARE, near_peak

Method = Literal["share", "kneedle"]


@dataclass(frozen=True, slots=True)
class Knee:
    """A knee.

    share_of_peak: throughput at the knee ÷ the highest throughput of the sweep
    interior:      False if the knee is the last point, so that a larger batch (or more memory) might still help
    cost:          value of the cost metric at the knee, if the caller named a cost metric
    point:         the point itself, since several points may share a key
    """

    key: Key
    throughput: float
    share_of_peak: float
    interior: bool
    method: Method
    cost: float | None = None
    point: Point | None = None


@dataclass(frozen=True, slots=True)
class KneeUncertainty:
    """Knees of resampled measurements. ``support``: share of resamples with the same key as the data; ``low`` and ``high``:
    ends of the central ``confidence`` of the resampled keys; ``keys``: share of each key."""

    low: float
    high: float
    support: float
    confidence: float
    resamples: int
    keys: dict[float, float]


def share_knee(
    points: Sequence[Point], throughput: str, *, share: float = KNEE_SHARE, cost: str | None = None
) -> Knee | None:
    """The cheapest point that reaches ``share`` of the peak throughput; None if no throughput is above 0.

    The cheapest point has the least value of ``cost`` (a metric such as the KV-cache peak); without ``cost``, the smallest
    key.  InvalidInput unless 0 < share ≤ 1.
    """
    if not 0 < share <= 1:
        raise InvalidInput(f"the share of the peak must be above 0 and at most 1, not {share:g}")
    if not points:
        return None
    require_values(points, [throughput] if cost is None else [throughput, cost])
    ordered = by_key(points)
    values = [point.values[throughput] for point in ordered]
    if max(values) <= 0:
        return None
    reach = [point for point, near in zip(ordered, near_peak(values, share), strict=True) if near]
    if cost is not None:
        best = min(reach, key=lambda point: point.values[cost])
    else:  # several points may share the smallest key: the fastest of them
        best = max((point for point in reach if point.key == reach[0].key), key=lambda point: point.values[throughput])
    return _knee(best, ordered, throughput, "share", cost)


def kneedle(points: Sequence[Point], throughput: str, *, sensitivity: float = 1.0) -> Knee | None:
    """Kneedle (Satopaa et al., ICDCSW 2011) on throughput against the key, from the package kneed.

    None if the curve has no knee (a straight line, fewer than three points).
    """
    require_values(points, [throughput])
    ordered = by_key(points)
    keys = [point.number for point in ordered]
    if len(set(keys)) < 3 or max(point.values[throughput] for point in ordered) <= 0:
        return None
    from kneed import KneeLocator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kneed warns if it finds no knee; here "no knee" is an answer
        bend = KneeLocator(
            keys,
            [point.values[throughput] for point in ordered],
            S=sensitivity,
            curve="concave",
            direction="increasing",
        ).knee
    if bend is None:
        return None
    at = min(ordered, key=lambda point: abs(point.number - float(bend)))
    return _knee(at, ordered, throughput, "kneedle", None)


def knee_uncertainty(
    points: Sequence[Point],
    throughput: str,
    *,
    method: Method = "share",
    share: float = KNEE_SHARE,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> KneeUncertainty | None:
    """Uncertainty of the knee: a two-level bootstrap that draws launches, then rounds within each drawn launch.

    None if no point has two readings.  With a single launch it draws rounds only, which understates the effect of a fresh
    launch.
    """
    measured = [point for point in points if point.launches.get(throughput)]
    if len(measured) != len(points) or max((sum(map(len, p.launches[throughput])) for p in measured), default=0) < 2:
        return None
    if method == "share":
        find = partial(share_knee, throughput=throughput, share=share)
    else:
        find = partial(kneedle, throughput=throughput)
    at = find(points)
    draw = random.Random(seed)
    redrawn = [_redrawn(point.launches[throughput], resamples, draw) for point in measured]
    knees = [
        find(
            [
                replace(point, values={**point.values, throughput: mean})
                for point, mean in zip(measured, means, strict=True)
            ]
        )
        for means in zip(*redrawn, strict=True)
    ]
    keys = sorted(float(knee.key) for knee in knees if knee is not None)
    if not keys or at is None:
        return None
    tail = (1 - confidence) / 2
    counts = Counter(keys)
    return KneeUncertainty(
        low=keys[int(tail * (len(keys) - 1))],
        high=keys[round((1 - tail) * (len(keys) - 1))],
        support=counts[float(at.key)] / len(keys),
        confidence=confidence,
        resamples=len(keys),
        keys={key: count / len(keys) for key, count in sorted(counts.items())},
    )


def _redrawn(launches: Sequence[Sequence[float]], resamples: int, draw: random.Random) -> list[float]:
    """``resamples`` means, each of launches and rounds drawn anew."""
    kept = [list(rounds) for rounds in launches if rounds]
    if all(len(rounds) == 1 for rounds in kept):  # rows of a table, up to a hundred thousand: numpy is fast enough
        import numpy as np

        fast = np.random.default_rng(draw.getrandbits(64))
        readings = np.array([rounds[0] for rounds in kept])
        return [float(readings[fast.integers(len(kept), size=len(kept))].mean()) for _ in range(resamples)]
    return [_redraw(kept, draw) for _ in range(resamples)]


def _redraw(launches: Sequence[Sequence[float]], draw: random.Random) -> float:
    means = []
    for _ in launches:
        rounds = draw.choice(launches)
        means.append(sum(draw.choices(rounds, k=len(rounds))) / len(rounds))
    return sum(means) / len(means)


def _knee(at: Point, ordered: Sequence[Point], throughput: str, method: Method, cost: str | None) -> Knee:
    peak = max(point.values[throughput] for point in ordered)
    value = at.values[throughput]
    return Knee(
        key=at.key,
        throughput=value,
        share_of_peak=value / peak,
        interior=at is not ordered[-1],
        method=method,
        cost=None if cost is None else at.values[cost],
        point=at,
    )
