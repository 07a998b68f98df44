"""Many latencies in little memory: a DDSketch, which merges without loss and states its relative error.

DDSketch: C. Masson, J. E. Rim, H. K. Lee, *DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees*, VLDB 2019.  Failures are counted separately and rank above all finite values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ddsketch import DDSketch

FINE = 0.001  # for judged percentiles
COARSE = 0.005  # for the distributions in a results file


class Sketch:
    """Values above 0 (or 0) with a relative error of at most ``relative_error`` in every quantile; mean and count exact."""

    def __init__(self, relative_error: float = FINE) -> None:
        self.relative_error = relative_error
        self._sketch = DDSketch(relative_error)
        self.failed = 0
        self.sum = 0.0
        self.count = 0
        self.min = math.inf
        self.max = 0.0

    def add(self, value: float, weight: int = 1) -> None:
        """Add ``value`` ``weight`` times; +∞ is a failure."""
        if math.isnan(value) or value < 0:
            raise ValueError(f"a latency cannot be {value!r}")
        if value == math.inf:
            self.failed += weight
            return
        self._sketch.add(value, weight)
        self.sum += value * weight
        self.count += weight
        self.min, self.max = min(self.min, value), max(self.max, value)

    def extend(self, values: Iterable[float]) -> Sketch:
        for value in values:
            self.add(value)
        return self

    def merge(self, other: Sketch) -> None:
        """Add the values of ``other``, which must have the same relative error."""
        self._sketch.merge(other._sketch)
        self.failed += other.failed
        self.sum += other.sum
        self.count += other.count
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)

    @property
    def mean(self) -> float | None:
        """Mean of the finite values; None without any."""
        return self.sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The value at ``share`` (0 to 1) of finite values and failures together: +∞ for a failure, None if empty."""
        total = self.count + self.failed
        if not total:
            return None
        rank = share * (total - 1)
        if rank > self.count - 1 or not self.count:
            return math.inf
        value: Any = self._sketch.get_quantile_value(rank / (self.count - 1) if self.count > 1 else 0.0)
        return min(self.max, max(self.min, float(value)))

    def bins(self) -> list[tuple[float, int]]:
        """(value, count), rising, without empty bins."""
        store, mapping = self._sketch._store, self._sketch._mapping
        filled = [(0.0, round(self._sketch._zero_count))] if self._sketch._zero_count else []
        for place, weight in enumerate(store.bins):
            if weight:
                filled.append((float(mapping.value(place + store.offset)), round(weight)))
        return filled

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``Result.samples``: coarser bins (relative error 0.5 %), exact count, sum, min and max."""
        coarse = self
        if self.relative_error < COARSE:
            coarse = Sketch(COARSE)
            for value, weight in self.bins():
                coarse.add(value, weight)
        return {
            "relative_error": coarse.relative_error + (self.relative_error if coarse is not self else 0.0),
            "count": self.count,
            "failed": self.failed,
            "sum": self.sum,
            "min": self.min if self.count else None,
            "max": self.max if self.count else None,
            "bins": [[round(value, 9), weight] for value, weight in coarse.bins()],
        }
