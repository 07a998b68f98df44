"""The Pareto frontier of throughput and latency (S2, S4), the batch advisor (S7), model size (S3), energy (S11)."""

from __future__ import annotations

import pytest

from pytest_slmperf import active_profile, pick

BATCHES = pick(
    quick=[],
    full=[1, 2, 4, 8, 16, 24, 32, 48, 64],
    gpu=[1, 4, 16, 64, 256],
    gpu_full=[1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512],
)
LENGTHS = pick(quick=(16, 16), full=(32, 32), gpu=(128, 128), gpu_full=(161, 338))
LIMITS = pick(quick=[], full=[1, 4, 16, 64], gpu=[], gpu_full=[1, 4, 16, 32, 64, 96, 128, 192, 256, 384, 512, 640, 768])
MODELS = pick(
    quick=[],
    full=["opt-125m", "opt-350m"],
    gpu=[],
    gpu_full=["opt-125m", "opt-350m", "opt-1.3b", "opt-2.7b", "qwen2.5-0.5b", "smollm2-1.7b"],
)
ROUNDS = pick(quick=2, full=4)
ROOMY = pytest.mark.skipif(not LIMITS, reason="an engine per point: measured in the full profile")


@pytest.mark.skipif(not BATCHES, reason="in the full profile, for which a CPU takes its time")
@pytest.mark.slmperf(rounds=ROUNDS)
def test_frontier(slmperf):
    """Throughput rises with the batch at the cost of latency; the verdict is on the whole frontier."""
    input_len, output_len = LENGTHS
    sweep = slmperf.sweep(batch=BATCHES, input_len=input_len, output_len=output_len)
    if not sweep.complete:
        return  # the machine was too disturbed: inconclusive
    first, last = sweep.keys[0], sweep.keys[-1]
    assert sweep.at(last, "output_throughput") > sweep.at(first, "output_throughput")
    if len(sweep.keys) >= 4 and active_profile().profile == "full":
        reference = min(sweep.keys, key=lambda key: abs(key - 32))
        slo = sweep.slo(2, at=reference)
        advice = sweep.advise(slo)
        assert advice is not None
        again = sweep.confirm(advice, slo)  # the pick, measured again
        assert again.met is None or again.values[slo.name] <= 1.1 * slo.bound


@ROOMY
@pytest.mark.slmperf(rounds=2, launches=2)
def test_saturated(slmperf):
    """More simultaneous requests than seats, with an engine for each limit: the knee's share of the KV cache."""
    input_len, output_len = pick(quick=(16, 16), full=(32, 32), gpu=(111, 292))
    # Two waves per limit instead of the same load for all: 2000 requests take 90 minutes at a limit of 1, 70 s at 256.
    load = pick(quick={"requests": 64}, gpu={"waves": 2})
    sweep = slmperf.sweep(max_num_seqs=LIMITS, input_len=input_len, output_len=output_len, **load)
    assert not sweep.complete or sweep.knee().share_of_peak >= 0.95


@ROOMY
@pytest.mark.slmperf(rounds=2, launches=2)
def test_model_size(slmperf):
    """The same batch on models of rising size."""
    input_len, output_len = LENGTHS
    sweep = slmperf.sweep(model=MODELS, batch=pick(quick=8, gpu=64), input_len=input_len, output_len=output_len)
    if not sweep.complete:
        return
    small, large = MODELS[:2]
    assert sweep.at(small, "output_throughput") > sweep.at(large, "output_throughput")
