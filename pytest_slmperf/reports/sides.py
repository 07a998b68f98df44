"""The two sides of a comparison, read from one result: candidate values and whatever is kept of the baseline.

``Result.baseline`` is a summary::

    {"name": …, "commit": …, "saved_at": …,
     "metrics": {metric: {"unit": …, "value": …, "launches": [[…]]}},
     "samples": {sample: {"unit": …, "values": [...]}},
     "points": [...]}                    # the baseline's sweep, as in Result.points

Everything in it is optional: a report draws what it finds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.model.result import Result


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def baseline_metric(result: Result, metric: str) -> Mapping[str, Any]:
    """The baseline's reading of one metric; empty where none is kept."""
    found = _mapping(_mapping(result.baseline).get("metrics")).get(metric)
    return found if isinstance(found, Mapping) else {"value": found} if isinstance(found, (int, float)) else {}


def baseline_value(result: Result, metric: str) -> float | None:
    """The baseline's value: as kept, else the mean of its launch means."""
    value = baseline_metric(result, metric).get("value")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    means = [mean for _, mean in launch_means(baseline_launches(result, metric))]
    return sum(means) / len(means) if means else None


def baseline_launches(result: Result, metric: str) -> list[list[float]]:
    """The baseline's rounds per launch."""
    return numeric_rows(baseline_metric(result, metric).get("launches"))


def numeric_rows(value: Any) -> list[list[float]]:
    """Lists of numbers out of whatever a file holds; anything else is left out."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [numeric(row) for row in value if isinstance(row, Sequence) and not isinstance(row, str)]


def numeric(value: Any) -> list[float]:
    """The finite numbers of a list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [
        float(item)
        for item in value
        if isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)
    ]


def launch_means(launches: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Launch index and the mean of its rounds, launches without a clean round left out."""
    return [(index, sum(rounds) / len(rounds)) for index, rounds in enumerate(launches) if rounds]


def sample(samples: Any, name: str) -> list[float]:
    """One latency sample's values: ``{"unit": …, "values": […]}`` or a bare list."""
    found = _mapping(samples).get(name)
    return sorted(numeric(found.get("values")) if isinstance(found, Mapping) else numeric(found))


def sample_unit(samples: Any, name: str) -> str:
    found = _mapping(samples).get(name)
    return str(found.get("unit", "ms")) if isinstance(found, Mapping) else "ms"


def baseline_samples(result: Result) -> Mapping[str, Any]:
    return _mapping(_mapping(result.baseline).get("samples"))


def baseline_points(result: Result) -> list[dict[str, Any]]:
    """The baseline's sweep points; empty where none are kept."""
    points = _mapping(result.baseline).get("points")
    return [point for point in points if isinstance(point, dict)] if isinstance(points, list) else []
