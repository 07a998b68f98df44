from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import published_points as published

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.pareto import frontier, hypervolume, standings
from pytest_slmperf.frontier.points import Objective, Point

MORE = Objective("t", "higher")
LESS = Objective("l", "lower")
THIRD = Objective("e", "lower")


def point(key, t, low, **extra):
    return Point(key, {"t": t, "l": low, **extra})


def test_published_sweep_only_the_point_past_the_peak_is_dominated(sweep):
    goals = [Objective("output_throughput", "higher"), Objective("itl_mean", "lower")]
    assert [found.key for found in frontier(sweep, goals)] == published.BATCHES[:-1]
    assert standings(sweep, goals)[-1] == "dominated"


def test_energy_frontier_of_the_published_sweep_ends_where_throughput_peaks(sweep):
    goals = [Objective("output_throughput", "higher"), Objective("energy_per_output_token", "lower")]
    keys = [found.key for found in frontier(sweep, goals)]
    assert keys == [512, 640]  # less energy and more throughput at once below, so the low batches are dominated


def test_energy_per_token_falls_25_fold_then_is_flat():
    joules = published.joules_per_token()
    assert joules[1] / joules[256] == pytest.approx(24.9, abs=0.2)
    assert max(joules[b] for b in (256, 384, 512, 640, 768)) / min(joules[b] for b in (256, 384, 512, 640)) < 1.03
    assert published.ROWS[10].mean_power_w / published.ROWS[0].mean_power_w < 1.2


def test_ties_stand_alike():
    assert standings([point(1, 5, 2), point(2, 5, 2), point(3, 4, 2)], [MORE, LESS]) == [
        "frontier",
        "frontier",
        "dominated",
    ]


def test_three_objectives():
    points = [point(1, 5, 2, e=3), point(2, 5, 2, e=2), point(3, 1, 9, e=1), point(4, 1, 9, e=4)]
    assert [found.key for found in frontier(points, [MORE, LESS, THIRD])] == [2, 3]


def test_a_dominated_point_whose_interval_overlaps_cannot_be_told_from_the_frontier():
    best = Point(1, {"t": 100.0, "l": 5.0}, {"t": (97.0, 103.0), "l": (4.9, 5.1)})
    near = Point(2, {"t": 99.0, "l": 5.0}, {"t": (96.0, 102.0), "l": (4.9, 5.1)})
    far = Point(3, {"t": 80.0, "l": 6.0}, {"t": (78.0, 82.0), "l": (5.9, 6.1)})
    assert standings([best, near, far], [MORE, LESS]) == ["frontier", "indistinguishable", "dominated"]


def test_no_points_one_point():
    assert standings([], [MORE, LESS]) == []
    assert standings([point(1, 0, 0)], [MORE, LESS]) == ["frontier"]


@pytest.mark.parametrize("goals", [[MORE], [MORE, LESS, THIRD, Objective("x", "lower")], [MORE, MORE]])
def test_wrong_objectives_are_refused(goals):
    with pytest.raises(InvalidInput, match="objectives"):
        standings([point(1, 1, 1, e=1)], goals)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_absent_and_infinite_values_are_refused(bad):
    with pytest.raises(InvalidInput, match="point 7 has no finite value of 't'"):
        standings([point(7, bad, 1)], [MORE, LESS])
    with pytest.raises(InvalidInput, match="'l'"):
        standings([Point(7, {"t": 1.0})], [MORE, LESS])


VALUES = st.floats(0.1, 1000, allow_nan=False)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_frontier_against_the_definition(rows):
    points = [point(index, t, low) for index, (t, low) in enumerate(rows)]
    found = {one.key for one in frontier(points, [MORE, LESS])}
    for index, (t, low) in enumerate(rows):
        beaten = any(u >= t and m <= low and (u > t or m < low) for u, m in rows)
        assert (index in found) is not beaten


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20))
def test_hypervolume_is_the_area_of_the_staircase(rows):
    points = [point(index, t, low) for index, (t, low) in enumerate(rows)]
    corners = sorted({(1 / low, t) for t, low in rows})
    area = sum(
        (right - left) * max(t for speed, t in corners if speed >= right)
        for left, right in pairwise([0.0, *sorted({speed for speed, _ in corners})])
    )
    assert hypervolume(points, [MORE, LESS]).volume == pytest.approx(area, rel=1e-9)


@given(st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=12))
def test_hypervolume_of_three_objectives_is_the_count_of_cells(rows):
    """With a reference of whole numbers the volume is the number of unit cells that some point dominates."""
    points = [point(index, t, low, e=e) for index, (t, low, e) in enumerate(rows)]
    cells = sum(
        any(t > a and low <= b and e <= c for t, low, e in rows)
        for a in range(7)
        for b in range(1, 7)
        for c in range(1, 7)
    )
    found = hypervolume(points, [MORE, LESS, THIRD], {"t": 0, "l": 7, "e": 7})
    assert found.volume == pytest.approx(cells)


@given(st.lists(st.tuples(VALUES, VALUES, st.floats(0, 30), st.floats(0, 30)), min_size=1, max_size=15))
def test_standings_with_intervals_against_the_definition(rows):
    points = [
        Point(index, {"t": t, "l": low}, {"t": (t - a, t + a), "l": (low - b, low + b)})
        for index, (t, low, a, b) in enumerate(rows)
    ]
    for index, (t, low, a, b) in enumerate(rows):
        others = [row for other, row in enumerate(rows) if other != index]
        beaten = any(u >= t and m <= low and (u > t or m < low) for u, m, _, _ in others)
        surely = any(
            u - c >= t + a and m + d <= low - b and (u - c > t + a or m + d < low - b) for u, m, c, d in others
        )
        expected = "dominated" if beaten and surely else "indistinguishable" if beaten else "frontier"
        assert standings(points, [MORE, LESS])[index] == expected


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20), st.floats(0.5, 0.99))
def test_a_slower_engine_never_has_a_larger_hypervolume(rows, factor):
    before = hypervolume([point(1, t, low) for t, low in rows], [MORE, LESS]).volume
    after = hypervolume([point(1, t * factor, low / factor) for t, low in rows], [MORE, LESS]).volume
    assert after == pytest.approx(before * factor**2, rel=1e-9)


def test_hypervolume_with_a_reference_of_ones_own():
    found = hypervolume([point(1, 10, 2), point(2, 20, 6)], [MORE, LESS], {"t": 0, "l": 8})
    assert found.volume == 10 * 4 + 20 * 2
    assert found.reference == {"t": 0, "l": 8}
    assert (
        hypervolume([point(1, 10, 9)], [MORE, LESS], {"t": 0, "l": 8}).volume == 0
    )  # beyond the reference: adds nothing
    assert hypervolume([], [MORE, LESS]).volume == 0


def test_hypervolume_errors_name_the_mend():
    with pytest.raises(InvalidInput, match="needs positive values"):
        hypervolume([point(1, 10, 0)], [MORE, LESS])
    with pytest.raises(InvalidInput, match="no value for l"):
        hypervolume([point(1, 10, 1)], [MORE, LESS], {"t": 0})
