"""Replicas of a small model on one device (S8, S9) against fair baselines of a single engine (S10).

On a GPU: time slices and MPS. On a CPU: disjoint cores; if there are too few, the result names the shared ones.
"""

from __future__ import annotations

import pytest

from pytest_slmperf import active_profile, pick

SHARINGS = pick(quick=[], full=["time-slice"], gpu=["time-slice"], gpu_full=["time-slice", "mps"])
WORK = pick(
    quick={"batch": 8, "requests": 16, "input_len": 16, "output_len": 16, "total_kv_cache_tokens": 32768},
    full={"batch": 16, "requests": 64, "input_len": 32, "output_len": 32, "total_kv_cache_tokens": 32768},
    gpu={"batch": 128, "requests": 512, "input_len": 111, "output_len": 146},
    gpu_full={"batch": 256, "requests": 1024, "input_len": 111, "output_len": 292},
)


@pytest.mark.slmperf(rounds=2, launches=pick(quick=1, full=2, gpu=2), max_launches=pick(quick=2, full=4, gpu=4))
@pytest.mark.parametrize("sharing", SHARINGS)
def test_replicas(slmperf, sharing):
    """Does a second replica pay? Measurements determine the largest useful number of replicas."""
    fair = active_profile().profile == "full"
    numbers = pick(quick=[1, 2], gpu=[1, 2], gpu_full="auto" if sharing == "mps" else [1, 2, 4])
    found = slmperf.replication(numbers, sharing=sharing, fair=fair, **WORK)
    if not found.complete:
        return  # the machine was too disturbed: inconclusive
    assert found.useful.replicas >= 1
    assert all(result.metrics["fairness"].value > 0.5 for result in found.results.values())
