"""Runs, grouped by the setting that they were measured with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.baselines import comparability
from pytest_slmperf.contrib.importers.fields import is_measured, is_number
from pytest_slmperf.contrib.importers.run import LENGTHS, REQUESTS, Run, alike


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
        """Whether the field is text that was recorded with the runs and that the engine was not asked for."""
        if self.named is None or name in self.named:
            return False
        return all(name not in run.asked and name not in run.work for run in self.runs)

    @property
    def words(self) -> str:
        """The settings as text for an id."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())

    @property
    def launches(self) -> list[Sequence[Run]]:
        return [self.runs, *self.further]

    @property
    def every(self) -> list[Run]:
        return [run for runs in self.launches for run in runs]


def with_settings(combinations: Sequence[Combination], by: Sequence[str] = ()) -> list[Combination]:
    """The combinations with their ``settings``: the fields that differ between them, and the fields in ``by``, which may be
    metadata."""
    scalars = [_scalars(combination.runs[0]) for combination in combinations]
    failed = [_failed(combination) for combination in combinations]
    varied = set(_varied(scalars, failed)) - metadata(combinations, by).keys() - {REQUESTS} | set(by)
    varied |= {name for combination in combinations for name in combination.runs[0].names}
    settings = [
        {name: _typed(fields[name], name in by) for name in sorted(varied) if name in fields} for fields in scalars
    ]
    settings = _with_fewer(settings, [fields.get(REQUESTS) for fields in scalars])
    settings = _with_lengths(settings, combinations)
    return [replace(combination, settings=own) for combination, own in zip(combinations, settings, strict=True)]


def _with_fewer(settings: Sequence[dict[str, Any]], requests: Sequence[Any]) -> list[dict[str, Any]]:
    """The settings; if a run has fewer requests than another run of the same setting, its number of requests is added.

    Some of its requests may have failed, so that it is no launch of the same result. The other runs keep their names.
    """
    most: dict[str, Any] = {}
    for own, number in zip(settings, requests, strict=True):
        if number is not None:
            most[repr(own)] = max(number, most.get(repr(own), number))
    return [
        own if number is None or number == most[repr(own)] else {**own, REQUESTS: number}
        for own, number in zip(settings, requests, strict=True)
    ]


def _with_lengths(settings: Sequence[dict[str, Any]], combinations: Sequence[Combination]) -> list[dict[str, Any]]:
    """The settings; if requests of a run failed and its lengths differ from those of a sound run of the same setting, its
    lengths are added, since it is no launch of the same result."""
    sound = {
        repr(own): combination.runs[0]
        for own, combination in zip(settings, combinations, strict=True)
        if not _failed(combination)
    }
    told_apart = []
    for own, combination in zip(settings, combinations, strict=True):
        run, other = combination.runs[0], sound.get(repr(own))
        apart = other is not None and _failed(combination) and not alike(_lengths(run), _lengths(other))
        told_apart.append({**own, **_lengths(run)} if apart else own)
    return told_apart


def _failed(combination: Combination) -> bool:
    return combination.runs[0].counts.lost > 0


def _lengths(run: Run) -> dict[str, Any]:
    return {name: run.work[name] for name in LENGTHS if name in run.work}


def metadata(combinations: Sequence[Combination], by: Sequence[str] = ()) -> dict[str, list[str]]:
    """The metadata that differ between the combinations and are not in ``by``, with their values. They were saved for the
    record and distinguish no settings."""
    scalars = [_scalars(combination.runs[0]) for combination in combinations]
    return {
        name: list(dict.fromkeys(str(fields[name]) for fields in scalars if name in fields))
        for name in _varied(scalars)
        if name not in by and all(combination.records(name) for combination in combinations)
    }


def _varied(scalars: Sequence[dict[str, Any]], failed: Sequence[bool] = ()) -> list[str]:
    """The names whose values differ. Lengths are compared only between runs that have them: a run without a completed
    request has none.

    ``failed``: for each mapping, whether requests of that run failed. The lengths of its other requests do not say what was
    asked for, and are not compared.
    """
    names = sorted({name for fields in scalars for name in fields})
    sound = [fields for fields, lost in zip(scalars, failed, strict=True) if not lost] if failed else scalars
    values = {
        name: [fields[name] for fields in sound if name in fields]
        if name in LENGTHS
        else [fields.get(name) for fields in scalars]
        for name in names
    }
    return [name for name in names if len(set(map(_written, values[name]))) > 1]


def _written(value: Any) -> str:
    """The value as text. 1 and 1.0 have the same text, since versions of a tool differ in which of them they write."""
    return repr(float(value)) if is_number(value) else repr(value)


