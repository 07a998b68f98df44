"""True and False are no numbers, wherever a setting or a file holds them."""

import math

import pytest

from pytest_slmperf.util.checks import is_number, is_whole


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [(1, True, True), (1.0, False, True), (math.nan, False, True), (True, False, False), ("1", False, False)],
)
def test_what_counts(value, whole, number):
    assert (is_whole(value), is_number(value)) == (whole, number)


def test_none_is_no_number():
    assert not is_whole(None)
    assert not is_number(None)
