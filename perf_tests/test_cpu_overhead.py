"""The cost of the host (S13: CUDA graphs on and off), and utilisation as a misleading figure (S12). Both need a GPU."""

from __future__ import annotations

import pytest

from pytest_slmperf import active_profile

pytestmark = [
    pytest.mark.skipif(not active_profile().gpu, reason="CUDA graphs and NVML utilisation need a GPU"),
    pytest.mark.skipif(active_profile().profile != "full", reason="in the full profile: further engines to start"),
]


@pytest.mark.slmperf(rounds=3)
def test_cuda_graphs(slmperf):
    """Without graphs the host launches every kernel of a step, which costs the more the smaller the model is."""
    sweep = slmperf.sweep(enforce_eager=[False, True], batch=32, input_len=64, output_len=128)
    assert not sweep.complete or sweep.at("False", "output_throughput") > sweep.at("True", "output_throughput")


@pytest.mark.slmperf(rounds=3)
def test_utilisation_is_not_throughput(slmperf):
    """NVML's utilisation, which is in each round's evidence, can fall while throughput rises."""
    sweep = slmperf.sweep(batch=[1, 32, 256], input_len=161, output_len=338, adaptive=False)
    assert not sweep.complete or sweep.at(256, "output_throughput") > sweep.at(1, "output_throughput")
