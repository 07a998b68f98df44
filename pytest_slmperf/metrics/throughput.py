"""Tokens and requests per second, and the load that the engine reports of itself."""

from __future__ import annotations

import math

from pytest_slmperf.metrics.base import Metric, computed


@computed("tok/s", "higher", "sum of n_out ÷ measured window", gate=True, positive=True)
def output_throughput(n_out: float, window_s: float) -> float:
    return n_out / window_s


@computed("tok/s", "higher", "sum of n_in + n_out ÷ measured window", positive=True)
def total_token_throughput(n_in: float, n_out: float, window_s: float) -> float:
    return (n_in + n_out) / window_s


@computed("req/s", "higher", "completed requests ÷ measured window", positive=True)
def request_throughput(completed: int, window_s: float) -> float:
    return completed / window_s


@computed("req/s", "higher", "requests that meet every SLO ÷ measured window")
def goodput(good: int, window_s: float) -> float:
    return good / window_s


@computed("1", "higher", "requests that meet every SLO ÷ requests due", label="SLO attainment")
def slo_attainment(good: int, due: int) -> float:
    return good / due


@computed("1", "none", "time-mean of requests running in the engine: sum of their seconds ÷ measured window")
def mean_running_requests(running_s: float, window_s: float) -> float:
    return running_s / window_s


kv_cache_peak = Metric(
    "kv_cache_peak", "%", "none", "highest share of KV-cache blocks in use", label="peak KV cache use", combine=max
)
preemptions = Metric(
    "preemptions", "count", "lower", "the engine's own counter, over the measured rounds", combine=math.fsum
)
