"""Result JSON of ``vllm bench latency``, ``throughput`` and ``serve`` as result records.

Field names as vLLM 0.11 to 0.32 writes them.  Pure: takes parsed JSON, returns records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.runs import Run
from pytest_slmperf.frontier.intervals import launch_interval
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.result import Engine, MetricValue, Result
from pytest_slmperf.util.formatting import counted

TRAFFIC = ("request_rate", "burstiness", "max_concurrency", "num_prompts", "backend")
_RATES = ("output_throughput", "total_token_throughput", "request_throughput")
_STATS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True, slots=True)
class Shape:
    """What vLLM's latency and throughput files do not say and the user knows: batch and lengths in tokens."""

    batch: int | None = None
    input_len: int | None = None
    output_len: int | None = None

    def as_scenario(self) -> dict[str, int]:
        pairs = {"batch": self.batch, "input_len": self.input_len, "output_len": self.output_len}
        return {name: value for name, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the files come from, as far as the user says: they do not hold the engine's version, weights or device."""

    engine: str = "vllm"
    version: str = "unknown"
    weights: str = "real"
    device: str = "unknown"


def rounds_of(run: Run, shape: Shape) -> dict[str, list[float]]:
    """Metric → round values of one run, in this project's names and units. Readings that are absent are left out."""
    kind = run.kind
    if kind == "latency":
        seconds = run.times("latencies")
        found = {"e2el_mean": [1000 * value for value in seconds]}
        if shape.batch and shape.output_len:
            found["output_throughput"] = [shape.batch * shape.output_len / value for value in seconds]
            found["request_throughput"] = [shape.batch / value for value in seconds]
        return found
    if kind == "throughput":
        rate = run.number("requests_per_second")
        found = {"request_throughput": [rate], "total_token_throughput": [run.number("tokens_per_second")]}
        if shape.output_len:
            found["output_throughput"] = [rate * shape.output_len]
        return found
    return _served(run)


def _served(run: Run) -> dict[str, list[float]]:
    rates = {name: name for name in _RATES} | {"request_goodput": "goodput"}
    latencies = {f"{theirs}_{base}_ms": f"{base}_{ours}" for base in _LATENCIES for theirs, ours in _STATS.items()}
    found = {
        ours: [run.number(theirs)] for theirs, ours in (rates | latencies).items() if run.fields.get(theirs) is not None
    }
    # vLLM writes a latency of 0 where it saw none (between the tokens of one-token answers, for instance)
    unread = {name for name in latencies.values() if run.count("failed") or found.get(name) == [0.0]}
    return {name: values for name, values in found.items() if name not in unread}


def failures_of(combination: Combination) -> str | None:
    """Why the latencies of these runs cannot be used; None where no request failed."""
    failed = sum(run.count("failed") for run in combination.every)
    return (
        f"{counted(failed, 'request')} failed, and vllm bench leaves failed requests out of its latencies"
        if failed
        else None
    )


def result_of(combination: Combination, *, shape: Shape, origin: Origin) -> Result:
    """One result record of the runs of one setting; the runs are the rounds of one launch."""
    launches = launches_of(combination, shape)
    first = combination.runs[0]
    scenario: dict[str, Any] = {"kind": {"serve": "serving"}.get(first.kind, "offline"), **shape.as_scenario()}
    scenario |= traffic_of(first) | combination.settings
    metrics = {name: metric_value(name, groups) for name, groups in launches.items()}
    notes = [f"imported from vllm bench {first.kind}"]
    reason = failures_of(combination)
    if reason:
        notes.append(reason)
        metrics |= {
            name: metric_value(name, [], reason)
            for name in (f"{base}_{stat}" for base in _LATENCIES for stat in ("mean", "p99"))
        }
    return Result(
        id=f"vllm bench {first.kind}::{combination.name}",
        scenario=scenario,
        engine=engine_of(first, origin),
        metrics=dict(sorted(metrics.items())),
        notes=notes,
    )


def traffic_of(run: Run) -> dict[str, Any]:
    """What the run was asked for."""
    return {name: value for name in TRAFFIC if (value := run.setting(name)) is not None}


def launches_of(combination: Combination, shape: Shape) -> dict[str, list[list[float]]]:
    """Metric → rounds of each launch in which it was read."""
    pooled: dict[str, list[list[float]]] = {}
    for runs in combination.launches:
        launch: dict[str, list[float]] = {}
        for run in runs:
            for name, values in rounds_of(run, shape).items():
                launch.setdefault(name, []).extend(values)
        for name, values in launch.items():
            pooled.setdefault(name, []).append(values)
    return pooled


def metric_value(name: str, launches: list[list[float]], reason: str | None = None) -> MetricValue:
    known = metric(name)
    values = [value for rounds in launches for value in rounds]
    return MetricValue(
        unit=known.unit,
        better=known.better,
        value=math.fsum(values) / len(values) if values else None,
        ci=launch_interval(launches),
        launches=launches,
        reason=None if values else reason or "vllm bench wrote no reading",
        gate=known.gate and bool(values) and "@" not in name,  # a point of a sweep is judged with the whole
    )


def engine_of(run: Run, origin: Origin) -> Engine:
    model = run.fields.get("model_id")
    return Engine(
        name=origin.engine,
        version=origin.version,
        model=model if isinstance(model, str) else "unknown",
        weights=origin.weights,
        device=origin.device,
        settings={
            name: value
            for name in ("tensor_parallel_size", "tokenizer_id")
            if isinstance(value := run.fields.get(name), str | int)
        },
    )
