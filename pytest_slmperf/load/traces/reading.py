"""Reading a user's traces and prompts from JSONL, JSON or CSV, within limits; errors name the line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.load.traces.formats import (
    INPUT_NAMES,
    LIKE_A_TIME,
    OTHER_MEDIA,
    Trace,
    TraceFormat,
    TraceRow,
    format_of,
)
from pytest_slmperf.util import read_file
from pytest_slmperf.util.checks import is_number, is_whole

MAX_TOKENS = 100_000_000  # of one request
MAX_DELAY_MS = 1e12  # before a turn: thirty years
Record = dict[str, Any]


def read_trace(
    path: str | Path, *, unit: str | None = None, skip_empty: bool = False, lengths_required: bool = False
) -> Trace:
    """The rows of a JSONL, JSON or CSV trace, in the order of their times.

    Columns (any of the usual names, upper or lower case): arrival time, input length, output length; in JSONL also
    ``prompt`` (text), ``messages`` (chat), ``prompt_token_ids`` or ``hash_ids``.  Times are ISO 8601 dates, or numbers in
    ``unit``; None: the unit of the file's format.  ``skip_empty``: rows of 0 tokens are left out.  ``lengths_required``:
    each row needs an output length.  Raises InvalidInput that names the file, the line and the field.
    """
    path = Path(path)
    if unit not in (None, "s", "ms"):
        raise InvalidInput(f"the time unit of a trace is 's' or 'ms', not {unit!r}")
    text = _text(path)
    records = [
        (line, {str(key).strip().lower(): value for key, value in record.items()})
        for line, record in _RECORDS.get(path.suffix.lower(), _jsonl_records)(text, path)
    ]
    if not records:
        raise InvalidInput(f"{path}: holds no request")
    columns = dict.fromkeys(column for _, record in records for column in record)
    reader = _Reader(path, format_of(columns.keys()), tuple(columns), unit, skip_empty, lengths_required)
    rows: list[TraceRow] = []
    for line, record in records:
        rows += reader.rows(line, record)
    if not rows:
        raise InvalidInput(f"{path}: holds no request beside {reader.skipped} rows of 0 tokens")
    like = next((column for column in reader.unread() if LIKE_A_TIME.fullmatch(column)), None)
    if like is not None and all(row.at is None for row in rows):  # played without them it would be another load
        raise InvalidInput(
            f"{path}: column {like!r} looks like arrival times and is not read; name it arrival_time (seconds), or "
            "timestamp and give trace_unit, or take it out"
        )
    return Trace(path.name, tuple(_in_order(rows, path)), reader.format.name, reader.unread(), reader.skipped)


def _text(path: Path) -> str:
    try:
        return read_file.read(path, read_file.MOST_TRACE, fix="cut it to what is played").decode("utf-8-sig")
    except BaselineError as error:
        raise InvalidInput(str(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _in_order(rows: list[TraceRow], path: Path) -> list[TraceRow]:
    """The rows in the order of their times, shifted so that they begin at 0."""
    timed = [row.at for row in rows if row.at is not None]
    if timed and len(timed) != len(rows):
        raise InvalidInput(
            f"{path}: {len(rows) - len(timed)} of {len(rows)} rows have no arrival time; give all or none"
        )
    if not timed:
        return rows
    first = min(timed)
    return sorted((replace(row, at=(row.at or 0.0) - first) for row in rows), key=lambda row: row.at or 0.0)


def _jsonl_records(text: str, path: Path) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _json(line, f"{path}:{number}", "; a trace has one JSON object a line")
        if not isinstance(record, dict):
            raise InvalidInput(f"{path}:{number}: a JSON object is needed, not {type(record).__name__}")
        yield number, record


def _csv_records(text: str, path: Path) -> Iterator[tuple[int, Record]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not reader.fieldnames:
        raise InvalidInput(f"{path}: no header line; name the columns, for instance arrival_time,input_len,output_len")
    names = [str(name).strip().lower() for name in reader.fieldnames]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise InvalidInput(f"{path}: the header names {twice!r} twice; rename one column")
    try:
        for record in reader:
            if None in record:
                raise InvalidInput(f"{path}:{reader.line_num}: more cells than the header has columns")
            if None in record.values():
                raise InvalidInput(f"{path}:{reader.line_num}: fewer cells than the header has columns")
            yield reader.line_num, record
    except csv.Error as error:
        raise InvalidInput(f"{path}:{reader.line_num}: not CSV ({error}); long texts go into JSONL") from error


def _json_records(text: str, path: Path) -> Iterator[tuple[int, Record]]:
    entries = _json(text, str(path))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput(f"{path}: a JSON file of requests is a list of objects; use .jsonl for one object a line")
    yield from enumerate(entries, 1)


def _json(text: str, where: str, fix: str = "") -> Any:
    """What the text holds. InvalidInput names ``where`` it stands, and the ``fix``."""
    try:
        return json.loads(text, object_pairs_hook=_single_names)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON ({error}){fix}") from error


def _single_names(pairs: list[tuple[str, Any]]) -> Record:
    """An object whose names, upper or lower case, are all different: which of two values holds is not known."""
    names = {name.strip().lower() for name, _ in pairs}
    if len(names) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name.strip().lower() in seen or seen.add(name.strip().lower()))  # type: ignore[func-returns-value]
        raise InvalidInput(f"field {twice.strip().lower()[:40]!r} stands twice in one object; take one away")
    return dict(pairs)


_RECORDS = {".csv": _csv_records, ".json": _json_records}


@dataclass(slots=True)
class _Reader:
    """Makes rows from the records of one file, and records which columns it has read."""

    path: Path
    format: TraceFormat
    columns: tuple[str, ...]
    unit: str | None
    skip_empty: bool
    lengths_required: bool
    skipped: int = 0
    taken: set[str] = field(default_factory=set)
    unread_in_turns: dict[str, None] = field(default_factory=dict)

    def unread(self) -> tuple[str, ...]:
        columns = [
            column or f"column {place} (without a name)"
            for place, column in enumerate(self.columns, 1)
            if column not in self.taken
        ]
        return (*columns, *self.unread_in_turns)

    def rows(self, line: int, record: Record) -> list[TraceRow]:
        """The rows of a record: one per turn of a conversation, none for a skipped row of 0 tokens."""
        if self.format.shape == "turns":
            return self._turns(line, record)
        if self.format.shape == "sharegpt":
            self.taken.add("conversations")
            record = _first_message(record, f"{self.path}:{line}")
        row = self._row(line, record)
        self.skipped += row is None
        return [] if row is None else [row]

    def _turns(self, line: int, record: Record) -> list[TraceRow]:
        where = f"{self.path}:{line}"
        self.taken.add("turns")
        turns = record.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
            raise InvalidInput(f"{where}: field 'turns' must be a list of objects with a 'text'")
        rows: list[TraceRow] = []
        for number, turn in enumerate(turns):
            row = self._row(line, turn, f"{where} (turn {number + 1})")
            if row is None:  # later turns would have a wrong history
                self.skipped += len(turns)
                return []
            if row.prompt is None:
                raise InvalidInput(f"{where}: turn {number + 1} needs a 'text'")
            self._note_turn(turn, first=number == 0)
            message = {"role": str(turn.get("role") or "user"), "content": row.prompt}
            rows.append(
                replace(
                    row,
                    at=rows[0].at if rows else row.at,
                    prompt=None,
                    messages=(message,),
                    follows=number > 0,
                    pause=self._pause(turn, where) if number else 0.0,
                )
            )
        return rows

    def _note_turn(self, turn: Record, *, first: bool) -> None:
        """Record the fields that were not read: a first turn waits for no answer, a later turn has no due time."""
        ignored = {"delay"} if first else {"timestamp"}
        for name in turn:
            if turn[name] is not None and (name in ignored or name not in self.taken | {"role", "delay"}):
                self.unread_in_turns.setdefault(f"turns.{name}")

    def _pause(self, turn: Record, where: str) -> float:
        delay = turn.get("delay") or 0
        if not is_number(delay) or not 0 <= delay < MAX_DELAY_MS:
            raise InvalidInput(f"{where}: field 'delay' must be milliseconds of 0 or more, not {str(delay)[:40]!r}")
        return float(delay) / 1000

    def _row(self, line: int, record: Record, where: str = "") -> TraceRow | None:
        where = where or f"{self.path}:{line}"
        text_column = _column(record, self.format.text, empty=True)
        if self.format.text_only and (media := _column(record, OTHER_MEDIA)):
            raise InvalidInput(f"{where}: field {media!r} cannot be played; leave the row out, only text is sent")
        if self.skip_empty and text_column and record[text_column] == "":
            return None
        prompt, messages, ids = _own_prompt(record, text_column, where)
        read = {"messages", "prompt_token_ids"} | ({"hash_ids"} if self.format.block_size else set())
        self.taken |= (read & record.keys()) | ({text_column} if text_column else set())
        n_in = self._tokens(record, self.format.n_in, "input length", where)
        n_out = self._tokens(record, self.format.n_out, "output length", where)
        if n_in is None and prompt is None and messages is None and ids is None:
            raise InvalidInput(
                f"{where}: needs an input length ({', '.join(INPUT_NAMES[:2])}, …), 'prompt' or 'messages'"
                f"{self._named_unread()}"
            )
        time_column = _column(record, self.format.time)
        self.taken |= {time_column} if time_column else set()
        if n_out is None and self.lengths_required:
            raise InvalidInput(
                f"{where}: needs an output length ({', '.join(self.format.n_out[:2])}, …); name the column so, or give "
                f"output_len for the rows without it{self._named_unread()}"
            )
        if n_in == 0 or n_out == 0:
            return None
        blocks = self._blocks(record, n_in, where)
        return TraceRow(
            at=None if time_column is None else self._time(record[time_column], time_column, where),
            n_in=n_in if ids is None else len(ids),
            n_out=n_out,
            prompt=prompt,
            messages=messages,
            prompt_ids=ids,
            blocks=blocks,
            block_size=self.format.block_size if blocks else 0,
            line=line,
        )

    def _named_unread(self) -> str:
        unread = ", ".join(self.unread())
        return f"; columns that were not read: {unread}" if unread else ""

    def _tokens(self, record: Record, names: tuple[str, ...], what: str, where: str) -> int | None:
        column = _column(record, names)
        if column is None:
            return None
        self.taken.add(column)
        return _tokens(record[column], what, where, self.skip_empty)

    def _blocks(self, record: Record, n_in: int | None, where: str) -> tuple[int, ...]:
        if not self.format.block_size or (ids := record.get("hash_ids")) is None:
            return ()
        if not isinstance(ids, list) or not all(is_whole(block) for block in ids):
            raise InvalidInput(f"{where}: field 'hash_ids' must be a list of whole numbers")
        size = self.format.block_size
        if n_in is None or (len(ids) - 1) * size >= n_in:
            raise InvalidInput(
                f"{where}: field 'hash_ids' has {len(ids)} blocks of {size} tokens, more than the input length of {n_in}"
            )
        return tuple(ids)

    def _time(self, value: Any, column: str, where: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return _date(value, where)
        if isinstance(value, bool):
            raise InvalidInput(f"{where}: arrival time must be a number or an ISO 8601 date, not {value!r}")
        unit = self.unit or self.format.unit_of(column)
        if unit is None:
            raise InvalidInput(
                f'{where}: column {column!r} may be in seconds or milliseconds; give trace_unit="s" or '
                f'trace_unit="ms"{self._named_unread()}'
            )
        seconds = number / (1000 if unit == "ms" else 1)
        if not math.isfinite(seconds):
            raise InvalidInput(f"{where}: arrival time must be finite, not {value!r}")
        return seconds


def _first_message(record: Record, where: str) -> Record:
    """A ShareGPT conversation as a record with the first message as its prompt; its answers have no length in tokens."""
    turns = record.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InvalidInput(f"{where}: field 'conversations' must be a list of objects with 'from' and 'value'")
    rest = {name: value for name, value in record.items() if name != "conversations"}
    return rest | {"prompt": turns[0].get("value") if turns else ""}


def _own_prompt(
    record: Record, text_column: str | None, where: str
) -> tuple[str | None, tuple[dict[str, Any], ...] | None, tuple[int, ...] | None]:
    """The prompt of a record as text, as messages, and as token ids."""
    prompt = None if text_column is None else record[text_column]
    messages, ids = record.get("messages"), record.get("prompt_token_ids")
    if text_column == "texts":
        if not isinstance(prompt, list) or len(prompt) != 1:
            raise InvalidInput(f"{where}: field 'texts' must be a list of one text; write a row for each text")
        prompt = prompt[0]
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidInput(f"{where}: field {text_column!r} must be text, not {type(prompt).__name__}")
    if prompt == "":
        raise InvalidInput(f"{where}: field {text_column!r} is empty; skip_empty=True leaves such rows out")
    if messages is not None and not (
        isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages)
    ):
        raise InvalidInput(f"{where}: field 'messages' must be a list of objects with a 'role'")
    if ids is not None and not (isinstance(ids, list) and ids and all(is_whole(token) and token >= 0 for token in ids)):
        raise InvalidInput(f"{where}: field 'prompt_token_ids' must be a list of whole numbers")
    return prompt, None if messages is None else tuple(messages), None if ids is None else tuple(ids)


def _column(record: Record, names: tuple[str, ...], *, empty: bool = False) -> str | None:
    """The first of ``names`` with a value in the record. ``empty``: an empty text counts as a value."""
    return next(
        (name for name in names if (record.get(name) not in (None, "") or (empty and record.get(name) == ""))), None
    )


def _tokens(value: Any, field: str, where: str, zero: bool) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number == 0 and zero and not isinstance(value, bool):
        return 0
    if isinstance(value, bool) or not 1 <= number <= MAX_TOKENS or number != int(number):
        fix = "; skip_empty=True leaves rows of 0 tokens out" if number == 0 and not isinstance(value, bool) else ""
        raise InvalidInput(
            f"{where}: {field} must be a whole number from 1 to {MAX_TOKENS}, not {str(value)[:40]!r}{fix}"
        )
    return int(number)


def _date(value: Any, where: str) -> float:
    """Seconds of an ISO 8601 date; UTC where it names no zone."""
    try:
        # Azure's file of 2023 has seven digits of a second; Python reads six
        stamp = str(value).strip()
        head, dot, tail = stamp.partition(".")
        digits = len(tail) - len(tail.lstrip("0123456789"))
        stamp = f"{head}.{tail[: min(6, digits)]}{tail[digits:]}" if dot else stamp
        moment = datetime.fromisoformat(stamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInput(f"{where}: arrival time must be a number or an ISO 8601 date, not {value!r}") from None
