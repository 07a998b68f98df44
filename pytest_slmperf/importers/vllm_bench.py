"""Result JSON of ``vllm bench latency``, ``throughput``, ``serve`` and ``sweep`` as result records.

Field names as vLLM 0.11 to 0.32 writes them.  Pure: takes parsed JSON, returns records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.intervals import launch_interval
from pytest_slmperf.frontier.points import Objective, Point
from pytest_slmperf.frontier.records import point_record, points_of
from pytest_slmperf.frontier.regression import at
from pytest_slmperf.frontier.whole import whole_of
from pytest_slmperf.metrics import metric
from pytest_slmperf.record import Engine, MetricValue, Result

Kind = Literal["latency", "throughput", "serve"]
_RATES = ("output_throughput", "total_token_throughput", "request_throughput")
_STATS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_SWEEP_LATENCIES = ("itl_mean", "tpot_mean", "e2el_mean")  # what throughput is traded against, the best first
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
    """The runs of one setting: all of one server launch, as ``vllm bench sweep`` measures them.

    ``further`` holds the runs of other launches of the same setting, one list each.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    further: Sequence[Sequence[Mapping[str, Any]]] = ()

    @property
    def every(self) -> list[Mapping[str, Any]]:
        return [run for runs in (self.runs, *self.further) for run in runs]


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
    failed = sum(int(run.get("failed") or 0) for run in combination.every)
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
    """The combinations as one sweep with points, and with the metrics of the whole (hypervolume, knee), so that it can be
    kept as a baseline; None unless exactly one number differs between them."""
    varied = sorted({setting for one in combinations for setting in one.settings})
    if len(combinations) < 2 or len(varied) != 1:
        return None
    keys = [one.settings.get(varied[0]) for one in combinations]
    if not all(isinstance(key, int | float) and not isinstance(key, bool) for key in keys) or len(set(keys)) < len(
        keys
    ):
        return None
    records = sorted(
        (
            point_record(key, _launches(one, shape), settings=one.settings)
            for key, one in zip(keys, combinations, strict=True)
            if key is not None
        ),
        key=lambda record: float(record["key"]),
    )
    latency = next((one for one in _SWEEP_LATENCIES if all(one in record for record in records)), None)
    objectives = ("output_throughput", latency) if latency else ()
    return Result(
        id=f"vllm bench sweep::{name}",
        scenario={
            "kind": "sweep",
            "key": varied[0],
            "keys": [record["key"] for record in records],
            "objectives": list(objectives),
            **_settings_of(combinations[0], shape),
        },
        engine=_engine(combinations[0].runs[0], origin),
        metrics=_sweep_metrics(records, objectives),
        points=records,
        notes=["imported from vllm bench sweep"],
    )


def _settings_of(combination: Combination, shape: Shape) -> dict[str, Any]:
    """What the whole sweep was asked for: the traffic that its points share."""
    first = combination.runs[0]
    shared = {
        name: first[name] for name in _TRAFFIC if first.get(name) is not None and name not in combination.settings
    }
    return shape.as_scenario() | shared


def _sweep_metrics(records: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, MetricValue]:
    """Every point's objectives, and the frontier's own metrics; empty without a latency that all points have."""
    points = points_of(records, objectives) if objectives else []
    if not points or len(points) < len(records):
        return {}
    found = {
        at(name, record["key"]): _metric(at(name, record["key"]), record["launches"][name])
        for record in records
        for name in objectives
    }
    goals = [Objective("output_throughput", "higher"), Objective(objectives[1], "lower")]
    whole: dict[str, list[list[float]]] = {}
    for launch in range(min(len(record["launches"][name]) for record in records for name in objectives)):
        means = [
            Point(record["key"], {name: _mean(record["launches"][name][launch]) for name in objectives})
            for record in records
        ]
        for name, value in whole_of(means, goals).items():
            whole.setdefault(name, []).append([value])
    return {name: _metric(name, launches) for name, launches in whole.items()} | found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def with_settings(combinations: Sequence[Combination]) -> list[Combination]:
    """The combinations, each with the settings that differ between them."""
    if len(combinations) < 2:
        return list(combinations)
    scalars = [{name: value for name, value in one.runs[0].items() if _is_setting(name, value)} for one in combinations]
    names = sorted({name for found in scalars for name in found})
    varied = [name for name in names if len({repr(found.get(name)) for found in scalars}) > 1]
    return [
        replace(one, settings={name: found[name] for name in varied if name in found})
        for one, found in zip(combinations, scalars, strict=True)
    ]


def _is_setting(name: str, value: Any) -> bool:
    measured = name in _MEASURED or name.startswith(("spec_decode_", "diffusion_", "probe_")) or name.endswith("_ms")
    return not measured and isinstance(value, str | int | float | bool)


def as_launches(sources: Sequence[Sequence[Combination]]) -> list[Combination]:
    """The settings of several files or folders, those that are alike put together: each source is one launch of them."""
    flat = with_settings([one for found in sources for one in found])
    owners = [number for number, found in enumerate(sources) for _ in found]
    groups: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    first: dict[str, Combination] = {}
    for owner, one in zip(owners, flat, strict=True):
        alike = f"{kind_of(one.runs[0], one.name)} {sorted(one.settings.items())!r}"
        first.setdefault(alike, one)
        groups.setdefault(alike, {}).setdefault(owner, []).extend(one.runs)
    found = []
    for alike, launches in groups.items():
        runs, *further = launches.values()
        told = ", ".join(f"{name}={value}" for name, value in first[alike].settings.items())
        found.append(Combination(told or first[alike].name, runs, further=further))
    return found


def _launches(combination: Combination, shape: Shape) -> dict[str, list[list[float]]]:
    pooled: dict[str, list[list[float]]] = {}
    for runs in (combination.runs, *combination.further):
        launch: dict[str, list[float]] = {}
        for number, run in enumerate(runs):
            for name, values in rounds_of(run, f"{combination.name}, run {number}", shape).items():
                launch.setdefault(name, []).extend(values)
        for name, values in launch.items():
            pooled.setdefault(name, []).append(values)
    return pooled


def _metric(name: str, launches: list[list[float]], reason: str | None = None) -> MetricValue:
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
