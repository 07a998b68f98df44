"""Runs put together by the setting they were measured with."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.contrib.importers.runs import Run, is_number

# text that vllm bench serve writes of what was asked for; all other text in its files is what a user gave with --metadata
_ASKED = {"model_id", "tokenizer_id", "backend", "endpoint_type", "request_rate", "ramp_up_strategy", "dataset_name"}

# what a run measures or when it ran; every other scalar that differs between runs is what a sweep varied
_MEASURED = {
    "date", "label", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_goodput",
    "max_output_tokens_per_s", "max_concurrent_requests", "rtfx", "run_number", "avg_latency", "elapsed_time",
    "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second", "_benchmark_name",
    "output_throughput", "total_token_throughput", "request_throughput", "total_input_sequences",
    "input_sequence_throughput",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Combination:
    """The runs of one setting: all of one server launch, as ``vllm bench sweep`` measures them.

    ``further`` holds the runs of other launches of the same setting, one list each; ``workload`` names the setting that
    ``vllm bench sweep serve_workload`` explored, where it wrote the runs. ``named``: the settings that a sweep's folder is
    named by, None where it is named otherwise.
    """

    name: str
    runs: Sequence[Run]
    settings: dict[str, Any] = field(default_factory=dict)
    further: Sequence[Sequence[Run]] = ()
    workload: str | None = None
    named: frozenset[str] | None = frozenset()

    def records(self, name: str) -> bool:
        """Whether the field, where there is one, is text that was recorded with the runs and asked nothing of vLLM."""
        if name in _ASKED or self.named is None or name in self.named:
            return False
        return all(isinstance(run.fields.get(name, ""), str) for run in self.runs)

    @property
    def launches(self) -> list[Sequence[Run]]:
        return [self.runs, *self.further]

    @property
    def every(self) -> list[Run]:
        return [run for runs in self.launches for run in runs]


def with_settings(combinations: Sequence[Combination], by: Sequence[str] = ()) -> list[Combination]:
    """The combinations, each with the settings that differ between them, and with the fields of ``by``, which may be
    metadata."""
    scalars = [_scalars(one.runs[0]) for one in combinations]
    varied = set(_varied(scalars)) - metadata(combinations, by).keys() | set(by)
    return [
        replace(one, settings={name: _typed(found[name], name in by) for name in sorted(varied) if name in found})
        for one, found in zip(combinations, scalars, strict=True)
    ]


def metadata(combinations: Sequence[Combination], by: Sequence[str] = ()) -> dict[str, list[str]]:
    """The metadata that differ between the combinations and are not in ``by``, with their values: vLLM saves them for
    record keeping, so that they make no other setting."""
    scalars = [_scalars(one.runs[0]) for one in combinations]
    return {
        name: list(dict.fromkeys(str(found[name]) for found in scalars if name in found))
        for name in _varied(scalars)
        if name not in by and all(one.records(name) for one in combinations)
    }


def _varied(scalars: Sequence[dict[str, Any]]) -> list[str]:
    names = sorted({name for found in scalars for name in found})
    return [name for name in names if len({repr(found.get(name)) for found in scalars}) > 1]


def _typed(value: Any, recorded: bool) -> Any:
    """Metadata are text; one that is a number is a point of a sweep."""
    if not (recorded and isinstance(value, str)):
        return value
    try:
        number = json.loads(value)
    except ValueError:
        return value
    return number if is_number(number) else value


def _scalars(run: Run) -> dict[str, Any]:
    return {name: run.setting(name) for name, value in run.fields.items() if is_setting(name, value)}


def is_setting(name: str, value: Any) -> bool:
    """Whether the field says what was asked for, or was recorded; not what was measured."""
    measured = name in _MEASURED or name.startswith(("spec_decode_", "diffusion_", "probe_")) or name.endswith("_ms")
    if measured or not isinstance(value, str | int | float | bool):
        return False
    return not (isinstance(value, float) and math.isnan(value))  # a reading that a later vLLM adds, not a setting


def as_launches(sources: Sequence[Sequence[Combination]], by: Sequence[str] = ()) -> list[Combination]:
    """The settings of several files or folders, those that are alike put together: each source is one launch of them."""
    flat = with_settings([one for found in sources for one in found], by)
    owners = [number for number, found in enumerate(sources) for _ in found]
    groups: dict[str, dict[int, list[Run]]] = {}
    first: dict[str, Combination] = {}
    for owner, one in zip(owners, flat, strict=True):
        alike = f"{one.runs[0].kind} {sorted(one.settings.items())!r}"
        first.setdefault(alike, one)
        groups.setdefault(alike, {}).setdefault(owner, []).extend(one.runs)
    found = []
    for alike, launches in groups.items():
        runs, *further = launches.values()
        told = ", ".join(f"{name}={value}" for name, value in first[alike].settings.items())
        found.append(replace(first[alike], name=told or first[alike].name, runs=runs, further=further))
    return found


@dataclass(frozen=True, slots=True)
class Given:
    """One file or folder as the user named it, and the settings found in it."""

    path: str
    combinations: Sequence[Combination]

    @property
    def runs(self) -> list[Run]:
        return [run for one in self.combinations for run in one.runs]


def distinct(sources: Sequence[Given]) -> tuple[list[Given], list[str]]:
    """The sources with each run once, sources that hold nothing new left out, and what was dropped in words.

    A run given twice would pass for two launches, and would make any difference look certain.
    """
    first: dict[str, str] = {}  # content → where it stood first
    kept, dropped = [], []
    for source in sources:
        taken = [_take_new(one, first) for one in source.combinations]
        combinations = [one for one, _ in taken if one.runs]
        if combinations:
            kept.append(Given(source.path, combinations))
        again = [file for _, files in taken for file in files]
        if again:
            told = "the same run" if len(source.runs) == 1 else f"{len(again)} of its {len(source.runs)} runs"
            dropped.append(f"{source.path}: {told} as in {again[0]}; counted once")
    return kept, dropped


def _take_new(combination: Combination, first: dict[str, str]) -> tuple[Combination, list[str]]:
    """The combination without the runs that were seen, and where those stand; ``first`` takes its new ones."""
    new, again = [], []
    for run in combination.runs:
        if (content := run.digest) in first:
            again.append(first[content])
        else:
            first[content] = run.file
            new.append(run)
    return replace(combination, runs=new), again
