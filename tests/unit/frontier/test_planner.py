import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.adaptive_grid import Work, coarse_grid, cost_s, engine_starts, in_few_starts, next_step
from pytest_slmperf.frontier.knee import share_knee
from pytest_slmperf.frontier.pareto import hypervolume
from pytest_slmperf.frontier.points import Objective, Point

GOALS = [Objective("t", "higher"), Objective("l", "lower")]


def engine(batch, step=3.0, per=0.1):
    """Saturation curve of a decode step that costs ``step + per·B``: T = B/step time, ITL = step time."""
    seconds = step + per * batch
    return Point(batch, {"t": batch / seconds, "l": seconds})


def run(candidates, measure=engine, **options):
    """Measure as the planner says; (points, steps)."""
    points = [measure(key) for key in coarse_grid(candidates)]
    steps = []
    while True:
        step = next_step(candidates, points, GOALS, **options)
        steps.append(step)
        if step.key is None:
            return points, steps
        points.append(measure(step.key))


def test_coarse_takes_both_ends_and_even_ranks():
    assert coarse_grid([1, 2, 4, 8, 16, 32, 64, 128, 256]) == [1, 4, 16, 64, 256]
    assert coarse_grid([4, 1, 2]) == [4, 1, 2]
    assert coarse_grid(["a", "b", "c", "d", "e", "f"]) == ["a", "b", "c", "d", "e", "f"]


def test_published_sweep_is_found_with_fewer_points(sweep):
    goals = [Objective("output_throughput", "higher"), Objective("itl_mean", "lower")]
    table = {point.key: point for point in sweep}
    points = [table[key] for key in coarse_grid(list(table))]
    while (step := next_step(list(table), points, goals)).key is not None:
        points.append(table[step.key])
    assert len(points) < len(sweep)
    assert share_knee(points, "output_throughput").key == 256
    assert hypervolume(points, goals).volume > 0.98 * hypervolume(sweep, goals).volume


def test_it_stops_when_more_points_no_longer_move_the_frontier():
    candidates = list(range(1, 513))
    points, steps = run(candidates, tolerance=0.02)
    assert len(points) < 40
    found = hypervolume(points, GOALS).volume
    whole = hypervolume([engine(key) for key in candidates], GOALS).volume
    assert found > 0.8 * whole
    assert "no gap can move the frontier" in steps[-1].reason


def test_a_finer_tolerance_comes_closer_and_costs_more():
    candidates = list(range(1, 257))
    rough, fine = (run(candidates, tolerance=t)[0] for t in (0.05, 0.005))
    assert len(rough) < len(fine)
    assert hypervolume(rough, GOALS).volume < hypervolume(fine, GOALS).volume


def test_the_knee_is_bracketed_to_neighbouring_candidates():
    candidates = [2**n for n in range(11)]
    points, _ = run(candidates, tolerance=0.9)
    every = [engine(key) for key in candidates]
    assert share_knee(points, "t").key == share_knee(every, "t").key


def test_it_looks_where_the_frontier_bends():
    def kinked(batch):
        return Point(batch, {"t": min(batch, 64) + 0.001 * batch, "l": 1.0 if batch <= 64 else batch / 64})

    _, steps = run(list(range(1, 257)), measure=kinked, tolerance=0.01)
    asked = [step.key for step in steps if step.key is not None]
    assert any(48 <= key <= 80 for key in asked)
    assert max(asked) < 256


def test_failed_keys_are_not_asked_for_again():
    candidates = [1, 2, 4, 8]
    step = next_step(candidates, [engine(1), engine(8)], GOALS)
    other = next_step(candidates, [engine(1), engine(8)], GOALS, given_up=[step.key])
    assert other.key not in (None, step.key)
    assert next_step(candidates, [engine(1), engine(8)], GOALS, given_up=[2, 4]).reason == "every candidate is measured"


def test_values_that_are_names_are_all_measured():
    assert next_step(["a", "b"], [Point("a", {"t": 1.0, "l": 1.0})], GOALS).key == "b"


@given(st.lists(st.integers(1, 4096), min_size=2, max_size=60, unique=True), st.floats(0.5, 50), st.floats(0.01, 2))
def test_it_always_ends_and_asks_for_candidates_only(candidates, step, per):
    points, steps = run(candidates, measure=lambda key: engine(key, step, per))
    assert {point.key for point in points} <= set(candidates)
    assert len({point.key for point in points}) == len(points)
    assert steps[-1].key is None


@pytest.mark.parametrize(("values", "words"), [([], "at least one value"), ([1, 2, 1], "names 1 twice")])
def test_bad_candidates(values, words):
    with pytest.raises(InvalidInput, match=words):
        coarse_grid(values)


def test_points_of_one_engine_stay_together():
    works = [Work(key, group, 2.0) for key, group in zip(range(6), "abacbc", strict=True)]
    ordered = in_few_starts(works)
    assert (engine_starts(works), engine_starts(ordered)) == (6, 3)
    assert [work.key for work in ordered] == [0, 2, 1, 4, 3, 5]
    assert cost_s(ordered, 10.0) == 3 * 10 + 6 * 2
    assert engine_starts([]) == 0
