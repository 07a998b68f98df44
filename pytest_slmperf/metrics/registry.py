"""The one registry of metrics.

Names and formulas follow vLLM's benchmark vocabulary, so that existing dashboards read them.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics import energy, latency, replication, sweep, throughput
from pytest_slmperf.metrics.base import Metric
from pytest_slmperf.util.suggest import near_names

ENERGY_METRICS = tuple(metric.name for metric in energy.METRICS)

_ALL: tuple[Metric, ...] = (
    throughput.output_throughput,
    throughput.total_token_throughput,
    throughput.request_throughput,
    *(metric for kind in latency.LATENCIES.values() for metric in kind.metrics.values()),
    throughput.goodput,
    throughput.slo_attainment,
    *energy.METRICS,
    latency.engine_start_time,
    throughput.kv_cache_peak,
    throughput.preemptions,
    throughput.mean_running_requests,
    sweep.hypervolume,
    sweep.peak_output_throughput,
    sweep.knee_key,
    sweep.knee_kv_share,
    replication.fairness,
)

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def register(metric: Metric) -> Metric:
    """Add a metric of another package. The same metric may be added again; InvalidInput for another of that name."""
    first = REGISTRY.setdefault(metric.name, metric)
    if first != metric:
        raise InvalidInput(f"metric {metric.name!r} is already registered with another meaning: {first}")
    return first


def metric(name: str) -> Metric:
    """The registered metric of that name; InvalidInput with the nearest names otherwise.

    ``NAME@POINT`` is metric NAME at one point of a sweep or of one replica: same unit and direction, its own launches
    and verdicts.
    """
    registered = known(name)
    if registered is None:
        near = near_names(name, REGISTRY, 3) or sorted(REGISTRY)[:3]
        raise InvalidInput(f"unknown metric {name!r}; did you mean {', '.join(near)}?")
    return registered


def known(name: str) -> Metric | None:
    """The same as ``metric``, but None for a name that is not registered."""
    base, at, point = name.partition("@")
    whole = REGISTRY.get(base)
    if whole is None or not at:
        return whole
    if not point:
        return None
    return replace(whole, name=name, formula=f"{whole.formula}; at {point}", label=f"{whole.label} at {point}")
