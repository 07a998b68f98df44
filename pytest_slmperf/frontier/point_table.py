"""CSV tables of points, whoever wrote them: from text to points, and the rows that are left out with the reason."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.points import Key, Point

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "—", "–", "?", "#n/a"})
FAILED = frozenset(
    {"oom", "out of memory", "error", "err", "fail", "failed", "failure", "timeout", "timed out", "crash", "crashed"}
)
MOST = 1e100  # larger values are no measurements, and their squares and products would overflow
_PREEMPTED = {"preemption", "preemptions", "preempted"}
# Further words that the name of a count may have; preemption_mode and preemption_time_ms are not counts.
_OF_A_COUNT = {
    "num", "number", "n", "of", "total", "count", "counts", "sum", "events", "requests", "request", "reqs", "req", "seqs",
    "sequences", "vllm", "engine",
}  # fmt: skip
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")  # 1,234.5
_GROUPED_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")  # 1.234,5
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")  # 1234,5


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is left out, and why."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """The points of a file, and the rows that are left out."""

    points: list[Point]
    dropped: list[Dropped]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def parse_rows(text: str, source: str) -> tuple[list[str], list[dict[str, str]], str]:
    """Header, rows and delimiter of CSV text (comma, semicolon or tab). InvalidInput names ``source`` and the line."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidInput(f"{source}: the file is empty; it needs a header line and one line per point")
    head = text.lstrip().splitlines()[0]
    if head.startswith(("{", "[")):
        raise InvalidInput(
            f"{source}: this is JSON; the table must be CSV, a header line and one line per point "
            "(results of vllm bench become points with `slmperf import`)"
        )
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) == 1 and len(header) > 1 and (other := [mark for mark in ",;\t" if mark in cells[0]]):
                raise InvalidInput(
                    f"{source}: line {reader.line_num} is parted by {other[0]!r}, the header by {delimiter!r}; "
                    "is it of another file?"
                )
            if any(cell.strip() for cell in cells[len(header) :]):
                raise InvalidInput(
                    f"{source}: line {reader.line_num} has {len(cells)} cells, the header has {len(header)}; "
                    "is a cell with a comma in it unquoted?"
                )
            cells += [""] * (len(header) - len(cells))
            rows.append({name: cell.strip() for name, cell in zip(header, cells, strict=False)})
    except csv.Error as error:
        raise InvalidInput(f"{source}: line {reader.line_num}: {error}") from error
    if not rows:
        raise InvalidInput(f"{source}: there is a header and no point below it")
    return header, rows, delimiter


def read_points(
    text: str, source: str, *, key: str, required: Sequence[str], optional: Sequence[str] = (), repeats: bool = False
) -> Table:
    """The points of a CSV table that holds one group of points; see ``read_groups``."""
    groups = read_groups(text, source, key=key, required=required, optional=optional, repeats=repeats)
    return groups[None]


