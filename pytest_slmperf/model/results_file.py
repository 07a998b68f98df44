"""Results files: written as JSON, read back within limits, refused by name where they are broken."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pytest_slmperf import redaction, text_out
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model.result import SCHEMA_VERSION, Machine, Results
from pytest_slmperf.util import read_file
from pytest_slmperf.util.checks import is_number

_MOST_BYTES = 2**60  # no machine has more memory
RESTORE = "restore it from version control, or delete it to start anew"  # what to do about a broken file of ours


def encode(value: Any) -> bytes:
    """JSON of a record, indented for reading and diffing, each array of plain values on one line.

    Keys and passwords are hidden in it. ValueError for NaN and infinity: JSON has neither. BaselineError where it would be
    too large to be read again.
    """
    data = (indented(redaction.hidden(msgspec.to_builtins(value)), " ") + "\n").encode()
    read_file.room("the results file", len(data), read_file.MOST_RESULTS, "measure fewer tests in one session")
    return data


def indented(value: Any, step: str, *, sort: bool = False, pad: str = "") -> str:
    """Plain values as JSON: a line each for the items of objects and of arrays of arrays or objects; any other array on
    one line, so that a changed launch is a changed line in a diff."""
    inner = pad + step
    if isinstance(value, dict) and value:
        keys = sorted(value, key=str) if sort else value
        rows = [f"{_plain(str(key))}: {indented(value[key], step, sort=sort, pad=inner)}" for key in keys]
        brackets = "{}"
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [indented(item, step, sort=sort, pad=inner) for item in value]
        brackets = "[]"
    else:
        return _plain(value)
    lines = ",\n".join(inner + row for row in rows)
    return f"{brackets[0]}\n{lines}\n{pad}{brackets[1]}"


def _plain(value: Any) -> str:
    return text_out.json_text(value, indent=None)


def read_bytes(path: Path, limit: int = read_file.MOST_RESULTS, fix: str = RESTORE) -> bytes:
    """UTF-8 text of a file from outside. BaselineError as ``read_file.read``, and where it is no such text or empty.

    ``fix``: what to do about an empty file.
    """
    data = read_file.read(path, limit)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BaselineError(
            f"{path}: not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8, or restore it from version "
            "control"
        ) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise BaselineError(f"{path}: the file is empty; {fix}")
    return data


def cleaned(results: Results) -> Results:
    """The results as they may be shown and exported: keys and passwords hidden. The measured ones stay as they are."""
    return msgspec.convert(redaction.hidden(msgspec.to_builtins(results)), Results)


T = TypeVar("T")


def decoded(data: bytes, kind: type[T], where: object, fix: str = RESTORE) -> T:
    """JSON as a record; BaselineError names the place and the field that is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BaselineError(
            f"{where}: {'nested too deeply' if isinstance(error, RecursionError) else error}; {fix}"
        ) from error


def check_version(data: bytes, path: object) -> None:
    """Refuse what is not JSON with a schema version that this version reads."""

    class _Head(msgspec.Struct):
        schema_version: int

    try:
        version = msgspec.json.decode(data, type=_Head).schema_version
    except msgspec.ValidationError as error:
        raise BaselineError(
            f"{path}: not a slmperf file ({error}); restore it from version control, or name the right one"
        ) from error
    except RecursionError as error:
        raise BaselineError(f"{path}: nested too deeply for a slmperf file; is it the right one?") from error
    except msgspec.DecodeError as error:
        if conflict := re.search(rb"^(<{7}|>{7}) .*$", data, re.MULTILINE):
            line = data.count(b"\n", 0, conflict.start()) + 1
            raise BaselineError(
                f"{path}: line {line} is the mark of a merge that was not settled ({conflict[0].decode()[:60].strip()}); "
                "take one side whole (git checkout --ours or --theirs, then git add), or measure and approve anew after that"
            ) from error
        why = _not_a_number(data) or f"not valid JSON, perhaps cut short ({error})"
        raise BaselineError(f"{path}: {why}; restore it from version control, or delete it") from error
    refuse_twice(data, path)
    if version > SCHEMA_VERSION:
        raise BaselineError(
            f"{path}: has schema version {version}, and this pytest-slmperf reads up to {SCHEMA_VERSION}; "
            "upgrade pytest-slmperf to read it"
        )


