"""The chart data of a result, for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

Key = int | float | str
"""What tells a sweep's points apart: the value of the varied setting, or a text naming several."""


class BoundOnMetric(msgspec.Struct, kw_only=True):
    """A bound (SLO) on a metric that the advisor's pick keeps."""

    name: str
    bound: float
    better: str = "lower"


class FrontierChart(msgspec.Struct, kw_only=True):
    """A frontier over two metrics, ``max`` against ``min``, and the points to mark on it."""

    max: str
    min: str
    knee: Key | None = None
    advice: Key | None = None
    baseline_knee: Key | None = None


class SweepCharts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``key``: the setting that varies. ``lost``: keys where the frontier moved back."""

    key: str | None = None
    frontiers: list[FrontierChart] = []
    lost: list[str] | None = None  # None: not judged
    slos: list[BoundOnMetric] | None = None  # None: no advice was requested


class RooflinePoint(msgspec.Struct, kw_only=True):
    """One point compared with the device: measured and highest possible throughput in tok/s, and the limiting resource."""

    key: Key
    output_throughput: float
    limit: float
    bound: str = ""
    share: float | None = None
    itl_limit_ms: float | None = None


class RooflineChart(msgspec.Struct, kw_only=True):
    """A sweep's points, and the throughput that the device's bandwidth and compute allow."""

    device: str = "the device"
    points: list[RooflinePoint] = []
    source: str | None = None
    bandwidth_gb_s: float | None = None
    tflops: float | None = None
    weights_mb: float | None = None
    kv_bytes_per_token: float | None = None
    flops_per_token: float | None = None


class ReplicationRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One number of replicas, or a fair baseline. ``failure``: why it could not run, in which case it has no figures."""

    replicas: int
    batch: int | None
    mode: str
    output_throughput: float | None = None
    itl_mean: float | None = None
    energy_per_output_token: float | None = None
    kv_cache_peak: float | None = None
    fairness: float | None = None
    failure: str | None = None


class HistoryChartPoint(msgspec.Struct, kw_only=True):
    """One session's value. ``at``: start of the session."""

    at: str
    value: float
    commit: str | None = None


class HistoryChart(msgspec.Struct, kw_only=True):
    """One metric over sessions, oldest first. ``changes``: indices of the points before which it changed."""

    points: list[HistoryChartPoint] = []
    changes: list[int] = []


class Charts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The charts of a result; an absent chart is not drawn. ``history``: metric → its chart."""

    sweep: SweepCharts | None = None
    roofline: RooflineChart | None = None
    replication: list[ReplicationRow] = []
    history: dict[str, HistoryChart] = {}


# A bounded sample of single requests' latencies, for distribution charts.


class LatencySample(msgspec.Struct, kw_only=True):
    """Latencies of single requests, or quantiles of them, in ``unit``."""

    unit: str = "ms"
    values: list[float] = []


Samples = dict[str, LatencySample | list[float]]
"""Latency (ttft, itl, …) → its sample. A measured result holds bare lists, in ms."""


def sample_of(samples: Mapping[str, LatencySample | list[float]], name: str) -> LatencySample:
    """The sample of one latency, with its finite values in rising order; may be empty."""
    sample = samples.get(name, [])
    if isinstance(sample, list):
        sample = LatencySample(values=sample)
    return LatencySample(unit=sample.unit, values=sorted(filter(math.isfinite, sample.values)))
