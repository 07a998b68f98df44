"""Readings and counts that no engine can have, whether measured here or read from a file."""

from __future__ import annotations

import pytest

from pytest_slmperf.metrics.plausible import absurd, whole


@pytest.mark.parametrize(
    ("value", "unit"),
    [(6e-299, "tok/s"), (1e12, "ms"), (-1.0, "ms"), (float("nan"), "ms"), (float("inf"), "s"), (True, "ms"), ("7", "ms"),
     (700.0, "%"), (10**400, "count"), (None, "ms")],
)  # fmt: skip
def test_readings_that_cannot_be(value, unit):
    assert absurd(value, unit)


@pytest.mark.parametrize(
    ("value", "unit"), [(0.0, "tok/s"), (8139.5, "tok/s"), (0.01, "ms"), (100.0, "%"), (3, "count"), (-1.0, "unknown")]
)
def test_readings_that_can_be(value, unit):
    assert absurd(value, unit) is None


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 10**30])
def test_counts_that_cannot_be(value):
    assert whole(value)
