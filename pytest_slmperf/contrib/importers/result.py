"""Result records of the runs of one setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.run import LATENCIES, Run, failure_words
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.points import launch_interval
from pytest_slmperf.metrics.plausible import absurd
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.result import Engine, MetricValue, Result

# the gates of runs without streamed tokens: embeddings, answers in one piece
_WITHOUT_TOKENS = (("total_token_throughput", "request_throughput"), ("e2el_p50", "e2el_mean"))


@dataclass(frozen=True, slots=True)
class Shape:
    """Batch size and lengths in tokens, which the user knows and the file lacks."""

    batch: int | None = None
    input_len: int | None = None
    output_len: int | None = None

    def as_scenario(self) -> dict[str, int]:
        pairs = {"batch": self.batch, "input_len": self.input_len, "output_len": self.output_len}
        return {name: value for name, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Origin:
    """The engine's version, weights and device as given by the user, since most files do not hold them."""

    version: str = "unknown"
    weights: str = "real"
    device: str = "unknown"


def rounds_of(run: Run, shape: Shape) -> dict[str, list[float]]:
    """Metric → round values of one run, without absent and withheld readings, and with those that follow from ``shape``."""
    rounds = run.readings
    if run.format == "vllm bench latency" and shape.batch and shape.output_len:
        seconds = [value / 1000 for value in run.values["e2el_mean"]]
        rounds["output_throughput"] = [shape.batch * shape.output_len / value for value in seconds]
        rounds["request_throughput"] = [shape.batch / value for value in seconds]
    if run.format == "vllm bench throughput" and shape.output_len:
        rounds["output_throughput"] = [rate * shape.output_len for rate in run.values["request_throughput"]]
    return rounds


def failures_of(combination: Combination) -> str | None:
    """Why the latencies of the combination cannot be used; None if they can."""
    lost = sum(run.counts.lost for run in combination.every)
    if lost:
        return failure_words(lost, combination.runs[0].format)
    return next((reason for run in combination.every if (reason := run.latencies_withheld)), None)


def doubts_of(combination: Combination) -> dict[str, str]:
    """Judged throughput → the contradiction to it in the file of one of the runs. A reading with a contradiction cannot
    pass."""
    doubts: dict[str, str] = {}
    for run in combination.every:
        read = run.readings
        judged = next((names for names in (run.gates[0], _WITHOUT_TOKENS[0]) if not read.keys().isdisjoint(names)), ())
        for name in judged:
            if name in run.doubts:
                doubts.setdefault(name, f"{run.file}: {run.doubts[name]}")
    return doubts


def result_of(combination: Combination, *, shape: Shape, origin: Origin) -> Result:
    """One result record of the runs of one setting; the runs are the rounds of one launch.

    The metrics that this kind of run is judged by are gated; a gated metric without a usable reading has the reason instead
    of a value. InvalidInput if there is nothing to judge and no reason.
    """
    launches = launches_of(combination, shape)
    first = combination.runs[0]
    reason = failures_of(combination)
    if reason:  # failures in one run withhold the latencies of all
        launches = {name: groups for name, groups in launches.items() if not _is_latency(name)}
    doubts = {name: f"{run.file}: {words}" for run in combination.every for name, words in run.doubts.items()}
    doubts |= doubts_of(combination)
    metrics = {name: metric_value(name, groups, doubts.get(name)) for name, groups in launches.items()}
    notes = [f"imported from {first.format}", _counted(combination.every)]
    if reason:
        withheld = {f"{base}_{stat}" for base in LATENCIES for stat in ("mean", "p99")}
        withheld |= {name for run in combination.every for name in run.values if _is_latency(name)}
        metrics |= {name: metric_value(name, [], reason) for name in withheld}
    gates, held = first.gates, {name for run in combination.every for name in run.values}
    if first.kind == "serving" and not reason and not any(_read(metrics, alternatives) for alternatives in gates):
        gates = [alternatives for alternatives in _WITHOUT_TOKENS if _read(metrics, alternatives)]
    elif first.kind == "serving" and not reason and not any(_read(metrics, alternatives) for alternatives in gates[1:]):
        gates = [*gates, *(alternatives for alternatives in _WITHOUT_TOKENS[1:] if _read(metrics, alternatives))]
    for alternatives in gates:
        _gate(metrics, alternatives, reason, held)
    if not any(value.gate for value in metrics.values()):
        names = ", ".join(name for alternatives in first.gates for name in alternatives)
        raise InvalidInput(f"{first.file}: holds none of {names}, so there is nothing to judge; leave it out")
    notes += cautions([combination], shape)
    return Result(
        id=f"{first.format}::{combination.name}",
        scenario={"kind": first.kind, **shape.as_scenario(), **first.work, **combination.settings},
        engine=engine_of(first, origin),
        metrics=dict(sorted(metrics.items())),
        notes=[note for note in notes if note],
    )


