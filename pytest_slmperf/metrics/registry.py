"""All metrics: throughput, latency, energy, sweeps and replication; and the registry that finds a metric by its name.

Names and formulas follow vLLM's benchmark vocabulary, so that existing dashboards can read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.base import Latency, Metric, computed, latency
from pytest_slmperf.util.checks import near_names

# Throughput, and the load by the engine's own report.


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


# The latencies of a request, in the vocabulary of vLLM's benchmarks, and the start time of an engine. ``t_begin``, the start
# of a request's clock, is ``t_due`` in open loop, which includes the delay of a late sender, and ``t_sent`` in closed loop
# and offline.


@latency(
    "TTFT",
    "t_first − t_due (open loop) or t_first − t_sent (closed loop, offline); queueing included",
    positive=True,
)
def ttft(t_first: float, t_begin: float) -> float:
    """Time to the first token."""
    return t_first - t_begin


@latency("TPOT", "(t_last − t_first) ÷ (n_out − 1), per request with n_out ≥ 2")
def tpot(t_last: float, t_first: float, n_out: int) -> float:
    """Time per output token after the first."""
    return (t_last - t_first) / (n_out - 1)


# Without code: load.token_counter counts gaps as chunks arrive, in processes with only the standard library.
itl = Latency("itl", "ITL", "gaps between tokens pooled over requests; a chunk of k tokens gives k gaps of gap ÷ k")


@latency("end-to-end latency", "t_last − t_due (open loop) or t_last − t_sent (closed loop, offline)", positive=True)
def e2el(t_last: float, t_begin: float) -> float:
    """End-to-end latency."""
    return t_last - t_begin


LATENCIES: dict[str, Latency] = {kind.base: kind for kind in (ttft, tpot, itl, e2el)}


@computed("s", "lower", "process spawn to first request served", positive=True)
def engine_start_time(t_spawn: float, t_served: float) -> float:
    return t_served - t_spawn


# Energy per unit of work, and power, all gross: idle power is not subtracted. A meter's reading may be shorter than the
# rounds (from tick to tick) and includes the short gaps between rounds. The rounds' joules are therefore its mean power
# times the rounds' seconds, so that joules per token times throughput is the mean power.

JOULES = "gross joules of the rounds (mean_power × their seconds)"


@computed("W", "lower", "gross joules ÷ measured window", positive=True)
def mean_power(joules: float, window_s: float) -> float:
    return joules / window_s


@computed("J/tok", "lower", f"{JOULES} ÷ output tokens", label="energy per output token", gate=True, positive=True)
def energy_per_output_token(mean_power: float, rounds_s: float, n_out: int) -> float:
    return mean_power * rounds_s / n_out


@computed("J/req", "lower", f"{JOULES} ÷ completed requests", label="energy per request", positive=True)
def energy_per_request(mean_power: float, rounds_s: float, completed: int) -> float:
    return mean_power * rounds_s / completed


@computed(
    "J·s",
    "lower",
    f"{JOULES} per request × mean end-to-end seconds of a request",
    label="energy-delay product",
    positive=True,
)
def energy_delay_product(energy_per_request: float, e2el_mean_ms: float) -> float:
    """Gonzalez and Horowitz, JSSC 1996."""
    return energy_per_request * e2el_mean_ms / 1e3


# Comparable only between readings of the same kind of meter and devices.
METRICS = (energy_per_output_token, energy_per_request, mean_power, energy_delay_product)


# Metrics of a whole sweep.

KNEE_SHARE = 0.95  # of the peak throughput


@computed(
    "tok/s/ms",
    "higher",
    "area under the frontier of output throughput against 1 ÷ mean latency per token; reference point: origin",
    gate=True,
)
def hypervolume(frontier: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume between ``reference`` and the points, whose coordinates are better if larger.

    By moocore (Fonseca, Paquete and López-Ibáñez 2006); points below the reference in some coordinate add nothing.
    """
    if not frontier:
        return 0.0
    import moocore
    import numpy as np

    return float(moocore.hypervolume(-np.array(frontier), ref=[-value for value in reference]))


@computed("tok/s", "higher", "highest output throughput of a sweep's points", positive=True)
def peak_output_throughput(throughputs: Sequence[float]) -> float:
    return max(throughputs)


@computed("1", "lower", "least key of a sweep (batch) whose output throughput is ≥ 95 % of the peak")
def knee_key(keys: Sequence[float], throughputs: Sequence[float]) -> float:
    return min(key for key, near in zip(keys, near_peak(throughputs), strict=True) if near)


def near_peak(throughputs: Sequence[float], share: float = KNEE_SHARE) -> list[bool]:
    """For each point, whether it reaches ``share`` of the highest throughput."""
    least = share * peak_output_throughput(throughputs)
    return [value >= least for value in throughputs]


@computed("%", "lower", "kv_cache_peak at the knee")
def knee_kv_share(kv_cache_peak: Mapping[float, float], knee_key: float) -> float:
    """``kv_cache_peak``: of each key of the sweep."""
    return kv_cache_peak[knee_key]


# Metrics of replication.


@computed("1", "higher", "Jain's index of the replicas' output throughputs, (Σx)² ÷ (n·Σx²)")
def fairness(x: Sequence[float]) -> float:
    """1 if all replicas get the same, 1/n if one gets everything (Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    if not x or min(x) < 0 or not any(x):
        raise InvalidInput(f"fairness needs at least one share above 0 and none below, not {list(x)}")
    return sum(x) ** 2 / (len(x) * sum(share * share for share in x))


ENERGY_METRICS = tuple(metric.name for metric in METRICS)

_ALL: tuple[Metric, ...] = (
    output_throughput,
    total_token_throughput,
    request_throughput,
    *(metric for kind in LATENCIES.values() for metric in kind.metrics.values()),
    goodput,
    slo_attainment,
    *METRICS,
    engine_start_time,
    kv_cache_peak,
    preemptions,
    mean_running_requests,
    hypervolume,
    peak_output_throughput,
    knee_key,
    knee_kv_share,
    fairness,
)

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def register(metric: Metric) -> Metric:
    """Add a metric of another package. The same metric may be added again; InvalidInput for another of its name."""
    first = REGISTRY.setdefault(metric.name, metric)
    if first != metric:
        raise InvalidInput(f"metric {metric.name!r} is already registered with another meaning: {first}")
    return first


def metric(name: str) -> Metric:
    """The registered metric ``name``; InvalidInput, with the nearest names, if there is none.

    ``NAME@POINT`` is metric NAME at one point of a sweep or of one replica: same unit and direction, its own launches
    and verdicts.
    """
    registered = known(name)
    if registered is None:
        near = near_names(name, REGISTRY, 3) or sorted(REGISTRY)[:3]
        raise InvalidInput(f"unknown metric {name!r}; did you mean {', '.join(near)}?")
    return registered


def known(name: str) -> Metric | None:
    """The registered metric ``name``; None if there is none."""
    base, at, point = name.partition("@")
    whole = REGISTRY.get(base)
    if whole is None or not at:
        return whole
    if not point:
        return None
    return replace(whole, name=name, formula=f"{whole.formula}; at {point}", label=f"{whole.label} at {point}")
