"""The meter on the NVIDIA GPU of this machine, where there is one: `pytest tests/engine/test_real_gpu.py -rs`.

What no simulated library can show: that the counter ticks, that it agrees with the power sensor, that looking at it
closely leaves it alone, and what a CUDA context adds at rest.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pytest_slmperf.energy.meters.nvml import NvmlMeter

CONTEXT = "import torch; x = torch.zeros(1, device='cuda'); torch.cuda.synchronize(); print('up', flush=True); input()"


@pytest.fixture(scope="module")
def meter():
    found = NvmlMeter()
    if not found.available:
        pytest.skip(f"no NVIDIA GPU to meter: {found.reason}")
    found.calibrate()
    yield found
    found.close()


def test_the_tick_is_found_and_looking_closely_leaves_the_counter_alone(meter):
    for device in meter.devices():
        assert device["source"] == "nvml-counter", device
        assert 0.005 < device["tick_s"] < 2, device
        assert not any("disturbs" in note or "still changes" in note for note in device["notes"]), device


def test_counter_and_power_integral_agree_within_bounds_and_gain(meter):
    with meter.watch() as watch:
        begun = watch.next_tick()
        time.sleep(5)
        reading = watch.reading(begun, time.monotonic())
        matched = watch.matched([(begun, time.monotonic())])
    assert matched is not None
    assert matched.bound_j <= 0.02 * matched.joules
    for device in reading.devices:
        witness = device.detail["witness"]
        apart = abs(device.joules - witness["joules"])
        assert apart <= device.bound_j + witness["bound_j"] + 2 * device.gain * device.joules, device


def test_a_context_that_rests_is_not_free(meter):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch sees no CUDA device")
    bare = meter.idle_power_w(2.0)
    child = subprocess.Popen([sys.executable, "-c", CONTEXT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "up\n"
        time.sleep(2)
        resident = meter.idle_power_w(2.0)
    finally:
        child.communicate("\n")
    assert bare > 0
    assert resident > 0.95 * bare
