"""KV-cache budget (S5): the share of the memory that the peak throughput really needs."""

from __future__ import annotations

import pytest

from pytest_slmperf import pick

BUDGETS = pick(quick=[], full=[512, 1024, 2048, 4096], gpu=[], gpu_full=[8192, 32768, 65536, 131072])


@pytest.mark.skipif(not BUDGETS, reason="an engine per budget: measured in the full profile")
@pytest.mark.slmperf(rounds=2, launches=2)
def test_budget(slmperf):
    """A plateau: beyond some budget more KV cache does not help, and that memory can be freed."""
    input_len, output_len = pick(quick=(32, 32), gpu=(111, 292))
    sweep = slmperf.sweep(
        kv_cache_tokens=BUDGETS,
        batch=pick(quick=32, gpu=256),
        input_len=input_len,
        output_len=output_len,
        adaptive=False,
    )
    assert not sweep.complete or sweep.knee().share_of_peak >= 0.95
