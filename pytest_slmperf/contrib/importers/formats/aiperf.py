"""AIPerf's ``profile_export_aiperf.json``: an object a metric, with its unit and its statistics.

Its inter-token latency is a mean over each request's time after the first token, which is called TPOT here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting, is_number
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Counts, Run
from pytest_slmperf.util.checks import is_whole

NAME = "aiperf"
LATENCIES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2el"}
RATES = {
    "request_throughput": "request_throughput",
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_token_throughput",
    "goodput": "goodput",
}
TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1000.0, "sec": 1000.0, "seconds": 1000.0}
PER_SECOND = ("requests/sec", "tokens/sec", "requests/s", "tokens/s", "req/s", "tok/s")
STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
LOAD = {
    "concurrency": "max_concurrency", "request_rate": "request_rate", "request_count": "num_prompts",
    "request_rate_mode": "arrivals", "arrival_pattern": "arrivals",
}  # fmt: skip
KNOWN = {
    "schema_version", "aiperf_version", "benchmark_id", "input_config", "run_info", "was_cancelled", "is_complete",
    "incomplete_reason", "error_summary", "start_time", "end_time", "telemetry_data", "metadata", "warmup_metrics",
    "branch_stats", "pooled_spec_decode_acceptance_histogram",
}  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    rate = document.get("request_throughput")
    return isinstance(rate, dict) and "unit" in rate


def runs(fields: Fields, swept: bool) -> list[Run]:
    config = fields.below("input_config")
    work = _load(config)
    counts = _counts(fields, work)
    values: dict[str, list[float]] = {}
    for theirs, ours in LATENCIES.items():
        if fields.has(theirs):
            values |= common.nested(fields.below(theirs), ours, _scale(fields, theirs), STATISTICS)
    for theirs, ours in RATES.items():
        if (rate := _average(fields, theirs, PER_SECOND)) is not None:
            values[ours] = [rate]
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="serving",
            fields=fields.values,
            model=_model(config),
            device=_devices(fields),
            work=work | counts.lengths,
            asked=work,
            unknown=sorted(name for name in fields.values if name not in KNOWN and not _is_metric(fields.values[name])),
            values=values if counts.completed != 0 else {},
            counts=counts,
            doubts=counts.doubts(values, _seconds(fields)),
            withheld=_withheld(fields),
        )
    ]


def _scale(fields: Fields, name: str) -> float:
    metric = fields.below(name)
    unit = metric.text("unit", "")
    if unit not in TO_MS:
        raise metric.wrong("unit", f"not one of {', '.join(TO_MS)}")
    return TO_MS[unit]


def _average(fields: Fields, name: str, units: tuple[str, ...]) -> float | None:
    if not fields.has(name):
        return None
    metric = fields.below(name)
    if metric.text("unit", "") not in units:
        raise metric.wrong("unit", f"not one of {', '.join(units)}")
    return metric.optional("avg")


def _seconds(fields: Fields) -> float | None:
    """The duration by which AIPerf divides its totals; None if the export has none."""
    duration = fields.below("benchmark_duration")
    seconds, unit = duration.optional("avg"), TO_MS.get(duration.text("unit", ""))
    return None if seconds is None or unit is None else seconds * unit / 1000


def _load(config: Fields) -> dict[str, Setting]:
    """The settings of the load, from the layout with ``loadgen`` or the one with ``phases``."""
    load = {
        ours: value for theirs, ours in LOAD.items() if (value := config.below("loadgen").setting(theirs)) is not None
    }
    if (kind := config.below("endpoint").setting("type")) is not None:
        load["endpoint_type"] = kind
    if dataset := _dataset(config):
        load["dataset"] = dataset
    phases = config.values.get("phases")
    for phase in phases if isinstance(phases, list) else ():
        if isinstance(phase, dict) and phase.get("name") == "profiling":
            place = Fields(config.file, phase, NAME, "input_config.phases.")
            names = {"concurrency": "max_concurrency", "rate": "request_rate", "requests": "num_prompts"}
            load |= {ours: value for theirs, ours in names.items() if (value := place.setting(theirs)) is not None}
            if "request_rate" in load and (pattern := place.text("type", "")):
                load["arrivals"] = pattern
    return load


def _dataset(config: Fields) -> str:
    """The data set, from the layout with ``input`` or the one with ``datasets``: for a file its name without the folder;
    empty if the prompts were generated."""
    asked = config.below("input")
    words = [asked.text(name, "") for name in ("public_dataset", "custom_dataset_type")]
    words.append(PurePath(asked.text("file", "")).name)
    parts = config.values.get("datasets")
    for part in parts if isinstance(parts, list) else ():
        place = Fields(config.file, part if isinstance(part, dict) else {}, NAME, "input_config.datasets.")
        words += [place.text("dataset", ""), place.text("format", ""), PurePath(place.text("path", "")).name]
    words += _prefixes(asked.below("prompt").below("prefix_prompt"))
    return " ".join(filter(None, words))


def _prefixes(asked: Fields) -> list[str]:
    """The shared beginnings of generated prompts, which a prefix cache answers faster."""
    number, length = asked.count("pool_size"), asked.count("length")
    return [f"{number} prefixes of {length} tokens"] if number and length else []


def _counts(fields: Fields, work: Mapping[str, Setting]) -> Counts:
    def whole(name: str) -> int | None:
        return fields.below(name).count("avg")

    completed = whole("request_count")
    tokens = []
    for total, mean in (("total_isl", "input_sequence_length"), ("total_osl", "output_sequence_length")):
        average = fields.below(mean).optional("avg")
        exact = whole(total)
        tokens.append(exact if exact is not None or average is None else round(average * (completed or 0)))
    asked = work.get("num_prompts")
    return Counts(
        requests=asked if is_whole(asked) else None,
        completed=completed,
        failed=max(whole("error_request_count") or 0, _errors(fields)),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        asked_output=_asked_output(fields),
    )


def _errors(fields: Fields) -> int:
    """The number of failed requests in the list of errors, since not every export has the metric that counts them."""
    errors = fields.values.get("error_summary")
    rows = errors if isinstance(errors, list) else []
    if not all(isinstance(row, Mapping) for row in rows):
        raise fields.wrong("error_summary", "not a list of objects")
    return sum(Fields(fields.file, row, NAME, "error_summary.").count("count") or 0 for row in rows)


def _asked_output(fields: Fields) -> float | None:
    """Output tokens asked for per request: from the configuration, or from the mean deviation of the answers' lengths."""
    prompt = fields.below("input_config").below("input").below("prompt")
    if (asked := prompt.below("output_tokens").optional("mean")) is not None:
        return asked
    given, missed = fields.below("output_sequence_length").optional("avg"), fields.below("osl_mismatch_diff_pct")
    percent = missed.values.get("avg")
    if given is None or percent is None:
        return None
    if not is_number(percent) or percent <= -100:
        raise missed.wrong("avg", "not a percentage above -100")
    return given / (1 + float(percent) / 100)


