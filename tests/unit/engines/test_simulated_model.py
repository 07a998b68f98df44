"""The cost model against a plain step-by-step oracle, and its shapes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter, step_curve
from pytest_slmperf.engines.simulated.cost_model import (
    MAX_GAPS,
    CannotServe,
    Cost,
    draw_gaps,
    simulate,
    simulate_together,
)
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

COST = Cost(step_s=1e-3, seq_s=1e-5, context_s=1e-8, prefill_s=1e-6)


def naive(requests: list[tuple[float, int, int]], cost: Cost) -> tuple[float, float]:
    """Every step on its own, without a KV limit: end, and the integral of running sequences."""
    now = area = 0.0
    due = sorted((t, i, n_in, n_out) for i, (t, n_in, n_out) in enumerate(requests))
    waiting: list[list[int]] = []
    running: list[list[int]] = []  # [length, left]
    while due or waiting or running:
        while due and due[0][0] <= now:
            _, _, n_in, n_out = due.pop(0)
            waiting.append([n_in, n_out])
        if not waiting and not running:
            now = due[0][0]
            continue
        started: list[list[int]] = []
        budget = cost.max_batched_tokens - len(running)
        while waiting and len(running) + len(started) < cost.max_num_seqs and (not started or waiting[0][0] <= budget):
            budget -= waiting[0][0]
            started.append(waiting.pop(0))
        seconds = cost.seconds(
            len(running) + len(started), sum(one[0] for one in running), sum(one[0] for one in started)
        )
        now += seconds
        area += seconds * (len(running) + len(started))
        running += started
        for one in running:
            one[0] += 1
            one[1] -= 1
        running = [one for one in running if one[1] > 0]
    return now, area


REQUESTS = st.lists(
    st.tuples(st.floats(0, 0.1).map(lambda t: round(t, 4)), st.integers(1, 200), st.integers(1, 60)),
    min_size=1,
    max_size=20,
)


@example([(0.0625, 1, 1), (0.0477, 1, 1), (0.005, 193, 43)], 2, 64)  # steps grow longer before the next one arrives
@given(REQUESTS, st.integers(1, 8), st.sampled_from([64, 512, 8192]))
@settings(max_examples=60, deadline=None)
def test_many_steps_at_once_are_the_same_as_one_by_one(
    requests: list[tuple[float, int, int]], seats: int, budget: int
) -> None:
    cost = replace(COST, max_num_seqs=seats, max_batched_tokens=budget)
    out = simulate(requests, cost)
    end, area = naive(requests, cost)
    assert out.end == pytest.approx(end, rel=1e-6)
    assert out.running_seconds == pytest.approx(area, rel=1e-6)


@given(REQUESTS, st.integers(17, 80))
@settings(max_examples=60, deadline=None)
def test_with_a_small_kv_cache_everything_is_still_served(requests: list[tuple[float, int, int]], blocks: int) -> None:
    out = simulate(requests, replace(COST, kv_cache_tokens=blocks * 16))
    assert [one.done for one in out.sequences] == [n_out for _, _, n_out in requests]
    assert all(one.arrive <= one.first <= one.last <= out.end for one in out.sequences)
    assert 0 < out.kv_peak <= 1
    assert all(one.blocks == 0 for one in out.sequences)
    gaps = sum(n_out for _, _, n_out in requests) - len(requests)
    assert out.preemptions > 0 or len(out.gaps) == min(gaps, MAX_GAPS)


def test_a_curve_is_straight_between_its_points_and_beyond() -> None:
    cost = Cost(step_s=9.0, seq_s=9.0, curve=((2, 1.0), (4, 3.0), (8, 4.0)), context_s=0.5)
    assert [cost.device_seconds(n, 0, 0) for n in (1, 2, 3, 4, 6, 8, 12)] == [0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0]
    assert cost.device_seconds(3, 4, 0) == 4.0


@pytest.mark.parametrize(
    "text", ["", "1:2", "1:2 1:3", "2:1 1:2", "1:-1 2:3", "1:nan 2:3", "a:1 2:2", "1,2 3,4", "1:1:1 2:2"]
)
def test_a_curve_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="curve_ms must be two or more SEQUENCES:MS pairs"):
        step_curve(text)


def test_a_curve_comes_from_the_settings() -> None:
    adapter = SimulatedAdapter()
    spec = adapter.resolve(EngineSpec("simulated", "opt-125m", settings=(("curve_ms", "1:1 3:2"),)))
    assert adapter.cost(spec).curve == ((1, 0.001), (3, 0.002))


def test_a_full_cache_preempts_and_costs_time() -> None:
    work = [(0.0, 64, 64)] * 8
    roomy, tight = simulate(work, COST), simulate(work, replace(COST, kv_cache_tokens=6 * 128))
    assert roomy.preemptions == 0
    assert tight.preemptions > 0
    assert tight.kv_peak > 0.95
    assert tight.end > roomy.end


def test_a_request_that_can_never_fit_is_refused() -> None:
    with pytest.raises(CannotServe, match=r"100\+100 tokens does not fit the KV cache of 128"):
        simulate([(0.0, 100, 100)], replace(COST, kv_cache_tokens=128))


def test_throughput_rises_with_batch_and_flattens() -> None:
    rates = []
    for batch in (1, 4, 16, 64, 256):
        out = simulate([(0.0, 32, 32)] * batch, replace(COST, seq_s=1e-4))
        rates.append(batch * 32 / out.end)
    assert rates == sorted(rates)
    gains = [later / earlier for earlier, later in itertools.pairwise(rates)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < 1.2


@pytest.mark.parametrize("fraction", [0.03, 0.05, 0.1, 0.3])
def test_a_slowdown_is_exact(fraction: float) -> None:
    work = [(0.0, 32, 32)] * 16
    assert simulate(work, replace(COST, slowdown=fraction)).end == pytest.approx(
        (1 + fraction) * simulate(work, COST).end, rel=1e-12
    )


def test_a_slowdown_of_large_batches_leaves_small_ones_alone() -> None:
    slow = replace(COST, slowdown=0.5, slow_min_batch=16)
    small, large = [(0.0, 32, 32)] * 15, [(0.0, 32, 32)] * 16
    assert simulate(small, slow).end == simulate(small, COST).end
    assert simulate(large, slow).end == pytest.approx(1.5 * simulate(large, COST).end)


def test_neighbours_wait_for_the_device_and_not_for_each_others_host() -> None:
    half = Cost(step_s=1e-3, host_step_s=1e-3)

    def step(replicas: int, interference: float = 1.0) -> float:
        return replace(half, replicas=replicas, interference=interference).seconds(1, 0, 0)

    assert step(1) == pytest.approx(2e-3)
    assert step(2) == pytest.approx(3e-3)  # two engines make 4/3 of one
    assert step(4) == pytest.approx(5e-3)
    assert step(2, 0.0) == pytest.approx(2e-3)  # they fill each other's gaps
    assert step(4, 0.0) == pytest.approx(4e-3)  # and still cannot take more than the whole device


@given(REQUESTS, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_prompts_in_steps_of_their_own_make_the_running_wait(
    requests: list[tuple[float, int, int]], seats: int
) -> None:
    apart = simulate(requests, replace(COST, max_num_seqs=seats, mixed=False, host_prompt_s=1e-3))
    assert [one.done for one in apart.sequences] == [n_out for _, _, n_out in requests]
    assert apart.device_s <= apart.busy_s


def test_the_wait_for_a_prompt_stands_in_the_gaps_of_the_running() -> None:
    cost = Cost(step_s=1e-3, prefill_s=1e-4, mixed=False)
    out = simulate([(0.0, 10, 5), (0.0025, 20, 1)], cost)
    # the first runs alone (prompt 2 ms, then steps of 1 ms) until the second's prompt takes 3 ms of its own
    assert sorted(round(1e3 * gap, 6) for gap in out.gaps) == [1.0, 1.0, 1.0, 4.0]
    assert out.end == pytest.approx(9e-3)


def test_engines_that_have_finished_leave_the_device_to_the_others() -> None:
    cost = Cost(step_s=1e-3)
    alone, short, long = simulate([(0.0, 1, 20)], cost), *simulate_together([[(0.0, 1, 10)], [(0.0, 1, 20)]], cost)
    assert short.end == pytest.approx(20e-3, rel=0.1)  # two share it
    assert short.end < long.end < 2 * alone.end


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 500)), max_size=30), st.integers(1, 200))
def test_drawn_gaps_are_bounded_and_stay_inside_their_segments(
    segments: list[tuple[float, float, int]], limit: int
) -> None:
    gaps = draw_gaps(segments, limit)
    assert len(gaps) == min(limit, sum(count for _, _, count in segments))
    if segments:
        low = min(min(a, b) for a, b, _ in segments)
        high = max(max(a, b) for a, b, _ in segments)
        assert all(low - 1e-12 <= gap <= high + 1e-12 for gap in gaps)
