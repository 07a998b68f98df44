from functools import partial

from pytest_slmperf.contrib.campaign import Curve, plan
from pytest_slmperf.frontier.points import Objective, Point

GOALS = (Objective("t", "higher"), Objective("l", "lower"))
KEYS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def predict(name, key):
    seconds = 3.0 + 0.1 * key * name
    return Point(key, {"t": key / seconds, "l": seconds}), 10.0


def shared_by_ten(name, key):
    return (name % 10, key)


def test_thousand_points_are_planned_with_fewer_points_and_starts():
    curves = [Curve(name, KEYS, partial(shared_by_ten, name)) for name in range(1, 101)]
    found = plan(curves, GOALS, predict, start_s=25.0, tolerance=0.02)
    assert found.points == 1000
    assert found.starts_before == 1000
    assert found.starts_after <= 100  # an engine for each of ten settings and ten limits, shared by ten curves
    assert len(found.works) < found.points
    assert found.share < 0.7
    assert found.everything_s == 1000 * 25 + 1000 * 10
    assert found.planned_s == found.starts_after * 25 + len(found.works) * 10
    assert len({work.key for work in found.works}) == len(found.works)


def test_every_curve_keeps_its_ends():
    curves = [Curve(3, KEYS, lambda key: "one engine")]
    found = plan(curves, GOALS, predict, start_s=1.0, tolerance=0.5)
    ends = {1, 512}
    assert ends <= {work.key[1] for work in found.works}  # type: ignore[index]
    assert found.starts_after == 1


def test_every_point_only_ordered():
    curves = [Curve(name, KEYS, lambda key: key) for name in (3, 4)]
    found = plan(curves, GOALS, predict, start_s=25.0, tolerance=None)
    assert len(found.works) == found.points == 20
    assert (found.starts_before, found.starts_after) == (20, 10)
