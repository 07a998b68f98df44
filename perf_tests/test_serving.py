"""Serving under load: latency at fractions of the saturated rate, goodput under an SLO, overload, and a closed loop.

The saturated rate, which differs by a factor of hundreds between machines, is measured first, by overload: all requests at
once.  The other tests send at a fixed rate for each kind of machine, so that two runs stay comparable.
"""

from __future__ import annotations

import pytest

from pytest_slmperf import active_profile, pick

LENGTHS = pick(quick={"input_len": 32, "output_len": 16}, gpu={"input_len": 128, "output_len": 128},
               gpu_full={"input_len": 161, "output_len": 338})  # fmt: skip
SECONDS = pick(quick={"warmup_s": 0.5, "duration_s": 2.0}, full={"warmup_s": 3.0, "duration_s": 15.0},
               gpu={"warmup_s": 2.0, "duration_s": 8.0}, gpu_full={"warmup_s": 5.0, "duration_s": 20.0})  # fmt: skip
# About 40 % of the saturated rate of an OPT-125M on one CPU core; on a GPU far below saturation, then close to it.
RATES = pick(quick=[10.0], full=[5.0, 10.0, 15.0, 20.0], gpu=[10.0], gpu_full=[5.0, 10.0, 20.0, 40.0])
SLO = pick(quick={"ttft": 500.0, "tpot": 100.0}, gpu={"ttft": 200.0, "tpot": 20.0})
WORKLOADS = ["azure-2023-conv", "azure-2023-code", "sharegpt-like"]
MANY = pick(quick=48, full=128, gpu=768)
# Latencies in a queue vary more than the times of a batch.
MARGINS = {"tolerance": 0.05, "limit": 0.25}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.slmperf(**MARGINS)
def test_poisson(slmperf, rate):
    """Open loop: latency counts from the time at which each request was due."""
    slmperf.serving(rate=rate, slo=SLO, **LENGTHS, **SECONDS)


@pytest.mark.slmperf(**MARGINS)
def test_overload(slmperf):
    """All requests at once, more than the engine has seats: each request completes, and preemptions are counted."""
    slmperf.serving(arrivals=[0.0] * MANY, num_requests=MANY, tolerated_failures=0.0, **LENGTHS)


@pytest.mark.parametrize("workload", pick(quick=[], full=WORKLOADS, gpu=[], gpu_full=WORKLOADS))
@pytest.mark.slmperf(**MARGINS)
def test_published_lengths(slmperf, workload):
    """Lengths of published traces, scaled down to the engine's window."""
    scale = pick(quick=0.02, gpu=0.1)
    slmperf.serving(rate=RATES[0], workload=workload, length_scale=scale, slo=SLO, **SECONDS)


@pytest.mark.skipif(active_profile().profile != "full", reason="in the full profile: it takes a minute on a CPU")
@pytest.mark.parametrize("burstiness", [0.25, 4.0])
@pytest.mark.slmperf(**MARGINS)
def test_burstiness(slmperf, burstiness):
    """The same mean rate, in bursts or evenly spaced."""
    slmperf.serving(rate=RATES[0], burstiness=burstiness, slo=SLO, **LENGTHS, **SECONDS)


@pytest.mark.skipif(active_profile().profile != "full", reason="in the full profile: it takes a minute on a CPU")
@pytest.mark.slmperf(**MARGINS)
def test_closed_loop(slmperf):
    """A number of users who each wait for their answer: throughput against latency, without a queue of unsent requests."""
    slmperf.serving(concurrency=pick(quick=8, gpu=64), slo=SLO, **LENGTHS, **SECONDS)


@pytest.mark.skipif(active_profile().profile != "full", reason="in the full profile: each launch starts an engine anew")
@pytest.mark.slmperf(gate=["ttft_p50", "engine_start_time"], **MARGINS)
def test_cold_start_under_load(slmperf):
    """The first requests of a fresh engine, sent at the rate for a warm engine."""
    slmperf.serving(rate=RATES[0], cold=True, num_requests=pick(quick=20, gpu=60), slo=SLO, **LENGTHS)
