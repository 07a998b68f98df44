"""Result JSON of ``vllm bench latency``, ``throughput``, ``serve`` and ``sweep`` as result records.

Field names as vLLM 0.11 to 0.32 writes them.  Pure: takes parsed JSON, returns records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.intervals import launch_interval
from pytest_slmperf.frontier.records import point_record
from pytest_slmperf.metrics import REGISTRY
from pytest_slmperf.record import Engine, MetricValue, Result

Kind = Literal["latency", "throughput", "serve"]
_RATES = ("output_throughput", "total_token_throughput", "request_throughput")
_STATS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_TRAFFIC = ("request_rate", "burstiness", "max_concurrency", "num_prompts", "backend")
# what a run measures or when it ran; every other scalar that differs between runs is what a sweep varied
_MEASURED = {
    "date", "label", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_goodput",
    "max_output_tokens_per_s", "max_concurrent_requests", "rtfx", "run_number", "avg_latency", "elapsed_time",
    "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second", "_benchmark_name", *_RATES,
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Combination:
    """The runs of one setting: all of one server launch, as ``vllm bench sweep`` measures them."""

    name: str
    runs: Sequence[Mapping[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)


def kind_of(run: Mapping[str, Any], source: str) -> Kind:
    """Which command wrote the run; InvalidInput where none did."""
    if "latencies" in run and "avg_latency" in run:
        return "latency"
    if "tokens_per_second" in run and "elapsed_time" in run:
        return "throughput"
    if "duration" in run and "request_throughput" in run:
        return "serve"
    fields = ", ".join(sorted(run)[:8]) or "none"
    raise InvalidInput(f"{source}: not a result of vllm bench latency, throughput or serve (its fields: {fields})")


def rounds_of(run: Mapping[str, Any], source: str, shape: Shape) -> dict[str, list[float]]:
    """Metric → round values of one run, in this project's names and units. Readings that are absent are left out."""
    kind = kind_of(run, source)
    if kind == "latency":
        seconds = [_finite(value, source, "latencies") for value in run["latencies"]]
        if not seconds or min(seconds) <= 0:
            raise InvalidInput(f"{source}: field 'latencies' holds no positive time")
        found = {"e2el_mean": [1000 * value for value in seconds]}
        if shape.batch and shape.output_len:
            found["output_throughput"] = [shape.batch * shape.output_len / value for value in seconds]
            found["request_throughput"] = [shape.batch / value for value in seconds]
        return found
    if kind == "throughput":
        rate = _finite(run["requests_per_second"], source, "requests_per_second")
        found = {
            "request_throughput": [rate],
            "total_token_throughput": [_finite(run["tokens_per_second"], source, "tokens_per_second")],
        }
        if shape.output_len:
            found["output_throughput"] = [rate * shape.output_len]
        return found
    names = {name: name for name in _RATES} | {"request_goodput": "goodput"}
    if not run.get("failed"):
        names |= {f"{theirs}_{base}_ms": f"{base}_{ours}" for base in _LATENCIES for theirs, ours in _STATS.items()}
    return {
        ours: [_finite(run[theirs], source, theirs)] for theirs, ours in names.items() if run.get(theirs) is not None
    }


def result_of(combination: Combination, *, shape: Shape, origin: Origin) -> Result:
    """One result record of the runs of one setting; the runs are the rounds of one launch."""
    launches = _launches(combination, shape)
    first = combination.runs[0]
    kind = kind_of(first, combination.name)
    scenario: dict[str, Any] = {"kind": {"serve": "serving"}.get(kind, "offline"), **shape.as_scenario()}
    scenario |= {name: first[name] for name in _TRAFFIC if first.get(name) is not None}
    scenario |= combination.settings
    metrics = {name: _metric(name, groups) for name, groups in launches.items()}
    failed = sum(int(run.get("failed") or 0) for run in combination.runs)
    notes = [f"imported from vllm bench {kind}"]
    if failed:
        reason = f"{failed} requests failed, and vllm bench leaves failed requests out of its latencies"
        notes.append(reason)
        metrics |= {
            name: _metric(name, [], reason)
            for name in (f"{base}_{stat}" for base in _LATENCIES for stat in ("mean", "p99"))
        }
    return Result(
        id=f"vllm bench {kind}::{combination.name}",
        scenario=scenario,
        engine=_engine(first, origin),
        metrics=dict(sorted(metrics.items())),
        notes=notes,
    )


def sweep_result(name: str, combinations: Sequence[Combination], *, shape: Shape, origin: Origin) -> Result | None:
    """The combinations as one sweep with points; None unless exactly one number differs between them."""
    varied = sorted({setting for one in combinations for setting in one.settings})
    if len(combinations) < 2 or len(varied) != 1:
        return None
    keys = [one.settings.get(varied[0]) for one in combinations]
    if not all(isinstance(key, int | float) and not isinstance(key, bool) for key in keys) or len(set(keys)) < len(
        keys
    ):
        return None
    records = [
        point_record(key, _launches(one, shape), settings=one.settings)
        for key, one in zip(keys, combinations, strict=True)
        if key is not None
    ]
    return Result(
        id=f"vllm bench sweep::{name}",
        scenario={"kind": "sweep", "key": varied[0], "keys": sorted(key for key in keys if key is not None)},
        engine=_engine(combinations[0].runs[0], origin),
        points=sorted(records, key=lambda record: float(record["key"])),
        notes=["imported from vllm bench sweep"],
    )


def with_settings(combinations: Sequence[Combination]) -> list[Combination]:
    """The combinations, each with the settings that differ between them."""
    if len(combinations) < 2:
        return list(combinations)
    scalars = [{name: value for name, value in one.runs[0].items() if _is_setting(name, value)} for one in combinations]
    names = sorted({name for found in scalars for name in found})
    varied = [name for name in names if len({repr(found.get(name)) for found in scalars}) > 1]
    return [
        Combination(one.name, one.runs, {name: found[name] for name in varied if name in found})
        for one, found in zip(combinations, scalars, strict=True)
    ]


def _is_setting(name: str, value: Any) -> bool:
    measured = name in _MEASURED or name.startswith(("spec_decode_", "diffusion_", "probe_")) or name.endswith("_ms")
    return not measured and isinstance(value, str | int | float | bool)


def _launches(combination: Combination, shape: Shape) -> dict[str, list[list[float]]]:
    pooled: dict[str, list[float]] = {}
    for number, run in enumerate(combination.runs):
        for name, values in rounds_of(run, f"{combination.name}, run {number}", shape).items():
            pooled.setdefault(name, []).extend(values)
    return {name: [values] for name, values in pooled.items()}


def _metric(name: str, launches: list[list[float]], reason: str | None = None) -> MetricValue:
    known = REGISTRY[name]
    values = [value for rounds in launches for value in rounds]
    return MetricValue(
        unit=known.unit,
        better=known.better,
        value=math.fsum(values) / len(values) if values else None,
        ci=launch_interval(launches),
        launches=launches,
        reason=None if values else reason or "vllm bench wrote no reading",
        gate=known.gate and bool(values),
    )


def _engine(run: Mapping[str, Any], origin: Origin) -> Engine:
    model = run.get("model_id")
    return Engine(
        name=origin.engine,
        version=origin.version,
        model=model if isinstance(model, str) else "unknown",
        weights=origin.weights,
        device=origin.device,
        settings={
            name: run[name] for name in ("tensor_parallel_size", "tokenizer_id") if isinstance(run.get(name), str | int)
        },
    )


def _finite(value: Any, source: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{source}: field {name!r} is {value!r}, not a finite number of at least 0")
    return float(value)
