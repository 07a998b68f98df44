"""A change that all tests share is told apart from changes of single tests, and from chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pytest_slmperf.judging.comparison import Shift, common_shift


def about(value: float) -> Any:
    """Equal to any float that differs by rounding only."""
    return pytest.approx(value)


def test_all_of_seven_are_enough_and_six_are_not():
    assert common_shift([0.1] * 7) == Shift(7, 7, about(0.1))
    assert common_shift([0.1] * 6) is None


def test_one_that_went_the_other_way_is_outvoted():
    assert common_shift([0.01 * number for number in range(3, 13)] + [-0.01]) == Shift(11, 10, about(0.07))
    assert common_shift([0.05] * 5 + [-0.05] * 3) is None


def test_the_way_is_kept():
    assert common_shift([-0.03] * 8) == Shift(8, 8, about(-0.03))


@pytest.mark.parametrize("changes", [[], [math.nan] * 9, [0.0] * 9, [0.009] * 20])
def test_nothing_to_speak_of(changes):
    assert common_shift(changes) is None


def test_one_regressed_test_among_steady_ones_is_not_common():
    rng = np.random.default_rng(1)
    shown = [common_shift([0.3, *rng.normal(0, 0.02, 11)]) is not None for _ in range(2000)]
    assert sum(shown) / 2000 <= 0.02
