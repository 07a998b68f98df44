"""A user's own traces and prompts, from JSONL or CSV. Data from outside: bounded, checked, named by line when wrong."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util.numbers import is_whole

MAX_TRACE_BYTES = 512 * 2**20
MAX_TOKENS = 100_000_000  # of one request

# The names that public traces use for the same three columns (Azure 2023, BurstGPT, Mooncake, vLLM).
TIME_NAMES = ("arrival_time", "arrival", "timestamp", "time", "t")
INPUT_NAMES = ("input_len", "input_length", "contexttokens", "request tokens", "prompt_len", "prompt_tokens", "n_in")
OUTPUT_NAMES = (
    "output_len",
    "output_length",
    "generatedtokens",
    "response tokens",
    "output_tokens",
    "max_tokens",
    "n_out",
)


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace. ``at``: seconds since the first request, None where the file has no times.

    Either ``n_in`` is given (a prompt of that length is made) or the user's own ``prompt``/``messages``.
    """

    at: float | None
    n_in: int | None
    n_out: int | None
    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    prompt_ids: tuple[int, ...] | None = None


def read_trace(path: str | Path, *, unit: str = "s") -> list[TraceRow]:
    """The rows of a JSONL or CSV trace.

    Columns (any of the usual names, upper or lower case): arrival time, input length, output length; in JSONL also
    ``prompt`` (text), ``messages`` (chat) or ``prompt_token_ids``.  Times are numbers in ``unit`` ("s" or "ms") or
    ISO 8601 dates.  Raises InvalidInput that names the file, the line and the field.
    """
    path = Path(path)
    if unit not in ("s", "ms"):
        raise InvalidInput(f"the time unit of a trace is 's' or 'ms', not {unit!r}")
    try:
        if path.stat().st_size > MAX_TRACE_BYTES:
            raise InvalidInput(
                f"{path}: larger than the {MAX_TRACE_BYTES >> 20} MiB a trace may have; cut it to what is played"
            )
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    records = _csv_records(text, path) if path.suffix.lower() == ".csv" else _jsonl_records(text, path)
    rows = [_row({str(key).strip().lower(): value for key, value in record.items()}, f"{path}:{line}", unit)
            for line, record in records]  # fmt: skip
    if not rows:
        raise InvalidInput(f"{path}: holds no request")
    timed = [row.at for row in rows if row.at is not None]
    if timed and len(timed) != len(rows):
        raise InvalidInput(
            f"{path}: {len(rows) - len(timed)} of {len(rows)} rows have no arrival time; give all or none"
        )
    if not timed:
        return rows
    first = min(timed)
    from dataclasses import replace

    return sorted((replace(row, at=(row.at or 0.0) - first) for row in rows), key=lambda row: row.at or 0.0)


def _jsonl_records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{path}:{number}: not JSON ({error}); a trace has one JSON object a line") from error
        if not isinstance(record, dict):
            raise InvalidInput(f"{path}:{number}: a JSON object is needed, not {type(record).__name__}")
        yield number, record


def _csv_records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    if not reader.fieldnames:
        raise InvalidInput(f"{path}: no header line; name the columns, for instance arrival_time,input_len,output_len")
    for record in reader:
        if None in record:
            raise InvalidInput(f"{path}:{reader.line_num}: more cells than the header has columns")
        if None in record.values():
            raise InvalidInput(f"{path}:{reader.line_num}: fewer cells than the header has columns")
        yield reader.line_num, record


def _row(record: dict[str, Any], where: str, unit: str) -> TraceRow:
    at = _pick(record, TIME_NAMES)
    prompt, messages, ids = record.get("prompt"), record.get("messages"), record.get("prompt_token_ids")
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidInput(f"{where}: field 'prompt' must be text, not {type(prompt).__name__}")
    if prompt == "":
        raise InvalidInput(f"{where}: field 'prompt' is empty")
    if messages is not None and not (
        isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages)
    ):
        raise InvalidInput(f"{where}: field 'messages' must be a list of objects with a 'role'")
    if ids is not None and not (isinstance(ids, list) and ids and all(is_whole(token) and token >= 0 for token in ids)):
        raise InvalidInput(f"{where}: field 'prompt_token_ids' must be a list of whole numbers")
    n_in = _tokens(_pick(record, INPUT_NAMES), "input length", where)
    n_out = _tokens(_pick(record, OUTPUT_NAMES), "output length", where)
    if n_in is None and prompt is None and messages is None and ids is None:
        raise InvalidInput(f"{where}: needs an input length ({', '.join(INPUT_NAMES[:2])}, …), 'prompt' or 'messages'")
    return TraceRow(
        at=None if at is None else _time(at, where, unit),
        n_in=n_in if ids is None else len(ids),
        n_out=n_out,
        prompt=prompt,
        messages=None if messages is None else tuple(messages),
        prompt_ids=None if ids is None else tuple(ids),
    )


def _pick(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) not in (None, "")), None)


def _tokens(value: Any, field: str, where: str) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 1 <= number <= MAX_TOKENS or number != int(number):
        raise InvalidInput(f"{where}: {field} must be a whole number from 1 to {MAX_TOKENS}, not {str(value)[:40]!r}")
    return int(number)


def _time(value: Any, where: str, unit: str) -> float:
    try:
        seconds = float(value) / (1000 if unit == "ms" else 1)
    except (TypeError, ValueError):
        try:
            # Azure writes seven digits of a second; Python reads six
            stamp = str(value).strip()
            head, dot, tail = stamp.partition(".")
            digits = len(tail) - len(tail.lstrip("0123456789"))
            stamp = f"{head}.{tail[: min(6, digits)]}{tail[digits:]}" if dot else stamp
            moment = datetime.fromisoformat(stamp)
            from datetime import UTC

            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            raise InvalidInput(f"{where}: arrival time must be a number or an ISO 8601 date, not {value!r}") from None
    if not math.isfinite(seconds):
        raise InvalidInput(f"{where}: arrival time must be finite, not {value!r}")
    return seconds
