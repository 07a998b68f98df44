"""Reads the files and folders that benchmarks write into runs, grouped by setting."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.fields import FIX
from pytest_slmperf.contrib.importers.formats import is_foreign, runs_of
from pytest_slmperf.contrib.importers.run import of_one_setting
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util import read_file

_Documents = list[tuple[str, dict[str, Any]]]  # the objects of a file, each with its place
MAX_BYTES = 128 * 2**20  # vllm bench serve --save-detailed writes tens of MB
# vllm bench adds the time to the names that it chooses; without it, the next run has the same name
_STAMP = re.compile(r"[-_.]?\d{8}[-_]\d{6}$")
# matches in a folder such as SERVE--max_num_seqs=8-BENCH--max_concurrency=4
_SETTING = re.compile(r"(?:^|-)([A-Za-z_][\w.]*)=(.+?)(?=-[A-Za-z_][\w.]*=|-(?:BENCH|WL)-|$)")
# matches in a folder such as BENCH--max_concurrency=1-WL--request_rate=1
_WORKLOAD = re.compile(r"(?:^|-)WL--?([A-Za-z_]\w*)=")
# files that benchmarks write beside their results: requests, single answers, configurations
_BESIDE = re.compile(
    r"inputs\.json|profile_export(_raw|_records|_network_latency)?\.jsonl|profile_export_aiperf_timeslices\.json"
    r"|(server_metrics|gpu_telemetry)_export\.jsonl?|benchmark_config\.json"
    r"|(per_request|per_session|session)_.*metrics\.json|(stage_\d+|summary)_(prometheus|session_lifecycle)_metrics\.json"
    r"|adapter_.*_lifecycle_metrics\.json|power_validation_.*\.json"
)
# files that hold parts or sums of another file in the folder
_PARTS = (
    (re.compile(r"benchmark_report\.json"), "benchmark.json"),
    (re.compile(r"summary_lifecycle_metrics\.json"), "stage_*_lifecycle_metrics.json"),
)


def name_of(path: Path) -> str:
    """The name of the file or folder, without its ending and without a time stamp."""
    return _STAMP.sub("", path.resolve().name.removesuffix(".json").removesuffix(".jsonl")) or (
        "experiment" if read_file.is_folder(path) else "run"
    )


def combinations_of(path: Path, skipped: list[str]) -> list[Combination]:
    """The runs of each setting that a result file or a folder holds. InvalidInput names what cannot be read."""
    return _folder(path, skipped) if read_file.is_folder(path) else _file(path)


def _file(path: Path, documents: _Documents | None = None, also: Mapping[str, Any] | None = None) -> list[Combination]:
    """One combination per run of the file. ``documents``: its objects, if they were read; ``also``: the settings in its
    folder's name."""
    swept, objects = bool(also), documents or _documents(path)
    runs = [run for place, document in objects for run in runs_of({**document, **(also or {})}, place, swept)]
    name = name_of(path)
    named = frozenset(also) if also else frozenset()
    return [
        Combination(name if len(runs) == 1 and not run.names else f"{name}#{number}", [run], named=named)
        for number, run in enumerate(runs)
    ]


def _folder(folder: Path, skipped: list[str]) -> list[Combination]:
    """One combination per subfolder of runs, as vllm bench sweep writes them. Without such subfolders: one per result file
    in the folder, or else in its subfolders, each of which is a setting."""
    for _ in os.walk(folder, onerror=_refuse):  # without this, an unreadable folder would look empty
        pass
    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith("failure.json"):
            skipped.append(f"{path}: the run failed")
        elif path.name.startswith("run="):
            groups.setdefault(path.parent, []).append(path)
    if groups:
        return [_setting(parent, paths, folder) for parent, paths in sorted(groups.items())]
    results = _known(_results(folder, "*", skipped), skipped)
    if results:
        return [combination for path, documents in results.items() for combination in _file(path, documents)]
    results = _known(_results(folder, "**/*", skipped), skipped)
    if not results:
        raise InvalidInput(f"{folder}: no result file in it (no run=N.json below it, no *.json or *.jsonl in it)")
    return _nested(folder, results)


def _known(paths: list[Path], skipped: list[str]) -> dict[Path, _Documents]:
    """The objects of each file, without files that hold no result of any benchmark: what users keep beside theirs."""
    read = {path: _documents(path) for path in paths}
    foreign = [path for path, documents in read.items() if all(is_foreign(document) for _, document in documents)]
    if len(foreign) == len(read):
        return read
    skipped += [f"{path}: not a result of a known benchmark" for path in foreign]
    return {path: documents for path, documents in read.items() if path not in foreign}


def _refuse(error: OSError) -> None:
    raise read_file.cannot_read(Path(error.filename), error) from error


