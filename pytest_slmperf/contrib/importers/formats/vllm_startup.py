"""``vllm bench startup``, Python and Rust client: seconds of cold and of warm starts. Each kind of start is a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields
from pytest_slmperf.contrib.importers.run import Run

NAME = "vllm bench startup"
KINDS = ("cold", "warm")
# known fields: parts of a start, and statistics of the times
READ = {
    f"{part}_{kind}_{what}" if part else f"{kind}_{what}"
    for kind in KINDS
    for what in ("startup_time", "startup_times", "startup_percentiles", "compilation_time", "compilation_times",
                 "compilation_percentiles", "encoder_compilation_time", "encoder_compilation_times",
                 "encoder_compilation_percentiles")
    for part in ("", "avg")
} | {"model_id"}  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    return any(f"{kind}_startup_times" in document for kind in KINDS)


def runs(fields: Fields, swept: bool) -> list[Run]:
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="cold_start",
            fields=fields.values,
            engine="vllm",
            model=fields.text("model_id"),
            work={"start": kind},
            asked={"start": kind},
            names=("start",),
            values={"engine_start_time": fields.times(f"{kind}_startup_times")},
            gates=(("engine_start_time",),),
            unknown=sorted(name for name in fields.values if name not in READ),
        )
        for kind in KINDS
        if fields.values.get(f"{kind}_startup_times")
    ]
