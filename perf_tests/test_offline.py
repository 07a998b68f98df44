"""Offline batch sweep: throughput rises sub-linearly with the batch to a plateau, and energy per token falls."""

from __future__ import annotations

import pytest

from pytest_slmperf import pick

BATCHES = pick(quick=[1, 8], full=[1, 2, 4, 8, 16, 32, 64], gpu=[1, 32, 256], gpu_full=[1, 8, 64, 256, 512])
LENGTHS = pick(quick=(32, 32), gpu=(128, 128), gpu_full=(161, 338))


@pytest.mark.parametrize("batch", BATCHES)
def test_batch(slmperf, batch):
    input_len, output_len = LENGTHS
    slmperf.offline(batch=batch, input_len=input_len, output_len=output_len)


def test_prefill(slmperf):
    """Long prompts and short answers: the test that shows the cost of a slower prefill most clearly."""
    batch, input_len = pick(quick=(4, 256), gpu=(32, 512))
    slmperf.offline(batch=batch, input_len=input_len, output_len=2)
