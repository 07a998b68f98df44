import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.replication import (
    ReplicaPoint,
    gains,
    kv_tokens_each,
    kv_tokens_together,
    largest_useful,
    split_evenly,
)
from pytest_slmperf.metrics.registry import fairness


def test_published_replication_of_opt_1_3b():
    # arXiv 2503.08311, H100, MPS: 1×768 → 10 968 tok/s, 2×256 → 14 669, 4×256 → 14 720 with a full KV cache.
    points = [
        ReplicaPoint(1, 10968.0, kv_cache_peak=96.8),
        ReplicaPoint(2, 14669.0, kv_cache_peak=80.0),
        ReplicaPoint(4, 14720.0, preemptions=543, kv_cache_peak=100.0),
    ]
    found = largest_useful(points)
    assert found.replicas == 2
    assert found.gain == pytest.approx(0.337, abs=0.001)
    assert found.reason == "4 replicas add +0.3 %, with 543 preemptions: the KV cache is full"
    assert gains(14669.0, {"chunked prefill": 11860.0})["chunked prefill"] == pytest.approx(0.237, abs=0.001)


def test_a_number_that_cannot_run_ends_the_search():
    found = largest_useful([ReplicaPoint(1, 10.0), ReplicaPoint(2, None, failure="no memory"), ReplicaPoint(4, 99.0)])
    assert (found.replicas, found.gain) == (1, 0.0)
    assert found.reason == "2 replicas cannot run: no memory"


def test_a_full_cache_is_named_without_preemptions_and_order_does_not_matter():
    points = [ReplicaPoint(2, 20.0), ReplicaPoint(4, 20.1, kv_cache_peak=99.0), ReplicaPoint(1, 10.0)]
    assert largest_useful(points).reason == "4 replicas add +0.5 %: the KV cache is 99 % full"
    assert largest_useful(points, least_gain=0.001).replicas == 4
    assert largest_useful(points[:1] + points[2:]).reason == "more were not measured"


@pytest.mark.parametrize("points", [[], [ReplicaPoint(2, 1.0)], [ReplicaPoint(1, None)]])
def test_one_replica_is_needed_to_count_from(points):
    with pytest.raises(InvalidInput, match="one replica"):
        largest_useful(points)


def test_fairness():
    assert fairness([5, 5, 5]) == 1
    assert fairness([1, 0, 0, 0]) == 0.25
    for wrong in ([], [0.0], [1, -1]):
        with pytest.raises(InvalidInput, match="fairness"):
            fairness(wrong)
    with pytest.raises(InvalidInput, match="throughput of 0"):
        gains(1.0, {"none": 0.0})


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=8))
def test_fairness_lies_between_one_nth_and_one(shares):
    assert 1 / len(shares) - 1e-9 <= fairness(shares) <= 1 + 1e-9


def test_equal_memory():
    # 100 tokens of cache at 10 bytes each; a copy of the weights takes 200 bytes = 20 tokens
    assert kv_tokens_each(100, 1, 200, 10) == 100
    assert kv_tokens_each(100, 2, 200, 10) == 40
    assert kv_tokens_each(100, 6, 200, 10) == 0


@given(st.integers(0, 1000), st.integers(1, 20))
def test_split(count, parts):
    found = split_evenly(count, parts)
    assert sum(found) == count
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize("copy_bytes", [0, 1, 199, 2 * 10**9])
@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
@pytest.mark.parametrize("each", [1, 48, 2048])
def test_the_least_budget_of_which_each_replica_has_enough(copy_bytes, replicas, each):
    least = kv_tokens_together(each, replicas, copy_bytes, 36864)
    assert kv_tokens_each(least, replicas, copy_bytes, 36864) >= each
    assert kv_tokens_each(least - 1, replicas, copy_bytes, 36864) < each
