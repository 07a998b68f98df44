"""GuideLLM's ``benchmarks.json``: a list of benchmarks, each at a rate or a number of streams.

Its time per output token counts the first token too; its inter-token latency, a mean over each request's gaps after the
first token, is what is called TPOT here. Requests that its time limit cut off (``incomplete``) did not fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Counts, Run
from pytest_slmperf.errors import InvalidInput

NAME = "guidellm"
KNOWN = {"metadata", "args", "benchmarks", "config", "id_", "type_"}
KNOWN_OF_BENCHMARK = {
    "type_", "id_", "run_id", "run_index", "args", "config", "scheduler", "benchmarker", "worker", "run_stats",
    "request_loader", "extras", "env_args", "metrics", "request_totals", "request_samples", "requests", "start_time",
    "end_time", "duration", "scheduler_state", "scheduler_metrics", "warmup_duration", "cooldown_duration",
}  # fmt: skip
LATENCIES = {
    "time_to_first_token_ms": ("ttft", 1.0),
    "inter_token_latency_ms": ("tpot", 1.0),
    "request_latency": ("e2el", 1000.0),
}
RATES = {
    "requests_per_second": "request_throughput",
    "output_tokens_per_second": "output_throughput",
    "tokens_per_second": "total_token_throughput",
}
MOST_TOKENS = 100_000_000  # in one answer
STRATEGY = {
    "type_": "strategy",
    "rate": "request_rate",
    "streams": "max_concurrency",
    "max_concurrency": "max_concurrency",
}


def recognises(document: Mapping[str, Any]) -> bool:
    benchmarks = document.get("benchmarks")
    return isinstance(benchmarks, list) and all(
        isinstance(benchmark, dict) and "metrics" in benchmark for benchmark in benchmarks
    )


def runs(fields: Fields, swept: bool) -> list[Run]:
    if not fields.values["benchmarks"]:
        raise InvalidInput(f"{fields.file}: field 'benchmarks' is empty, so nothing was measured; leave the file out")
    whole = sorted(name for name in fields.values if name not in KNOWN)
    return [
        _run(fields, Fields(fields.file, benchmark, NAME, f"benchmarks[{number}]."), whole)
        for number, benchmark in enumerate(fields.values["benchmarks"])
    ]


def _run(document: Fields, fields: Fields, unknown: list[str]) -> Run:
    metrics = fields.below("metrics")
    work: dict[str, Setting] = {}
    for place in (fields.below("config"), fields.below("args"), fields.below("scheduler")):
        if not isinstance(place.values.get("strategy"), Mapping):
            continue
        strategy = place.below("strategy")
        work |= {ours: value for theirs, ours in STRATEGY.items() if (value := strategy.setting(theirs)) is not None}
    data = _data(document, fields)
    if data:
        work["dataset"] = " ".join(part if isinstance(part, str) else json.dumps(part, sort_keys=True) for part in data)
    if endpoint := _endpoint(document, fields):
        work["request_format"] = endpoint
    counts, model = _counts(fields, metrics, _asked_output(data)), _model(document, fields)
    values: dict[str, list[float]] = {}
    for theirs, (ours, scale) in LATENCIES.items():
        summary = metrics.below(theirs).below("successful")
        values |= common.nested(summary, ours, scale, {"mean": "mean", "median": "p50"})
        percentiles = {name: name for name in ("p90", "p95", "p99")}
        values |= common.nested(summary.below("percentiles"), ours, scale, percentiles)
    for theirs, ours in RATES.items():
        if (rate := metrics.below(theirs).below("successful").optional("mean")) is not None:
            values[ours] = [rate]
    return Run(
        file=fields.file,
        format=NAME,
        kind="serving",
        fields={name: value for name, value in fields.values.items() if name != "requests"} | {"model": model},
        model=model,
        work=work | counts.lengths,
        asked=work,
        unknown=sorted({*unknown, *(name for name in fields.values if name not in KNOWN_OF_BENCHMARK)}),
        values=values if counts.completed else {},
        counts=counts,
    )


def _data(document: Fields, fields: Fields) -> list[str | dict[str, Any]]:
    """The data that were sent, from the layout of 0.7 (``config.spec``), of 0.4 to 0.6 (``args``), or of earlier versions
    (in each benchmark)."""
    places = (document.below("config").below("spec"), document.below("args"), fields.below("request_loader"))
    data: Any = next((place.values["data"] for place in places if place.has("data")), [])
    parts = data if isinstance(data, list) else [data]
    return [
        {name: value for name, value in part.items() if value is not None} if isinstance(part, dict) else part
        for part in parts
        if isinstance(part, str | dict)
    ]


def _endpoint(document: Fields, fields: Fields) -> str:
    """The endpoint, such as ``completions``; empty for chat, GuideLLM's default, and if no field names it."""
    spec, args, own = document.below("config").below("spec"), document.below("args"), fields.below("config")
    names = ("request_format", "data_request_formatter", "request_type")
    backends = [place.values.get(name) for place in (spec, args, own) for name in ("backend", "backend_kwargs")]
    places = [args, *(Fields(fields.file, backend, NAME) for backend in backends if isinstance(backend, Mapping))]
    said = next((word for place in places for name in names if (word := place.text(name, ""))), "")
    kind = said.strip("/").removeprefix("v1/").replace("/", "_").removeprefix("text_")
    return "" if kind == "chat_completions" else kind


def _asked_output(data: list[str | dict[str, Any]]) -> float | None:
    """Output tokens asked for per request; None unless all requests asked for the same number."""
    if len(data) != 1:
        return None
    (part,) = data
    if isinstance(part, str):
        try:
            said = json.loads(part) if part.startswith("{") else dict(pair.split("=", 1) for pair in part.split(","))
        except (ValueError, RecursionError):  # the text is a data set's name, for instance
            return None
        part = said
    if any(str(name).startswith(("output_tokens_", "first_output_tokens", "turns")) for name in part):
        return None
    try:
        asked = float(part.get("output_tokens", "nan"))
    except (TypeError, ValueError, OverflowError):
        return None
    return asked if 0 < asked <= MOST_TOKENS else None


def _counts(fields: Fields, metrics: Fields, asked_output: float | None) -> Counts:
    places = (metrics.below("request_totals"), fields.below("request_totals"),
              fields.below("scheduler_metrics").below("requests_made"))  # fmt: skip
    totals = next((place for place in places if place.has("successful")), places[0])
    completed = totals.count("successful")
    tokens = {}
    for name in ("prompt", "output"):
        length = metrics.below(f"{name}_token_count").below("successful")
        exact, mean = length.count("total_sum"), length.optional("mean")
        tokens[name] = exact if exact is not None or mean is None else round(mean * (completed or 0))
    return Counts(
        completed=completed,
        failed=max(place.count("errored") or 0 for place in places),  # also outside the measured time
        input_tokens=tokens["prompt"],
        output_tokens=tokens["output"],
        asked_output=asked_output,
    )


def _model(document: Fields, fields: Fields) -> str:
    places = (
        (document.below("args"), "model"),
        (document.below("config").below("spec").below("backend"), "model"),
        (fields.below("config").below("backend"), "model"),
        (fields.below("benchmarker").below("backend"), "model"),
        (fields.below("worker"), "backend_model"),
    )
    return next((name for place, field in places if (name := place.text(field, ""))), "unknown")
