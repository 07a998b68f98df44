"""Recognisers: one module a format, each with the fields that it knows.

A module has ``NAME``, ``recognises(document)`` and ``runs(fields, swept)``; ``swept`` says that the file lies in a folder
of a sweep, where fields that the format does not know are what was varied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_slmperf.baselines.codec import plain
from pytest_slmperf.contrib.importers.fields import FIX, Fields
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


def runs_of(document: Mapping[str, Any], place: str, swept: bool) -> list[Run]:
    """The runs in one object of a file. InvalidInput names the known formats where no recogniser knows it."""
    for known in FORMATS:
        if known.recognises(document):
            if runs := known.runs(Fields(place, document, known.NAME), swept):
                if wrong := next((run.counts.contradiction for run in runs if run.counts.contradiction), None):
                    raise InvalidInput(f"{place}: {wrong}; {FIX}")
                return runs
            raise InvalidInput(f"{place}: a result of {known.NAME} without a run in it; {FIX}")
    fields = plain(", ".join(sorted(map(str, document))[:8])) or "none"
    names = ", ".join(known.NAME for known in FORMATS)
    raise InvalidInput(
        f"{place}: not a result of vllm bench or another known benchmark (its fields: {fields}); "
        f"known are {names}; leave it out"
    )
