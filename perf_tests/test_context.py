"""Context length (S6): the knee depends on the tokens in flight, not on the batch alone."""

from __future__ import annotations

import pytest

from pytest_slmperf import pick

OUTPUTS = pick(quick=[], full=[8, 32, 64, 128], gpu=[130, 390], gpu_full=[130, 260, 390, 520])


@pytest.mark.skipif(not OUTPUTS, reason="in the full profile, for which a CPU takes its time")
@pytest.mark.slmperf(rounds=2)
def test_output_length(slmperf):
    """The same batch with ever longer answers: each token reads more KV cache, so that latency per token does not fall."""
    sweep = slmperf.sweep(
        output_len=OUTPUTS, batch=pick(quick=8, gpu=64, gpu_full=256), input_len=pick(quick=16, gpu=161), adaptive=False
    )
    if not sweep.complete:
        return  # the machine was too disturbed: inconclusive
    shortest, longest = sweep.keys[0], sweep.keys[-1]
    # Not "more than": on a CPU a KV block holds 128 tokens, so that both lengths may take one block.
    assert sweep.at(longest, "kv_cache_peak") >= sweep.at(shortest, "kv_cache_peak")