def _results(folder: Path, pattern: str, skipped: list[str]) -> list[Path]:
    """The result files, without other files of benchmarks: requests, configurations, and copies of the same result."""
    files = [path for ending in ("json", "jsonl") for path in folder.glob(f"{pattern}.{ending}")]
    files = [path for path in files if not read_file.is_folder(path)]
    kept = []
    for path in sorted(files):
        whole = next(
            (other for own, other in _PARTS if own.fullmatch(path.name) and any(path.parent.glob(other))), None
        )
        if path.name.endswith((".pytorch.json", "failure.json")):
            continue
        if _BESIDE.fullmatch(path.name):
            skipped.append(f"{path}: written beside a result")
        elif whole is not None:
            skipped.append(f"{path}: the same result as in {whole}")
        else:
            kept.append(path)
    return kept


def _nested(folder: Path, results: Mapping[Path, _Documents]) -> list[Combination]:
    """One combination per subfolder, if its files are runs of one setting. The settings are taken from the folders' names if
    all of them name the same ones: tp=4, c16."""
    places = list(dict.fromkeys(path.parent.relative_to(folder) for path in results))
    said = {place: _said(place) for place in places}
    same = len({tuple(sorted(settings)) for settings in said.values()}) == 1
    combinations: list[Combination] = []
    for place in places:
        own = [path for path in results if path.parent.relative_to(folder) == place]
        also = said[place] if same else None
        read = [combination for path in own for combination in _file(path, results[path], also)]
        runs = [run for combination in read for run in combination.runs]
        if len(own) == len(read) and all(of_one_setting(run, runs[0]) for run in runs):
            combinations.append(replace(read[0], name=str(place), runs=runs))
        elif len(own) == 1:
            combinations += [replace(combination, name=f"{place}#{number}") for number, combination in enumerate(read)]
        else:
            combinations += [replace(combination, name=f"{place}/{combination.name}") for combination in read]
    return combinations


def _said(place: Path) -> dict[str, Any]:
    """The settings in a folder's name. The name of ``c16`` is ``c``."""
    settings = {name: _value(text) for part in place.parts for name, text in _SETTING.findall(part.replace("--", "-"))}
    short = re.fullmatch(r"([A-Za-z_]+)[-_]?(\d+)", place.name)
    return settings or ({short.group(1): int(short.group(2))} if short else {})


def _setting(parent: Path, paths: list[Path], folder: Path) -> Combination:
    name = str(parent.relative_to(folder)) if parent != folder else name_of(folder)
    workload, documents = _WORKLOAD.search(parent.name), _swept(parent, paths)
    own_name = any("_benchmark_name" in document for _, document in documents)
    named = None if own_name else frozenset(_settings(parent)) or None
    runs = [run for place, document in documents for run in runs_of(document, place, True)]
    return Combination(name, runs, workload=workload.group(1) if workload else None, named=named)


def _swept(folder: Path, paths: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """The objects of one setting of a sweep, with the varied settings: vLLM writes them into ``summary.json``, and if it was
    stopped before, into the folder's name and the runs."""
    summary = folder / "summary.json"
    if read_file.exists(summary):
        return [(place, _underscored(document)) for place, document in _documents(summary)]
    ordered = sorted(paths, key=lambda path: (len(path.name), path.name))
    documents = [(place, _underscored(document)) for path in ordered for place, document in _documents(path)]
    return [(place, {**document, **_settings(folder)}) for place, document in documents]


def _settings(folder: Path) -> dict[str, Any]:
    """The varied settings in the folder's name."""
    return {name: _value(text) for name, text in _SETTING.findall(folder.name.replace("--", "-"))}


def _underscored(document: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its fields named as in vLLM's code, since a sweep may use the names of the command line."""
    return {name.replace("-", "_"): value for name, value in document.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _documents(path: Path) -> _Documents:
    """The objects in a file, each with its place: one JSON object, a list of them, or one object per line."""
    from pytest_slmperf.model.results_file import read_bytes

    data = read_bytes(path, MAX_BYTES, fix=f"vllm bench was perhaps stopped before it wrote it: {FIX}")
    loaded = _loaded(data, path)
    documents = loaded if isinstance(loaded, list) else [loaded]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise InvalidInput(f"{path}: holds no result object of a benchmark; leave it out")
    places = [str(path)] if len(documents) == 1 else [f"{path}, run {number}" for number in range(len(documents))]
    return list(zip(places, documents, strict=True))


def _loaded(data: bytes, path: Path) -> Any:
    text = data.decode("utf-8", errors="replace")
    try:
        loaded = _json(text)
        json.dumps(
            loaded, ensure_ascii=False
        ).encode()  # half a character, as in "\\ud800", cannot be written to any file
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{path}: holds a text that is no Unicode ({error.reason}); {FIX}") from error
    except _Twice as error:
        raise InvalidInput(f"{path}: field {error.args[0]!r} stands twice in one object; {FIX}") from error
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested thousands deep
        if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
            raise InvalidInput(
                f"{path}: holds a whole number of thousands of digits, which is no reading; {FIX}"
            ) from error
        raise InvalidInput(f"{path}: not valid JSON, perhaps cut short ({error}); {FIX}") from error
    return loaded


class _Twice(ValueError):
    """Raised for a field that stands twice in one object, since it is unknown which of the values is right."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise _Twice(name[:60])
        fields[name] = value
    return fields


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line, object_pairs_hook=_object) for line in text.split("\n") if line.strip()]
        except json.JSONDecodeError:
            raise error from None
