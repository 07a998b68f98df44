"""``vllm bench throughput --output-json``: requests and tokens (in and out together) per second of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields
from pytest_slmperf.contrib.importers.formats.vllm_serve import with_other_fields
from pytest_slmperf.contrib.importers.run import Counts, Run

NAME = "vllm bench throughput"
READ = {"elapsed_time", "requests_per_second", "tokens_per_second", "model_id", "num_requests", "total_num_tokens"}


def recognises(document: Mapping[str, Any]) -> bool:
    return "tokens_per_second" in document and "elapsed_time" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    seconds = fields.duration("elapsed_time")
    requests = fields.count("num_requests")
    counts = Counts(requests=requests, completed=requests, tokens=fields.count("total_num_tokens"))
    values = {
        "request_throughput": [fields.number("requests_per_second")],
        "total_token_throughput": [fields.number("tokens_per_second")],
    }
    run = Run(
        file=fields.file,
        format=NAME,
        kind="offline",
        fields=fields.values,
        engine="vllm",
        model=fields.text("model_id"),
        work=({"num_prompts": requests} if requests is not None else {}) | counts.lengths,
        asked=fields.settings(("model_id",)),
        values=values,
        gates=(("total_token_throughput",),),
        counts=counts,
        doubts=counts.doubts(values, seconds),
    )
    return [with_other_fields(fields, swept, run, READ)]