def read_groups(
    text: str,
    source: str,
    *,
    key: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    repeats: bool = False,
    by: str | None = None,
) -> dict[str | None, Table]:
    """The points of a CSV table by the value of column ``by``, in the order of the file; ``by`` None: one group, None.

    key:      the column whose value names a point
    required: columns that every point needs: a missing cell drops the row, with the reason
    optional: columns that are read if they hold a number
    repeats:  rows of one key are repeated measurements of one point (they become its rounds); otherwise every row is a
              point of its own

    Dropped are rows with preemptions (they measure an overfull KV cache, not the batch size), exact duplicates, rows whose
    cell names a failure (OOM, timeout, …) and rows with a required reading that is not finite or above ``MOST``.  Numbers
    may have thousands separators (1,234.5) or a decimal comma (1234,5), but not both in a file.  InvalidInput, with line
    and column, for absent or ambiguous columns, for cells that are neither numbers nor missing, and if the rows belong to
    several devices, engines or models and ``by`` is None.
    """
    header, rows, delimiter = parse_rows(text, source)
    for name in (key, *required, *optional, *([] if by is None else [by])):
        if name not in header:
            option = "; --key names the batch column" if name == key else ""
            has = f"it has: {', '.join(header)}{option}"
            raise InvalidInput(f"{source}: no column {name!r}{_near(name, header)}; {has}")
        if header.count(name) > 1:
            raise InvalidInput(f"{source}: the header names {name!r} twice; rename one column")
    columns = _Columns(
        header=tuple(header),
        key=key,
        required=tuple(required),
        optional=tuple(optional),
        preemptions=tuple(name for name in dict.fromkeys(header) if _counts_preemptions(name)),
    )
    cells = [row[name] for row in rows for name in (key, *columns.numeric)]
    reading = _Reading(source, _decimal_comma(cells, source, delimiter), repeats)
    if by is None and (mixed := _mixed_by(columns, rows, reading)):
        values = ", ".join(dict.fromkeys(row[mixed] for row in rows))
        raise InvalidInput(
            f"{source}: its rows belong to several values of {mixed!r} ({values[:120]}), which are no one frontier; "
            f"give --by {mixed!r} for a frontier of each, or a file with one of them"
        )
    groups: dict[str | None, list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(rows, 1):
        groups.setdefault(None if by is None else row[by], []).append((number, row))
    return {value: _table(group, columns, reading) for value, group in groups.items()}


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table, by what they are read for. ``header``: all of them."""

    header: tuple[str, ...]
    key: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    preemptions: tuple[str, ...]

    @property
    def measured(self) -> tuple[str, ...]:
        """Columns whose values become readings of a point."""
        return (*self.required, *self.optional)

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns whose cells are read as numbers, each once."""
        return tuple(dict.fromkeys((*self.measured, *self.preemptions)))


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the cells are read. ``source``: the file, for messages; ``decimal_comma``: the file writes 1234,5."""

    source: str
    decimal_comma: bool
    repeats: bool


# Words in the name of a column whose values belong to different frontiers.
_APART = {
    "device", "gpu", "gpus", "accelerator", "hardware", "hw", "machine", "host", "model", "engine", "framework", "backend",
    "dtype", "precision", "quantization", "dataset", "workload",
}  # fmt: skip
# names of columns that count the devices behind a row
_COUNTS = re.compile(
    r"(tp|pp|dp|ep)(_size)?|(tensor|pipeline|data|expert)_parallel(_size)?|world_size|replicas|gpus|devices|nodes"
    r"|(num|n)_(gpus?|devices|nodes|replicas)|(gpu|device|node)_count"
)

_LONGEST_KEY = 500  # characters; it stands in every line about its point
_TIMES = {"latency", "ttft", "tpot", "itl", "e2e", "e2el"}  # words in the name of a column of latencies


def _mixed_by(columns: _Columns, rows: Sequence[Mapping[str, str]], reading: _Reading) -> str | None:
    """The column whose values split the rows into several groups; None if all rows are points of one frontier.

    It is a column of text with a name in ``_APART`` (device, engine, model, …), a count of devices that differs between
    rows of one key, or text that distinguishes rows of one key, such that no two rows of one value share a key.
    """
    named = [name for name in dict.fromkeys(columns.header) if _COUNTS.fullmatch(re.sub(r"\W", "_", name.lower()))]
    for name in named:
        pairs = {(row[columns.key], row[name]) for row in rows}
        if name not in (columns.key, *columns.numeric) and len(pairs) > len({key for key, _ in pairs}):
            return name
    texts = [
        name
        for name in dict.fromkeys(columns.header)
        if name not in (columns.key, *columns.numeric)
        and len({row[name] for row in rows}) > 1
        and not any(_reads_as_number(row[name], reading.decimal_comma) for row in rows)
    ]
    for name in texts:
        if set(re.findall(r"[a-z]+", name.lower())) & _APART:
            return name
    keys = [row[columns.key] for row in rows]
    if reading.repeats or len(set(keys)) == len(keys):
        return None
    splitting = (name for name in texts if len({(row[columns.key], row[name]) for row in rows}) == len(rows))
    return next((name for name in splitting if len({row[name] for row in rows}) < len(rows)), None)


def _reads_as_number(cell: str, comma: bool) -> bool:
    try:
        _number(cell, comma)
    except ValueError:
        return False
    return True


def _table(rows: Sequence[tuple[int, dict[str, str]]], columns: _Columns, reading: _Reading) -> Table:
    """The points of one group of rows, each with its number in the file."""
    dropped: list[Dropped] = []
    kept: dict[tuple[Key, int], list[dict[str, float]]] = {}
    first: dict[tuple[Key, int], int] = {}
    seen: dict[tuple[str, ...], int] = {}
    uncounted: list[str] = []
    name_of_key = columns.key
    keys = _keys([row[name_of_key] for _, row in rows], reading.decimal_comma)
    for (number, row), key in zip(rows, keys, strict=True):
        if row[name_of_key].casefold() in MISSING:
            dropped.append(Dropped(f"point {number}", f"no value in column {name_of_key!r}"))
            continue
        if len(row[name_of_key]) > _LONGEST_KEY:
            cell = shortened(row[name_of_key])
            raise InvalidInput(
                f"{reading.source}: point {number}: {cell!r} in column {name_of_key!r} has {len(row[name_of_key])} "
                f"characters, and may have {_LONGEST_KEY}; mend the cell"
            )
        try:
            values = _numbers(row, columns.numeric, reading.decimal_comma)
        except InvalidInput as error:
            place = f"point {number} ({name_of_key} {row[name_of_key] or 'missing'})"
            raise InvalidInput(f"{reading.source}: {place}: {error}") from None
        if lacking := [name for name in columns.required if name not in values]:
            dropped.append(
                Dropped(key, "; ".join(f"{_why_none(row[name], name)} in column {name!r}" for name in lacking))
            )
            continue
        counts = [values[name] for name in columns.preemptions if name in values]
        preempted = max(counts, default=None if columns.preemptions else 0.0)
        if preempted:
            dropped.append(Dropped(key, f"{preempted:g} preemption{'' if preempted == 1 else 's'}"))
            continue
        same = tuple(row.values())
        if same in seen and not reading.repeats:
            dropped.append(Dropped(key, f"the same row as point {seen[same]}"))
            continue
        if preempted is None:
            uncounted.append(str(key))
        seen[same] = number
        point = (key, 0 if reading.repeats else number)
        first.setdefault(point, number)
        kept.setdefault(point, []).append({name: values[name] for name in columns.measured if name in values})
    notes = []
    if uncounted:
        names = ", ".join(map(repr, columns.preemptions))
        notes.append(f"no reading of {names} at {name_of_key} {', '.join(uncounted[:8])}: kept")
    points = [replace(_point(point[0], group), row=first[point]) for point, group in kept.items()]
    return Table(points, dropped, columns.header, tuple(notes))


def _counts_preemptions(name: str) -> bool:
    """Whether a column of this name counts preemptions: num_preemptions, "Num Preemptions", vllm:preempted_requests."""
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
    return bool(words & _PREEMPTED) and words <= _PREEMPTED | _OF_A_COUNT


def _point(key: Key, group: Sequence[Mapping[str, float]]) -> Point:
    """One point from its repeated readings: their means, with 95 % t intervals for two or more readings."""
    from pytest_slmperf.frontier.points import mean_interval

    if len(group) == 1:
        return Point(key, dict(group[0]), {}, {name: [[value]] for name, value in group[0].items()})
    names = sorted({name for values in group for name in values})
    readings = {name: [values[name] for values in group if name in values] for name in names}
    intervals = {name: span for name, numbers in readings.items() if (span := mean_interval(numbers)) is not None}
    return Point(
        key=key,
        values={name: sum(numbers) / len(numbers) for name, numbers in readings.items()},
        intervals=intervals,
        launches={name: [[value] for value in numbers] for name, numbers in readings.items()},
    )


def _numbers(row: Mapping[str, str], names: Sequence[str], comma: bool) -> dict[str, float]:
    values: dict[str, float] = {}
    for name in names:
        cell = row[name]
        if cell.casefold() in MISSING or cell.casefold() in FAILED:
            continue
        try:
            value = _number(cell, comma)
        except ValueError:
            raise InvalidInput(
                f"{shortened(cell)!r} in column {name!r} is not a number; mend the cell, or leave it empty to drop the point"
            ) from None
        if abs(value) < MOST and (value > 0 or not _is_time(name)):  # False for NaN
            values[name] = value
    return values


def _is_time(name: str) -> bool:
    """Whether a column of this name holds a latency: one of 0 is what a benchmark writes where it measured none."""
    return bool(set(re.findall(r"[a-z]+\d*[a-z]*", name.lower().replace("_", " "))) & _TIMES)


def _why_none(cell: str, name: str) -> str:
    if cell.casefold() in MISSING:
        return "no value"
    return f"{shortened(cell)!r} is no {'time above 0' if _is_time(name) else 'finite value'}"


def _number(cell: str, comma: bool) -> float:
    """The number in a cell; ``comma``: the file writes 1234,5. ValueError for a cell that is not a number."""
    if comma:
        if _GROUPED_COMMA.fullmatch(cell):
            cell = cell.replace(".", "")
        return float(cell.replace(",", "."))
    return float(cell.replace(",", "") if "," in cell and _GROUPED.fullmatch(cell) else cell)


def _decimal_comma(cells: Sequence[str], source: str, delimiter: str) -> bool:
    """Whether commas are decimal commas in this file; InvalidInput if its cells are ambiguous or contradict each other."""
    odd = [cell for cell in cells if "," in cell]
    grouped = all(_GROUPED.fullmatch(cell) for cell in odd)
    decimal = all(_DECIMAL_COMMA.fullmatch(cell) or _GROUPED_COMMA.fullmatch(cell) for cell in odd)
    # Nobody writes decimal commas in a file whose cells are separated by commas; in other files 1,024 is ambiguous.
    if odd and grouped and decimal and delimiter != "," and not any("." in cell for cell in cells):
        raise InvalidInput(
            f"{source}: {odd[0]!r} may be {odd[0].replace(',', '')} or {odd[0].replace(',', '.')}; write numbers without "
            "thousands separators, or with a decimal point"
        )
    if not odd or grouped or not decimal:
        return False  # a cell that is not a number in either notation is reported by ``_numbers``
    if point := next(
        (cell for cell in cells if "." in cell and "," not in cell and _reads_as_number(cell, comma=False)), None
    ):
        raise InvalidInput(f"{source}: {odd[0]!r} has a decimal comma and {point!r} a decimal point; write all alike")
    return True


def _keys(cells: Sequence[str], comma: bool) -> list[Key]:
    """Keys as integers, else floats, else text: the same type for the whole column, so that keys can be ordered."""
    present = [cell for cell in cells if cell.casefold() not in MISSING]
    try:
        numbers = [_number(cell, comma) for cell in present]
    except ValueError:
        return list(cells)
    if not all(math.isfinite(number) for number in numbers):
        return list(cells)
    return [cell if cell.casefold() in MISSING else _whole(_number(cell, comma)) for cell in cells]


def _whole(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _near(name: str, header: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, header, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shortened(cell: str) -> str:
    return cell if len(cell) <= 40 else f"{cell[:39]}…"