def cautions(combinations: Sequence[Combination], shape: Shape) -> list[str]:
    """Notes for the reader about these settings: withheld latencies, short answers, contradictions, unknown fields."""
    notes = []
    for combination in combinations:
        if (reason := failures_of(combination)) is not None:
            of = f"{combination.words}: " if len(combinations) > 1 and combination.words else ""
            notes.append(f"{of}{reason}")
        elif combination.runs[0].kind == "serving" and not any(map(_is_latency, combination.runs[0].readings)):
            notes.append(f"{combination.runs[0].file}: holds no latency that is known; its throughput alone is judged")
    runs = [run for combination in combinations for run in combination.every]
    notes += [words for run in runs if (words := _short_answers(run, shape))]
    notes += [words for combination in combinations for words in doubts_of(combination).values()]
    unknown = sorted({name for run in runs for name in run.unknown})
    if unknown:
        notes.append(f"fields that are not known and were left out: {', '.join(unknown)}")
    return notes


def _gate(
    metrics: dict[str, MetricValue], alternatives: Sequence[str], reason: str | None, held: Collection[str]
) -> None:
    """Gate the first of ``alternatives`` that has a reading. If none has, gate those that should have, with ``reason``, so
    that the result cannot pass.

    ``held``: the metrics in the files, withheld or not.
    """
    read = _read(metrics, alternatives)
    if read:
        metrics[read[0]].gate = True
    elif reason or any(value.launches for value in metrics.values()):
        first = next((name for name in alternatives if name in held), alternatives[0])
        latency = first.partition("_")[0]  # both its median and its mean, since a baseline may have either
        for name in [name for name in alternatives if name in metrics and name.startswith(f"{latency}_")] or [first]:
            metrics.setdefault(name, metric_value(name, [], reason)).gate = True


def _read(metrics: Mapping[str, MetricValue], names: Sequence[str]) -> list[str]:
    """Those of ``names`` that have a reading."""
    return [name for name in names if name in metrics and metrics[name].launches]


def _is_latency(name: str) -> bool:
    return name.partition("_")[0] in LATENCIES


def _counted(runs: Sequence[Run]) -> str:
    """Requests, failures and tokens of all runs as text."""
    counts = [run.counts for run in runs]
    words: dict[str, list[int | None]] = {
        "requests sent": [count.requests for count in counts],
        "completed": [count.completed for count in counts],
        "failed": [count.lost for count in counts],
        "input tokens": [count.input_tokens for count in counts],
        "output tokens": [count.output_tokens for count in counts],
        "tokens": [count.tokens for count in counts],
    }
    known = {name: [value for value in counted if value is not None] for name, counted in words.items()}
    parts = [f"{sum(values)} {name}" for name, values in known.items() if values]
    return ", ".join(parts) if len(parts) > 1 else ""


def _short_answers(run: Run, shape: Shape) -> str:
    from dataclasses import replace

    asked = run.counts.asked_output or shape.output_len
    said = replace(run.counts, asked_output=asked).missing_output
    return f"{run.file}: {said}" if said else ""


def launches_of(combination: Combination, shape: Shape) -> dict[str, list[list[float]]]:
    """Metric → rounds of each launch that has a reading of it."""
    pooled: dict[str, list[list[float]]] = {}
    for runs in combination.launches:
        launch: dict[str, list[float]] = {}
        for run in runs:
            for name, values in rounds_of(run, shape).items():
                _refuse_absurd(run, name, values)
                launch.setdefault(name, []).extend(values)
        for name, values in launch.items():
            pooled.setdefault(name, []).append(values)
    return pooled


def _refuse_absurd(run: Run, name: str, values: Sequence[float]) -> None:
    """Raise InvalidInput for a reading that no engine can have; the same bounds hold for readings of this plugin."""
    unit = metric(name).unit
    if reason := next((reason for value in values if (reason := absurd(value, unit))), None):
        raise InvalidInput(f"{run.file}: {name} cannot be: {reason}")


def metric_value(name: str, launches: list[list[float]], reason: str | None = None) -> MetricValue:
    """The record of a metric. ``reason``: why it has no reading, or why its reading is in doubt."""
    known = metric(name)
    values = [value for rounds in launches for value in rounds]
    return MetricValue(
        unit=known.unit,
        better=known.better,
        value=math.fsum(values) / len(values) if values else None,
        ci=launch_interval(launches),
        launches=launches,
        reason=reason or (None if values else "the file has no reading"),
        gate=known.gate and bool(values) and "@" not in name,  # points of a sweep are judged with the sweep
    )


def engine_of(run: Run, origin: Origin) -> Engine:
    return Engine(
        name=run.engine,
        version=run.engine_version or "unknown" if origin.version == "unknown" else origin.version,
        model=run.model,
        weights=origin.weights,
        dtype=run.dtype,
        device=run.device or "unknown" if origin.device == "unknown" else origin.device,
        settings=dict(run.engine_settings),
    )
