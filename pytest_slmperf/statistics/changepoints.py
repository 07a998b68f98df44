"""Change points in a metric's history, by apache-otava: for trends over many sessions, never a gate.

Otava splits the series where a t-test finds that both sides differ.  It needs about five later sessions to see a step of
5 %, and a gate must not wait for five sessions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_slmperf.errors import InvalidInput

LEAST_POINTS = 4


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """``index``: the first session after the change. ``change``: relative, after ÷ before − 1. ``p_value``: otava's."""

    index: int
    change: float
    before: float
    after: float
    p_value: float


def change_points(
    values: Sequence[float | None], *, max_p_value: float = 0.001, min_change: float = 0.0, window: int = 50
) -> list[ChangePoint]:
    """Change points of one metric's history, oldest first. ``values``: one per session, None where there is no reading.

    ``max_p_value``, ``min_change`` (relative) and ``window`` (sessions) are otava's settings with otava's defaults.
    Fewer than ``LEAST_POINTS`` readings have no change point.  InvalidInput without otava, or for a reading that is not a
    positive finite number.
    """
    try:
        from otava.series import AnalysisOptions, Metric, Series
    except ImportError as error:
        raise InvalidInput(
            "change points need apache-otava, which is not installed: pip install 'pytest-slmperf[history]'"
        ) from error
    kept = [(index, value) for index, value in enumerate(values) if value is not None]
    for index, value in kept:
        if not math.isfinite(value) or value <= 0:
            raise InvalidInput(f"history, session {index + 1}: {value!r} is not a positive finite reading")
    if len(kept) < LEAST_POINTS:
        return []
    options = AnalysisOptions()
    options.max_pvalue, options.min_magnitude, options.window_len = max_p_value, min_change, window
    data = [float(value) for _, value in kept]
    series = Series("history", None, list(range(len(data))), {"metric": Metric()}, {"metric": data}, {})
    changes = series.analyze(options).change_points["metric"]
    return [
        ChangePoint(
            kept[point.index][0],
            float(point.stats.mean_2 / point.stats.mean_1 - 1),
            float(point.stats.mean_1),
            float(point.stats.mean_2),
            float(point.stats.pvalue),
        )
        for point in changes
    ]
