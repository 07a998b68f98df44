"""Loads on the cost model: the same answer as by its own loop, and what only a step-by-step engine can do."""

from __future__ import annotations

import pytest

from pytest_slmperf.engines.simulated.cost_model import CannotServe, Cost, Stepwise, simulate

COST = Cost(step_s=1e-3, seq_s=1e-5, context_s=1e-8, prefill_s=1e-6, max_num_seqs=3, kv_cache_tokens=160)


def played(requests, cost):
    """The requests given one by one, as a load would."""
    engine = Stepwise(cost)
    due = sorted((at, index, n_in, n_out) for index, (at, n_in, n_out) in enumerate(requests))
    while due or not engine.idle:
        while due and due[0][0] <= engine.now:
            _, index, n_in, n_out = due.pop(0)
            engine.add(index, n_in, n_out)
        if engine.idle:
            engine.now = due[0][0]
        else:
            engine.step()
    return engine


def test_step_by_step_is_the_same_engine():
    requests = [(0.003 * k, 10 + 7 * k % 30, 5 + k % 40) for k in range(40)]
    whole, engine = simulate(requests, COST), played(requests, COST)
    ended = engine.ended()
    assert whole.preemptions > 0  # or the KV cache was never full
    assert ended.preemptions == whole.preemptions
    assert ended.end == pytest.approx(whole.end, rel=1e-6)
    assert ended.kv_peak == whole.kv_peak
    for one in whole.sequences:
        assert engine.requests[one.index].first == pytest.approx(one.first, rel=1e-6)
        assert engine.requests[one.index].last == pytest.approx(one.last, rel=1e-6)


def test_dropped_requests_give_their_place_back():
    engine = Stepwise(COST)
    for index in range(5):
        engine.add(index, 20, 100)
    engine.step()
    for index in range(5):
        engine.drop(index)
    assert engine.idle
    assert engine.free == engine.blocks


def test_request_that_never_fits():
    with pytest.raises(CannotServe, match="does not fit the KV cache of 160"):
        Stepwise(COST).add(0, 100, 100)
