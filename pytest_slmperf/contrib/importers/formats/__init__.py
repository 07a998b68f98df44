"""Recognisers: one module for each format, with the fields that it knows.

A module has ``NAME``, ``recognises(document)`` and ``runs(fields, swept)``. ``swept``: the file lies in a folder of a sweep,
where the fields that the format does not know are the varied settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pytest_slmperf.baselines.codec import plain
from pytest_slmperf.contrib.importers.fields import FIX, Fields, Setting, is_number
from pytest_slmperf.contrib.importers.formats import (
    aiperf,
    guidellm,
    inference_perf,
    inferencex,
    optimum_benchmark,
    sglang,
    vllm_latency,
    vllm_serve,
    vllm_startup,
    vllm_throughput,
)
from pytest_slmperf.contrib.importers.run import Run
from pytest_slmperf.errors import InvalidInput

# names of fields that hold a number or a share of failures, by the words that benchmarks use
_FAILURES = re.compile(
    r"((num|n|total|count)_)?(failed|failures?|errors?|errored|timeouts?|timed_out|aborted|cancelled|unsuccessful)"
    r"(_(requests?|prompts|count|rate|ratio|percent|pct))?|(request|requests)_(failed|errored|failures|errors)"
)


# parts of the names of fields in a result of any benchmark
_OF_A_RESULT = re.compile(
    r".*(ttft|tpot|itl|e2el|latenc|throughput|tput|tokens_per_s).*|completed|duration", re.IGNORECASE
)


class Format(Protocol):
    """A recogniser."""

    @property
    def NAME(self) -> str: ...  # noqa: N802  # a module's constant

    def recognises(self, document: Mapping[str, Any]) -> bool: ...

    def runs(self, fields: Fields, swept: bool) -> list[Run]: ...


FORMATS: Sequence[Format] = (
    vllm_latency,
    vllm_throughput,
    vllm_startup,
    sglang,
    vllm_serve,
    guidellm,
    aiperf,
    inference_perf,
    inferencex,
    optimum_benchmark,
)


def _without_hidden_failures(run: Run) -> Run:
    """The run; its latencies are withheld if a field that its recogniser does not know counts failures."""
    for name in run.unknown:
        count = run.fields.get(name)
        if _FAILURES.fullmatch(name) and is_number(count) and count:
            return replace(run, withheld=run.withheld or f"{name} is {count}, and failed requests are in no latency")
    return run


def _with_engine(run: Run) -> Run:
    """The run; its model, engine and device are among what it was asked for, so that runs which differ in them are never
    launches of one result."""
    named = {"model_id", "model", "framework", "backend", "hw"} & run.asked.keys()
    engine: dict[str, Setting | None] = {
        "model": None if named & {"model_id", "model"} else run.model,
        "engine": None if named & {"framework", "backend"} else run.engine,
        "engine_version": run.engine_version,
        "device": None if "hw" in named else run.device,
        "dtype": run.dtype,
        **run.engine_settings,
    }
    known = {name: value for name, value in engine.items() if value is not None and value != "unknown"}
    return replace(run, asked=known | dict(run.asked))


def is_foreign(document: Mapping[str, Any]) -> bool:
    """Whether the object is no result of any benchmark: no recogniser knows it, and neither its fields nor theirs are named
    like readings."""
    if any(known.recognises(document) for known in FORMATS):
        return False
    below = [name for value in document.values() if isinstance(value, Mapping) for name in value]
    return not any(_OF_A_RESULT.fullmatch(str(name)) for name in (*document, *below))


def runs_of(document: Mapping[str, Any], place: str, swept: bool) -> list[Run]:
    """The runs in one object of a file. InvalidInput names the known formats if no recogniser knows the object."""
    for known in FORMATS:
        if known.recognises(document):
            if runs := known.runs(Fields(place, document, known.NAME), swept):
                if wrong := next((run.counts.contradiction for run in runs if run.counts.contradiction), None):
                    raise InvalidInput(f"{place}: {wrong}; {FIX}")
                return [_with_engine(_without_hidden_failures(run)) for run in runs]
            raise InvalidInput(f"{place}: a result of {known.NAME} without a run in it; {FIX}")
    fields = plain(", ".join(sorted(map(str, document))[:8])) or "none"
    names = ", ".join(known.NAME for known in FORMATS)
    raise InvalidInput(
        f"{place}: not a result of vllm bench or another known benchmark (its fields: {fields}); "
        f"known are {names}; leave it out"
    )
