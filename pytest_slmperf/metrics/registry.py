"""The one registry of metrics: name, unit, direction, formula, and how each is gated by default.

Names and formulas follow vLLM's benchmark vocabulary, so that existing dashboards read them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pytest_slmperf.errors import InvalidInput

Direction = Literal["higher", "lower", "none"]
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
# Made of joules: comparable only where both sides were read on the same kind of meter and devices.
ENERGY_METRICS = ("energy_per_output_token", "energy_per_request", "mean_power", "energy_delay_product")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    ``better`` is the direction of improvement ("none": reported, has no direction, never gated).
    ``gate`` says whether a comparison of this metric can fail a test when nothing else was asked for.
    ``positive`` says that a reading of 0 is none: the work took time and energy, and gave tokens.
    """

    name: str
    unit: str
    better: Direction
    formula: str
    gate: bool = False
    positive: bool = False

    def __post_init__(self) -> None:
        if self.gate and self.better == "none":
            raise ValueError(f"metric {self.name!r} has no direction and so cannot gate")


def _latency(base: str, formula: str, *, positive: bool = False) -> list[Metric]:
    return [
        Metric(
            f"{base}_{stat}",
            "ms",
            "lower",
            f"{'mean' if stat == 'mean' else stat[1:] + 'th percentile'} of {formula}",
            positive=positive,
        )
        for stat in STATISTICS
    ]


_ALL = [
    Metric("output_throughput", "tok/s", "higher", "sum of n_out ÷ measured window", gate=True, positive=True),
    Metric("total_token_throughput", "tok/s", "higher", "sum of n_in + n_out ÷ measured window", positive=True),
    Metric("request_throughput", "req/s", "higher", "completed requests ÷ measured window", positive=True),
    *_latency(
        "ttft",
        "t_first − t_due (open loop) or t_first − t_sent (closed loop, offline); queueing included",
        positive=True,
    ),
    *_latency("tpot", "(t_last − t_first) ÷ (n_out − 1), per request with n_out ≥ 2"),
    *_latency("itl", "gaps between tokens pooled over requests; a chunk of k tokens gives k gaps of gap ÷ k"),
    *_latency("e2el", "t_last − t_due (open loop) or t_last − t_sent (closed loop, offline)", positive=True),
    Metric("goodput", "req/s", "higher", "requests that meet every SLO ÷ measured window"),
    Metric("slo_attainment", "1", "higher", "requests that meet every SLO ÷ requests due"),
    Metric(
        "energy_per_output_token",
        "J/tok",
        "lower",
        "gross joules in the window ÷ output tokens",
        gate=True,
        positive=True,
    ),
    Metric("energy_per_request", "J/req", "lower", "gross joules in the window ÷ completed requests", positive=True),
    Metric("mean_power", "W", "lower", "gross joules ÷ measured window", positive=True),
    Metric(
        "energy_delay_product",
        "J·s",
        "lower",
        "gross joules per request × mean end-to-end seconds of a request",
        positive=True,
    ),
    Metric("engine_start_time", "s", "lower", "process spawn to first request served", positive=True),
    Metric("kv_cache_peak", "%", "none", "highest share of KV-cache blocks in use"),
    Metric("preemptions", "count", "lower", "the engine's own counter, over the measured rounds"),
    Metric("mean_running_requests", "1", "none", "time-mean of requests running in the engine"),
    Metric(
        "hypervolume",
        "tok/s/ms",
        "higher",
        "area under the frontier of output throughput against 1 ÷ mean latency per token; reference point: origin",
        gate=True,
    ),
    Metric("peak_output_throughput", "tok/s", "higher", "highest output throughput of a sweep's points", positive=True),
    Metric("knee_key", "1", "lower", "least key of a sweep (batch) whose output throughput is ≥ 95 % of the peak"),
    Metric("knee_kv_share", "%", "lower", "kv_cache_peak at the knee"),
    Metric("fairness", "1", "higher", "Jain's index of the replicas' output throughputs, (Σx)² ÷ (n·Σx²)"),
]

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def register(metric: Metric) -> Metric:
    """Add a metric (scenario families that measure something of their own); the same twice is fine, a clash is not."""
    first = REGISTRY.setdefault(metric.name, metric)
    if first != metric:
        raise InvalidInput(f"metric {metric.name!r} is already registered with another meaning: {first}")
    return first


def metric(name: str) -> Metric:
    """The registered metric of that name; InvalidInput with the nearest names otherwise.

    ``NAME@POINT`` is metric NAME at one point of a sweep or of one replica: same unit and direction, its own launches
    and verdicts.
    """
    found = known(name)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, REGISTRY, n=3) or sorted(REGISTRY)[:3]
        raise InvalidInput(f"unknown metric {name!r}; did you mean {', '.join(near)}?")
    return found


def known(name: str) -> Metric | None:
    """The same, None for a name that is not registered."""
    base, at, point = name.partition("@")
    if at and point and base in REGISTRY:
        whole = REGISTRY[base]
        return replace(whole, name=name, formula=f"{whole.formula}; at {point}")
    return REGISTRY.get(name)
