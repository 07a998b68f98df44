"""inference-perf's ``summary_lifecycle_metrics.json`` and ``stage_N_lifecycle_metrics.json``: times in seconds.

Its files name neither model nor engine. The ``*_prometheus_metrics.json`` beside them hold the server's own metrics, which
include requests of other clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Counts, Run
from pytest_slmperf.errors import InvalidInput

NAME = "inference-perf"
LATENCIES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "inter_token_latency": "itl",
    "request_latency": "e2el",
}
RATES = {
    "requests_per_sec": "request_throughput",
    "output_tokens_per_sec": "output_throughput",
    "total_tokens_per_sec": "total_token_throughput",
}
KNOWN = {"benchmark_time_seconds", "load_summary", "successes", "failures"}


def recognises(document: Mapping[str, Any]) -> bool:
    successes = document.get("successes")
    return isinstance(successes, dict) and "count" in successes and "load_summary" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    successes, load = fields.below("successes"), fields.below("load_summary")
    if "latency" not in successes.values and "request_latency" in successes.values:
        raise InvalidInput(
            f"{fields.file}: holds the server's own metrics; import the *_lifecycle_metrics.json beside it"
        )
    completed = successes.count("count")
    totals = []
    for tokens, length in (
        ("prompt_tokens", "prompt_len"),
        ("output_tokens", "output_len"),
    ):  # 0.6 writes the first, earlier versions the second
        exact, mean = successes.below(tokens).count("total"), successes.below(length).optional("mean")
        totals.append(exact if exact is not None or mean is None else round(mean * (completed or 0)))
    counts = Counts(
        requests=load.count("count"),
        completed=completed,
        failed=fields.below("failures").count("count") or 0,
        input_tokens=totals[0],
        output_tokens=totals[1],
    )
    work: dict[str, Setting] = {}
    if (concurrency := load.setting("concurrency")) is not None:  # the rate is derived from the concurrency
        work = {"max_concurrency": concurrency}
    elif (rate := load.setting("requested_rate")) is not None:
        work = {"request_rate": rate}
    if (
        counts.requests is not None and "request_rate" not in work
    ):  # at a rate, a stage lasts for a time, and its number of requests is random
        work["num_prompts"] = counts.requests
    values: dict[str, list[float]] = {}
    for theirs, ours in LATENCIES.items():
        values |= common.nested(successes.below("latency").below(theirs), ours, 1000.0)
    values |= common.rates(successes.below("throughput"), RATES)
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="serving",
            fields=fields.values,
            work=work | counts.lengths,
            asked=work,
            unknown=sorted(name for name in fields.values if name not in KNOWN),
            values=values if counts.completed else {},
            counts=counts,
            doubts=counts.doubts(values, fields.optional("benchmark_time_seconds")),
        )
    ]
