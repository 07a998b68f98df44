"""``vllm bench latency --output-json``: seconds of each batch. The file has neither the batch size nor the lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields
from pytest_slmperf.contrib.importers.formats.vllm_serve import with_other_fields
from pytest_slmperf.contrib.importers.run import Run

NAME = "vllm bench latency"
READ = {"latencies", "avg_latency", "percentiles", "model_id"}


def recognises(document: Mapping[str, Any]) -> bool:
    return "latencies" in document and "avg_latency" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    run = Run(
        file=fields.file,
        format=NAME,
        kind="offline",
        fields=fields.values,
        engine="vllm",
        model=fields.text("model_id"),
        asked=fields.settings(("model_id",)),
        values={"e2el_mean": [1000 * seconds for seconds in fields.times("latencies")]},
        gates=(("e2el_mean",),),
    )
    return [with_other_fields(fields, swept, run, READ)]