def _withheld(fields: Fields) -> str:
    if fields.values.get("was_cancelled") is True:
        return "the run was cancelled"
    if fields.values.get("is_complete") is False:
        reason = fields.text("incomplete_reason", "")
        return "the run was not complete" + (f" ({reason[:120]})" if reason else "")
    share = fields.below("request_error_rate").optional("avg")
    return f"{share:g} % of the requests failed, which are in no latency" if share else ""


def _model(config: Fields) -> str:
    """The model's name, from the layout of 0.3 or of 0.13."""
    names = config.below("endpoint").values.get("model_names")
    items = config.values.get("models")
    if isinstance(items, Mapping):
        items = items.get("items")
    for name in (*(names if isinstance(names, list) else ()), *(items if isinstance(items, list) else ())):
        name = name.get("name") if isinstance(name, Mapping) else name
        if isinstance(name, str) and name.strip():
            return name
    return "unknown"


def _devices(fields: Fields) -> str | None:
    """The names of the GPUs that were monitored, which may be more than the server used; None if there were none."""
    gpus = [
        Fields(fields.file, gpu, NAME).text("gpu_name", "")
        for place in _objects(fields.below("telemetry_data").values.get("endpoints"))
        for gpu in _objects(place.get("gpus"))
    ]
    return " and ".join(sorted({name for name in gpus if name})) or None


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [part for part in value.values() if isinstance(part, Mapping)] if isinstance(value, Mapping) else []


def _is_metric(value: Any) -> bool:
    return isinstance(value, dict) and "unit" in value