class _Twice(ValueError):
    """A name that stands twice in one object: which of the values holds is not known."""


def single_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON (``object_pairs_hook``); ValueError, which holds the name, where one stands in it twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _Twice(next(name for name, count in counts.items() if count > 1)[:60])
    return fields


def refuse_twice(data: bytes, where: object) -> None:
    """BaselineError where a field stands twice in one object, of which a decoder would silently take the last."""
    try:
        json.loads(data, object_pairs_hook=single_names)
    except _Twice as error:
        raise BaselineError(
            f"{where}: field {error.args[0]!r} stands twice in one object; take one away, or {RESTORE}"
        ) from error
    except (ValueError, RecursionError):
        pass  # what else is wrong is named when it is decoded


def check_facts(machine: Machine, scenarios: Iterable[Mapping[str, Any]], where: object) -> None:
    """Refuse facts of open dictionaries that are computed with and are not what they must be."""
    for number, gpu in enumerate(machine.gpus):
        _need(is_number(gpu.get("memory_bytes", 0)), where, f"machine.gpus[{number}].memory_bytes", "a number")
    for size in (machine.memory_bytes, *(gpu.get("memory_bytes", 0) for gpu in machine.gpus)):
        _need(0 <= size <= _MOST_BYTES, where, "memory_bytes", "a number of bytes that a machine can have")
    for scenario in scenarios:
        if scenario.get("kind") != "sweep":
            continue
        goals, varied = scenario.get("objectives", []), scenario.get("varied", {})
        texts = isinstance(goals, list) and all(isinstance(goal, str) for goal in goals)
        _need(texts and len(set(goals)) == len(goals), where, "scenario.objectives", "a list of metrics, each once")
        lists = isinstance(varied, dict) and all(isinstance(values, list) for values in varied.values())
        _need(lists, where, "scenario.varied", "a list of values for each setting")


def _need(right: bool, where: object, field: str, what: str) -> None:
    if not right:
        raise BaselineError(f"{where}: field {field!r} must be {what}; {RESTORE}")


def _not_a_number(data: bytes) -> str | None:
    """Where JSON that Python would read holds NaN or an infinity; None where it holds none, or is broken otherwise."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return None
    match = re.search(rb"-?\b(NaN|Infinity)\b", re.sub(rb'"(\\.|[^"\\])*"', lambda text: b'"' * len(text[0]), data))
    if match is None:
        return None
    line = data.count(b"\n", 0, match.start()) + 1
    fields = re.findall(rb'"([^"\n]*)"\s*:', data[: match.start()])
    name = f", after the field {fields[-1].decode(errors='replace')!r}," if fields else ""
    return f"line {line}{name} holds {match[0].decode()}, which is neither JSON nor a reading"


def load_results(path: Path) -> Results:
    """Read and validate a results file; BaselineError names the file and the field that is wrong."""
    data = read_bytes(path)
    check_version(data, path)
    results = decoded(data, Results, path)
    seen: set[str] = set()
    for result in results.results:
        if result.id in seen:
            raise BaselineError(f"{path}: holds two results of the test {result.id!r}; measure again, or take one away")
        for number, point in enumerate(result.points, 1):
            if not isinstance(point.get("key"), str | int | float):
                raise BaselineError(
                    f"{path}: point {number} of {result.id!r} has no key; measure again, or take it away"
                )
        seen.add(result.id)
    check_facts(results.machine, [result.scenario for result in results.results], path)
    return results
