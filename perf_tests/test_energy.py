"""Energy per token against batch: it falls steeply while more sequences share each pass over the weights, then is flat.

A published sweep (OPT-1.3B on one H100, batch 1 to 512) has this shape; the joules themselves depend on the board.  Without
a meter the tests still measure throughput, and the energy metrics have the reason why they are missing.
"""

from __future__ import annotations

import pytest

from pytest_slmperf import pick

BATCHES = pick(quick=[], full=[1, 16], gpu=[], gpu_full=[1, 16, 64, 256, 512])
LENGTHS = pick(quick=(32, 32), gpu=(161, 338))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.slmperf(tolerance=0.02, rounds=4)
def test_energy_per_token(slmperf, batch):
    """One point of the curve, measured over windows that are long enough for the meter's bound."""
    input_len, output_len = LENGTHS
    slmperf.offline(batch=batch, input_len=input_len, output_len=output_len)


def test_resident_idle(slm_engine, energy_meter):
    """Power while an engine is loaded and idle: the floor under every joule per token."""
    if not energy_meter.available:
        pytest.skip(f"no energy meter: {energy_meter.reason}")
    assert slm_engine.facts  # starts the engine, unless an earlier test has
    watts = energy_meter.idle_power_w(2.0)
    assert watts is not None
    assert watts > 0