def _typed(value: Any, recorded: bool) -> Any:
    """The value of a setting. Metadata are text; a text that is a number becomes a number, so that it can be a point of a
    sweep."""
    if not (recorded and isinstance(value, str)):
        return value
    try:
        number = json.loads(value)
    except ValueError:
        return value
    return number if is_number(number) else value


def _scalars(run: Run) -> dict[str, Any]:
    return run.scalars


def is_setting(name: str, run: Run) -> bool:
    """Whether the field says what the run was asked for, or was recorded with it, instead of what was measured."""
    return name in run.scalars and (name in run.asked or not is_measured(name))


def as_launches(sources: Sequence[Sequence[Combination]], by: Sequence[str] = ()) -> list[Combination]:
    """The settings of several files or folders, with equal settings merged: each source is one launch of them."""
    flat = with_settings(of_one_length([combination for source in sources for combination in source]), by)
    owners = [number for number, source in enumerate(sources) for _ in source]
    groups: dict[str, dict[int, list[Run]]] = {}
    first: dict[str, Combination] = {}
    for owner, combination in zip(owners, flat, strict=True):
        settings = sorted((name, _written(value)) for name, value in combination.settings.items())
        setting = f"{combination.runs[0].format} {settings!r}"
        first.setdefault(setting, combination)
        groups.setdefault(setting, {}).setdefault(owner, []).extend(combination.runs)
    together = []
    for setting, launches in groups.items():
        runs, *further = launches.values()
        combination = first[setting]
        together.append(replace(combination, name=combination.words or combination.name, runs=runs, further=further))
    return together


def of_one_length(combinations: Sequence[Combination]) -> list[Combination]:
    """The combinations, with one value for lengths that are nearly equal: those of a sampled model vary a little from run to
    run."""
    seen: list[Run] = []

    def like_the_first(run: Run) -> Run:
        lengths = {name: run.work[name] for name in LENGTHS if name in run.work}
        for other in seen:
            theirs = {name: other.work[name] for name in LENGTHS if name in other.work}
            if alike(lengths, theirs):
                return replace(run, work={**run.work, **theirs})
        seen.append(run)
        return run

    return [
        replace(combination, runs=[like_the_first(run) for run in combination.runs]) for combination in combinations
    ]


def of_one_work(combination: Combination) -> tuple[Combination, list[str]]:
    """The combination without the runs that did other work than its first sound run, and a line about each of them."""
    runs = sorted(combination.runs, key=lambda run: run.counts.lost > 0)  # a run without failures defines the work
    first = runs[0]
    kept, left = [], []
    for run in runs:
        own = {**run.work, **_lengths(first)} if run.counts.lost else run.work  # lengths of the completed only
        if alike(own, first.work):
            kept.append(run)
        else:
            changes = ", ".join(comparability.changes(first.work, run.work))
            left.append(f"{run.file}: other work than {first.file} ({changes})")
    return replace(combination, runs=kept), left


def named_by_setting(combinations: Sequence[Combination]) -> list[Combination]:
    """The combinations of one file, named by their settings if each has settings of its own."""
    words = [combination.words for combination in combinations]
    alone = len(combinations) < 2 and not any(setting.runs[0].names for setting in combinations)
    if alone or "" in words or len(set(words)) < len(words):
        return list(combinations)
    return [
        replace(combination, name=f"{combination.name.partition('#')[0]}[{setting}]")
        if "#" in combination.name
        else combination
        for combination, setting in zip(combinations, words, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Given:
    """One file or folder as the user named it, and the settings found in it."""

    path: str
    combinations: Sequence[Combination]

    @property
    def runs(self) -> list[Run]:
        return [run for combination in self.combinations for run in combination.runs]


def distinct(sources: Sequence[Given]) -> tuple[list[Given], list[str]]:
    """The sources with each run once and without sources that hold nothing new, and a line about each source that was
    shortened.

    A run that is given twice would pass for two launches, and would make any difference look certain.
    """
    first: dict[str, str] = {}  # content → where it stood first
    kept, dropped = [], []
    for source in sources:
        taken = [_take_new(combination, first) for combination in source.combinations]
        combinations = [combination for combination, _ in taken if combination.runs]
        if combinations:
            kept.append(Given(source.path, combinations))
        again = [file for _, files in taken for file in files]
        if again:
            what = "the same run" if len(source.runs) == 1 else f"{len(again)} of its {len(source.runs)} runs"
            dropped.append(f"{source.path}: {what} as in {again[0]}; counted once")
    return kept, dropped


def _take_new(combination: Combination, first: dict[str, str]) -> tuple[Combination, list[str]]:
    """The combination without the runs in ``first``, and the files where those were seen first. Adds the new runs to
    ``first``."""
    new, again = [], []
    for run in combination.runs:
        if (content := run.digest) in first:
            again.append(first[content])
        else:
            first[content] = run.file
            new.append(run)
    return replace(combination, runs=new), again
