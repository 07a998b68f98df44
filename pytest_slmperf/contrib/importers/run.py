"""One run of a benchmark in this project's names and units, whichever tool measured it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pytest_slmperf.baselines.comparability import LENGTHS_ALIKE
from pytest_slmperf.contrib.importers.fields import Setting
from pytest_slmperf.util.formatting import counted

Kind = Literal["serving", "offline", "cold_start"]
LATENCIES = ("ttft", "tpot", "itl", "e2el")
LENGTHS = ("input_tokens_per_request", "output_tokens_per_request", "tokens_per_request")
REQUESTS = "requests"
_SERVING = (
    ("output_throughput",),
    ("ttft_p50", "ttft_mean"),
    ("tpot_p50", "tpot_mean", "itl_p50", "itl_mean"),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and tokens of a run, as far as its file has them. ``tokens``: input and output together.

    ``asked_output``: output tokens asked for per request.
    """

    requests: int | None = None
    completed: int | None = None
    failed: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens: int | None = None
    asked_output: float | None = None

    @property
    def lost(self) -> int:
        """Number of failed requests, including requests that were sent and not completed if the file counts no failures."""
        missing = 0 if self.requests is None or self.completed is None else self.requests - self.completed
        return max(self.failed, missing)

    @property
    def contradiction(self) -> str:
        """Why these counts cannot be true; empty if they can."""
        if self.requests is None or self.completed is None or self.completed <= self.requests:
            return ""
        return f"{self.completed} requests were completed, more than the {self.requests} that were sent"

    def doubts(self, values: Mapping[str, Sequence[float]], seconds: float | None) -> dict[str, str]:
        """Throughput → the contradicting count and duration as text. ``values``: the readings; ``seconds``: the run's
        duration.

        Only for tools that divide these totals by that duration. Deviations of up to ``LENGTHS_ALIKE`` or 0.01 are rounding.
        """
        both = (self.input_tokens, self.output_tokens)
        tokens = sum(count for count in both if count is not None) if None not in both else self.tokens
        totals = {
            "request_throughput": (self.completed, "requests"),
            "output_throughput": (self.output_tokens, "output tokens"),
            "total_token_throughput": (tokens, "tokens"),
        }
        contradicted: dict[str, str] = {}
        for name, (total, what) in totals.items():
            if not seconds or total is None or name not in values:
                continue
            said, counted_rate = values[name][0], total / seconds
            if abs(said - counted_rate) > LENGTHS_ALIKE * max(said, counted_rate) + 0.01:
                contradicted[name] = (
                    f"{name} of {_short(said)} per s contradicts {total} {what} in {_short(seconds)} s "
                    f"({_short(counted_rate)} per s)"
                )
        return contradicted

    @property
    def lengths(self) -> dict[str, Setting]:
        """Tokens per completed request: part of the work."""
        totals = (self.input_tokens, self.output_tokens, self.tokens)
        if not self.completed:
            return {}
        return {
            name: _short(total / self.completed)
            for name, total in zip(LENGTHS, totals, strict=True)
            if total is not None
        }

    @property
    def number(self) -> dict[str, Setting]:
        """The number of requests sent, or completed if the file does not have the number sent.

        It is part of the work of a tool that sends a given number: fewer requests may be failures that the file does not
        show.
        """
        number = self.completed if self.requests is None else self.requests
        return {REQUESTS: number} if number else {}

    @property
    def missing_output(self) -> str:
        """A sentence if the answers are shorter than asked; empty if they are not, or if it is unknown."""
        if not self.asked_output or not self.completed or self.output_tokens is None:
            return ""
        asked = self.asked_output * self.completed
        if self.output_tokens >= asked * (1 - LENGTHS_ALIKE):
            return ""
        return (
            f"answers are shorter than asked: {self.output_tokens} of {_short(asked)} output tokens "
            "(is ignore_eos honoured?); other work than answers of the full length"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The readings of one run, and what it was asked to do.

    ``work`` always stands in the scenario; ``asked`` distinguishes settings where it differs between runs; ``text`` was
    recorded with the run and distinguishes nothing unless the user says so; ``unknown`` are fields that the recogniser does
    not know. ``gates``: alternatives, of which the first that was read is judged. ``withheld``: why the latencies cannot
    be used, beyond failed requests. ``doubts``: metric → what in the same file contradicts its reading. ``names``: settings
    that stand in the id even where nothing differs in them, because a file of this format may hold several of them.
    """

    file: str
    format: str
    kind: Kind
    fields: Mapping[str, Any]
    engine: str = "unknown"
    engine_version: str | None = None
    model: str = "unknown"
    device: str | None = None
    dtype: str | None = None
    engine_settings: Mapping[str, Setting] = field(default_factory=dict)
    work: Mapping[str, Setting] = field(default_factory=dict)
    asked: Mapping[str, Setting] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    gates: Sequence[Sequence[str]] = _SERVING
    counts: Counts = Counts()
    withheld: str = ""
    doubts: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()
    measured_at: datetime | None = None

    @property
    def digest(self) -> str:
        """Identifies the run by its content, wherever its file lies."""
        kept = dict(self.fields) | {"work": dict(self.work), "format": self.format}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    @property
    def scalars(self) -> dict[str, Setting]:
        """Every field that may distinguish this run's setting from another's."""
        return {**self.text, **self.asked, **self.work}

    @property
    def latencies_withheld(self) -> str:
        """Why the latencies cannot be used; empty if they can."""
        if self.counts.lost:
            return failure_words(self.counts.lost, self.format)
        return self.withheld or ("no request was completed" if self.counts.completed == 0 else "")

    @property
    def readings(self) -> dict[str, list[float]]:
        """Metric → round values, without withheld latencies.

        A rate of 0 is not a reading: tools write it if nothing was counted, for instance output tokens of embeddings.
        Goodput may be 0 if no request was good.
        """
        withheld = bool(self.latencies_withheld)
        return {
            name: list(values)
            for name, values in self.values.items()
            if not (withheld and name.partition("_")[0] in LATENCIES) and (all(values) or name == "goodput")
        }


def failure_words(lost: int, tool: str) -> str:
    """Why latencies are withheld if requests failed."""
    name = "vllm bench" if tool.startswith("vllm bench") else tool
    return f"{counted(lost, 'request')} failed, and {name} leaves failed requests out of its latencies"


def alike(work: Mapping[str, Setting], other: Mapping[str, Setting]) -> bool:
    """Whether two pieces of work are the same; lengths may differ by ``LENGTHS_ALIKE``."""
    return {name: value for name, value in work.items() if name not in LENGTHS} == {
        name: value for name, value in other.items() if name not in LENGTHS
    } and all(_near(work.get(name), other.get(name)) for name in LENGTHS)


def of_one_setting(run: Run, other: Run) -> bool:
    """Whether two runs have the same format, settings and work."""
    return run.format == other.format and alike({**run.asked, **run.work}, {**other.asked, **other.work})


def _near(length: Setting | None, other: Setting | None) -> bool:
    if not isinstance(length, int | float) or not isinstance(other, int | float):
        return length == other
    return abs(length - other) <= LENGTHS_ALIKE * max(abs(length), abs(other))


def _short(number: float) -> int | float:
    """The number with six digits; a whole number without a decimal point."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
