import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.advisor import analyse
from pytest_slmperf.frontier.point_table import Dropped
from pytest_slmperf.frontier.points import MetricBound, Objective, Point

GOALS = [Objective("output_throughput", "higher"), Objective("itl_mean", "lower")]


def test_fixed_json_of_the_published_sweep(sweep):
    found = analyse(
        sweep, GOALS, slos=[MetricBound("itl_mean", 15.02)], dropped=[Dropped(1024, "543 preemptions")]
    ).as_json()
    assert list(found) == ["frontier", "dropped", "knee", "advice"]
    assert found["frontier"][-1] == 640
    assert found["dropped"] == [{"key": 1024, "reason": "543 preemptions"}]
    assert found["knee"] == {"key": 256, "share_of_peak": 0.9568}
    assert found["advice"]["key"] == 96


def test_no_advice_is_null(sweep):
    assert analyse(sweep, GOALS, slos=[MetricBound("itl_mean", 1.0)]).as_json()["advice"] is None


def test_names_as_keys_give_a_frontier_and_a_note():
    points = [
        Point("b", {"output_throughput": 2.0, "itl_mean": 1.0}),
        Point("a", {"output_throughput": 1.0, "itl_mean": 2.0}),
    ]
    found = analyse(points, GOALS)
    assert found.frontier == ["b"]
    assert found.knee is None
    assert "not numbers" in found.notes[0]


def test_shared_keys_are_named_and_listed_once():
    rows = [(1, 10.0, 1.0), (2, 20.0, 2.0), (2, 20.0, 2.0)]
    found = analyse([Point(k, {"output_throughput": t, "itl_mean": low}) for k, t, low in rows], GOALS)
    assert found.frontier == [1, 2]
    assert "share the key 2" in found.notes[0]


def test_a_point_at_zero_does_not_take_the_pick_from_the_others():
    rows = [(0, 5.0, 1.0), (1, 0.0, 0.5), (2, 20.0, 2.0), (4, 36.0, 3.0)]
    found = analyse([Point(k, {"output_throughput": t, "itl_mean": low}) for k, t, low in rows], GOALS)
    assert found.advice is not None
    assert found.advice.key == 4
    assert found.efficiency[2:] == [1.0, 0.9]
    assert any("no pick among key 0, 1" in note for note in found.notes)
    assert any("counted from key 2" in note for note in found.notes)


def test_values_that_allow_no_hypervolume_are_noted_not_raised():
    rows = [(1, 0.0, 0.0), (2, 0.0, 2.0)]
    found = analyse([Point(k, {"output_throughput": t, "itl_mean": low}) for k, t, low in rows], GOALS)
    assert found.hypervolume is None
    assert found.advice is None
    assert any("no hypervolume" in note for note in found.notes)


def test_empty_and_wrong_usage():
    found = analyse([], GOALS).as_json()
    assert found == {"frontier": [], "dropped": [], "knee": None, "advice": None}
    with pytest.raises(InvalidInput, match="epsilon"):
        analyse([], GOALS, epsilon=2)
    with pytest.raises(InvalidInput, match="higher-is-better"):
        analyse([], [Objective("a", "lower"), Objective("b", "lower")])


@pytest.mark.parametrize("rows", [[0.0, 0.0, 0.0], [-3.0, -2.0, -1.0]])
def test_a_sweep_that_does_nothing_has_no_knee(rows):
    points = [Point(key, {"rate": rate, "itl": 1.0}) for key, rate in zip((1, 2, 4), rows, strict=True)]
    found = analyse(points, [Objective("rate", "higher"), Objective("itl", "lower")])
    assert (found.knee, found.kneedle, found.advice) == (None, None, None)
    assert "no knee: no point has a rate above 0" in found.notes


def test_two_points_are_no_curve():
    points = [Point(key, {"rate": 10.0 * key, "itl": 1.0}) for key in (1, 2)]
    found = analyse(points, [Objective("rate", "higher"), Objective("itl", "lower")])
    assert found.knee.key == 2
    assert any("fewer than 3 keys" in note for note in found.notes)
