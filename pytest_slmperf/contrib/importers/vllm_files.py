"""Files and folders that ``vllm bench`` writes, read into the runs of each setting."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.runs import MEND, Run
from pytest_slmperf.errors import InvalidInput

# vllm bench puts the time into the names it chooses; without it the next run is found again by its name
_STAMP = re.compile(r"[-_.]?\d{8}[-_]\d{6}$")
# of a folder such as SERVE--max_num_seqs=8-BENCH--max_concurrency=4
_SETTING = re.compile(r"(?:^|-)([A-Za-z_][\w.]*)=(.+?)(?=-[A-Za-z_][\w.]*=|-(?:BENCH|WL)-|$)")
# of a folder such as BENCH--max_concurrency=1-WL--request_rate=1
_WORKLOAD = re.compile(r"(?:^|-)WL--?([A-Za-z_]\w*)=")


def name_of(path: Path) -> str:
    """The file's or folder's name without its ending and without the time in it."""
    return _STAMP.sub("", path.resolve().name.removesuffix(".json")) or ("experiment" if path.is_dir() else "run")


def combinations_of(path: Path, skipped: list[str]) -> list[Combination]:
    """The runs of each setting that a result file or a folder holds. InvalidInput names what cannot be read."""
    return _folder(path, skipped) if path.is_dir() else _file(path)


def _file(path: Path) -> list[Combination]:
    """One combination per run of a file; the file holds one JSON object, a list of them, or one per line."""
    runs, name = _runs(path), name_of(path)
    return [Combination(name if len(runs) == 1 else f"{name}#{number}", [run]) for number, run in enumerate(runs)]


def _folder(folder: Path, skipped: list[str]) -> list[Combination]:
    """One combination per subfolder of runs, as vllm bench sweep lays them out; else one per result file in the folder."""
    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith("failure.json"):
            skipped.append(f"{path}: the run failed")
        elif path.name.startswith("run="):
            groups.setdefault(path.parent, []).append(path)
    if groups:
        return [_setting(parent, paths, folder) for parent, paths in sorted(groups.items())]
    plain = [
        path for path in sorted(folder.glob("*.json")) if not path.name.endswith(("failure.json", ".pytorch.json"))
    ]
    if not plain:
        raise InvalidInput(f"{folder}: no result file of vllm bench in it (no run=N.json below it, no *.json in it)")
    return [one for path in plain for one in _file(path)]


def _setting(parent: Path, paths: list[Path], folder: Path) -> Combination:
    name = str(parent.relative_to(folder)) if parent != folder else name_of(folder)
    workload, runs = _WORKLOAD.search(parent.name), _swept(parent, paths)
    own_name = any("_benchmark_name" in run.fields for run in runs)
    named = None if own_name else frozenset(_settings(parent)) or None
    return Combination(name, runs, workload=workload.group(1) if workload else None, named=named)


def _swept(folder: Path, paths: list[Path]) -> list[Run]:
    """The runs of one setting of a sweep with what was varied: vLLM writes that into ``summary.json`` and, when it was
    stopped before, into the folder's name and the runs."""
    summary = folder / "summary.json"
    if summary.is_file():
        return [_underscored(run) for run in _runs(summary)]
    ordered = sorted(paths, key=lambda path: (len(path.name), path.name))
    found = [_underscored(run) for path in ordered for run in _runs(path)]
    return [replace(run, fields={**run.fields, **_settings(folder)}) for run in found]


def _settings(folder: Path) -> dict[str, Any]:
    """What the folder's name says of what was varied."""
    return {name: _value(text) for name, text in _SETTING.findall(folder.name.replace("--", "-"))}


def _underscored(run: Run) -> Run:
    """The run with its settings named as in vLLM's code: a sweep may spell them as on the command line."""
    return replace(run, fields={name.replace("-", "_"): value for name, value in run.fields.items()})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _runs(path: Path) -> list[Run]:
    """The runs that a file holds: one JSON object, a list of them, or one per line."""
    from pytest_slmperf.model.results_file import read_bytes

    loaded = _loaded(read_bytes(path, mend=f"vllm bench was perhaps stopped before it wrote it: {MEND}"), path)
    runs = loaded if isinstance(loaded, list) else [loaded]
    if not runs or not all(isinstance(run, dict) for run in runs):
        raise InvalidInput(f"{path}: holds no result object of vllm bench; leave it out")
    places = [str(path)] if len(runs) == 1 else [f"{path}, run {number}" for number in range(len(runs))]
    return [Run(place, run) for place, run in zip(places, runs, strict=True)]


def _loaded(data: bytes, path: Path) -> Any:
    text = data.decode("utf-8", errors="replace")
    try:
        found = _json(text)
        json.dumps(found, ensure_ascii=False).encode()  # half a character, as in "\\ud800", could be written nowhere
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{path}: holds a text that is no Unicode ({error.reason}); {MEND}") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and brackets as deep
        raise InvalidInput(f"{path}: not valid JSON, perhaps cut short ({error}); {MEND}") from error
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise error from None
