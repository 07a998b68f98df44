import pytest
from support import published_points as published

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.advisor import (
    Memory,
    efficiency,
    engine_flags,
    kv_needed,
    largest_batch,
    least_energy,
    most_replicas,
    with_memory,
)
from pytest_slmperf.frontier.points import MetricBound, Point

GIB = 2**30


@pytest.mark.parametrize(("factor", "pick"), [(2, 96), (4, 256)])
def test_published_pick(sweep, factor, pick):
    slo = MetricBound("itl_mean", factor * published.ITL_32)
    advice = largest_batch(sweep, "output_throughput", [slo])
    assert advice.key == pick
    assert "itl_mean" in advice.reason
    assert advice.efficiency > 0.1


def test_epsilon_alone_stops_the_batch(sweep):
    assert largest_batch(sweep, "output_throughput").key == 256  # 11 % of perfect scaling; 384 has 7.6 %
    assert largest_batch(sweep, "output_throughput", epsilon=0.2).key == 96
    assert largest_batch(sweep, "output_throughput", epsilon=0).key == 768


def test_nothing_meets_the_slo(sweep):
    assert largest_batch(sweep, "output_throughput", [MetricBound("itl_mean", 1.0)]) is None


def test_a_point_without_the_reading_does_not_meet_the_slo():
    points = [Point(1, {"t": 10.0, "itl": 1.0}), Point(2, {"t": 19.0})]
    assert largest_batch(points, "t", [MetricBound("itl", 5)]).key == 1


def test_slo_that_is_a_floor(sweep):
    assert not MetricBound("output_throughput", 300, "higher").met(sweep[0])
    assert MetricBound("output_throughput", 300, "higher").met(sweep[1])


def test_efficiency_without_a_point_at_one():
    assert efficiency([Point(8, {"t": 160.0}), Point(4, {"t": 100.0})], "t") == [0.8, 1.0]


@pytest.mark.parametrize("epsilon", [-0.1, 1, 2])
def test_epsilon_out_of_range(sweep, epsilon):
    with pytest.raises(InvalidInput, match="epsilon"):
        largest_batch(sweep, "output_throughput", epsilon=epsilon)


def test_keys_and_throughput_that_allow_no_scaling():
    with pytest.raises(InvalidInput, match="above 0"):
        largest_batch([Point(0, {"t": 1.0})], "t")
    with pytest.raises(InvalidInput, match="cannot be related"):
        largest_batch([Point(1, {"t": 0.0}), Point(2, {"t": 1.0})], "t")


def test_least_energy_within_the_slo(sweep):
    assert least_energy(sweep, "energy_per_output_token").key == 512
    assert least_energy(sweep, "energy_per_output_token", [MetricBound("itl_mean", 20)]).key == 128
    assert least_energy(sweep, "energy_per_output_token", [MetricBound("itl_mean", 1)]) is None
    some = [*sweep[:3], Point(8, {"output_throughput": 1.0})]
    assert "1 point has no energy reading" in least_energy(some, "energy_per_output_token").reason


def test_memory_freed_flags_and_replicas():
    memory = Memory(total=64 * GIB, weights=int(2.6 * GIB), kv=50 * GIB, overhead=2 * GIB)
    assert kv_needed(memory, 38.05, headroom=1.0) == int(0.3805 * 50 * GIB)
    assert kv_needed(memory, 99) == memory.kv  # the headroom never asks for more than there was
    assert most_replicas(memory, 38.05) == 2
    assert most_replicas(memory, 15.98) == 4


def test_advice_with_memory(sweep):
    memory = Memory(total=64 * GIB, weights=int(2.6 * GIB), kv=50 * GIB)
    advice = with_memory(largest_batch(sweep, "output_throughput", [MetricBound("itl_mean", 30.04)]), memory, 38.05)
    budget = kv_needed(memory, 38.05)
    assert advice.memory_freed_bytes == memory.kv - budget
    assert advice.flags == ("--max-num-seqs", "256", "--kv-cache-memory-bytes", str(budget))
    assert advice.detail["replicas"] == 2
    assert engine_flags(96) == ("--max-num-seqs", "96")


def test_memory_errors():
    with pytest.raises(InvalidInput, match="weights must not be negative"):
        Memory(total=1, weights=-1, kv=1)
    with pytest.raises(InvalidInput, match="between 0 and 100"):
        kv_needed(Memory(total=1, weights=1, kv=1), 101)
