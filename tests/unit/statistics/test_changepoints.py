"""Change points through apache-otava: the real one where it is installed, a clear error where it is not."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.statistics.changepoints import change_points

needs_otava = pytest.mark.skipif(importlib.util.find_spec("otava") is None, reason="apache-otava is not installed")


@needs_otava
def test_a_step_is_found_where_it_happened():
    rng = np.random.default_rng(1)
    values: list[float | None] = [float(v) for v in 100 * np.exp(rng.normal(0, 0.01, 40))]
    for i in range(25, 40):
        values[i] *= 0.92
    values[3] = None  # a session without a reading keeps its place
    points = change_points(values)  # otava may spread one step over two neighbouring points
    assert points
    assert {point.index for point in points} <= {24, 25}
    assert points[-1].after / points[0].before - 1 == pytest.approx(-0.08, abs=0.02)
    assert all(point.change < 0 and point.p_value < 0.001 for point in points)


@needs_otava
def test_a_calm_history_has_none_and_a_short_one_neither():
    rng = np.random.default_rng(2)
    assert change_points([float(v) for v in 100 * np.exp(rng.normal(0, 0.01, 30))]) == []
    assert change_points([100.0, None, 50.0]) == []


@needs_otava
def test_bad_readings_are_named():
    with pytest.raises(InvalidInput, match="session 2"):
        change_points([1.0, -1.0, 1.0, 1.0])


def test_without_otava_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "otava", None)
    monkeypatch.setitem(sys.modules, "otava.series", None)
    with pytest.raises(InvalidInput, match=r"pytest-slmperf\[history\]"):
        change_points([1.0] * 5)
