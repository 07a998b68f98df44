"""One run as ``vllm bench`` wrote it, and its fields read with care: the files come from outside and may be broken."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_slmperf.baselines.json_format import plain
from pytest_slmperf.errors import InvalidInput

Kind = Literal["latency", "throughput", "serve"]
MEND = "measure it again, or leave the file out"
_SHOWN = 60  # characters of a wrong value that an error quotes


@dataclass(frozen=True, slots=True)
class Run:
    """The fields of one run, and the file they stand in (with the run's number where it holds several)."""

    file: str
    fields: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """Which command wrote the run; InvalidInput where none did."""
        fields = self.fields
        if "latencies" in fields and "avg_latency" in fields:
            return "latency"
        if "tokens_per_second" in fields and "elapsed_time" in fields:
            return "throughput"
        if "duration" in fields and "request_throughput" in fields:
            return "serve"
        told = plain(", ".join(sorted(fields)[:8])) or "none"
        raise InvalidInput(
            f"{self.file}: not a result of vllm bench latency, throughput or serve (its fields: {told}); leave it out"
        )

    @property
    def digest(self) -> str:
        """What the run is known by: equal for the same content, wherever it stands."""
        return hashlib.sha256(json.dumps(dict(self.fields), sort_keys=True).encode()).hexdigest()

    def number(self, name: str) -> float:
        """A field that must be a finite number of at least 0."""
        if name not in self.fields:
            raise InvalidInput(f"{self.file}: field {name!r} is missing, which vllm bench {self.kind} writes; {MEND}")
        value = self.fields[name]
        if not is_number(value) or value < 0:
            raise self.wrong(name, "not a finite number of at least 0")
        return float(value)

    def count(self, name: str) -> int:
        """A field that must be a whole number of at least 0; 0 where it is absent or null."""
        value = self.fields.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(name, "not a whole number of at least 0")
        return value

    def times(self, name: str) -> list[float]:
        """A field that must be a list of times, seconds."""
        values = self.fields[name]
        if not isinstance(values, list) or not values or not all(is_number(value) and value > 0 for value in values):
            raise self.wrong(name, "not a list of positive times in seconds")
        return [float(value) for value in values]

    def setting(self, name: str) -> str | int | float | bool | None:
        """A field that says what was asked for: a word, a number or null. No limit is written ``inf``, as vLLM does."""
        value = self.fields.get(name)
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, float) and value == math.inf:
            return "inf"
        if not is_number(value):
            raise self.wrong(name, "not a word or a finite number")
        return value  # type: ignore[no-any-return]  # a finite int or float

    def wrong(self, name: str, what: str) -> InvalidInput:
        shown = json.dumps(self.fields.get(name))
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return InvalidInput(f"{self.file}: field {name!r} is {shown}, {what}; {MEND}")


def is_number(value: Any) -> bool:
    """Whether the value is a finite number; an integer too big for a float is none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
