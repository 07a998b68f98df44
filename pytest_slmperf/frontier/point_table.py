"""Anyone's table of points: from CSV text to points, with what was left out and why."""

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
MOST = 1e100  # beyond it nothing is a measurement, and squares and products would overflow
_PREEMPTED = {"preemption", "preemptions", "preempted"}
# what may stand beside it in the name of a count; preemption_mode and preemption_time_ms are none
_OF_A_COUNT = {
    "num", "number", "n", "of", "total", "count", "counts", "sum", "events", "requests", "request", "reqs", "req", "seqs",
    "sequences", "vllm", "engine",
}  # fmt: skip
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")  # 1,234.5
_GROUPED_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")  # 1.234,5
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")  # 1234,5


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that takes no part, and why."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a points file that can be used, and those that cannot."""

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
    """The points of a CSV table, by the value of the column ``by`` (in the order of the file); None: all in one table.

    key:      the column whose value names a point
    required: columns without which a point cannot take part: a missing cell drops the row, with the reason
    optional: columns read where they hold a number
    repeats:  rows of one key are repeated measurements of one point (they become its rounds); otherwise every row is a
              point of its own

    Rows with preemptions are dropped (they show an overfull KV cache, not the batch size), as are exact duplicates, rows
    whose cell names a failure (OOM, timeout, …) and readings that are not finite or beyond all measure.  Numbers may
    have thousands separators (1,234.5) or a decimal comma (1234,5), one of the two in a file.  InvalidInput, naming the
    line and the column, for absent or ambiguous columns and for cells that are neither numbers nor missing, and where the
    rows belong to several devices, engines or models and ``by`` is None.
    """
    header, rows, delimiter = parse_rows(text, source)
    for name in (key, *required, *optional, *([] if by is None else [by])):
        if name not in header:
            option = "; --key names the batch column" if name == key else ""
            has = f"it has: {', '.join(header)}{option}"
            raise InvalidInput(f"{source}: no column {name!r}{_near(name, header)}; {has}")
        if header.count(name) > 1:
            raise InvalidInput(f"{source}: the header names {name!r} twice; rename one column")
    preempted = [name for name in dict.fromkeys(header) if _counts_preemptions(name)]
    wanted = [*required, *optional]
    read = list(dict.fromkeys([*wanted, *preempted]))
    comma = _decimal_comma([row[name] for row in rows for name in (key, *read)], source, delimiter)
    if by is None and (mixed := _mixed_by(header, rows, key, [*read], comma, repeats)):
        values = ", ".join(dict.fromkeys(row[mixed] for row in rows))
        raise InvalidInput(
            f"{source}: its rows belong to several values of {mixed!r} ({values[:120]}), which are no one frontier; "
            f"give --by {mixed!r} for a frontier of each, or a file with one of them"
        )
    groups: dict[str | None, list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(rows, 1):
        groups.setdefault(None if by is None else row[by], []).append((number, row))
    return {
        value: _table(group, source, header, key, required, wanted, preempted, read, comma, repeats)
        for value, group in groups.items()
    }


# Names of columns whose values are never points of one frontier.
_APART = {
    "device",
    "gpu",
    "gpus",
    "accelerator",
    "hardware",
    "machine",
    "host",
    "model",
    "engine",
    "framework",
    "backend",
}


def _mixed_by(
    header: Sequence[str], rows: Sequence[Mapping[str, str]], key: str, read: Sequence[str], comma: bool, repeats: bool
) -> str | None:
    """The column whose values part the rows into several groups; None where all rows are points of one frontier.

    That is a column of text that is named after what is compared (device, engine, model, …), or whose values tell rows with
    the same key apart, where no two rows of one value share a key.
    """
    texts = [
        name
        for name in dict.fromkeys(header)
        if name not in (key, *read)
        and len({row[name] for row in rows}) > 1
        and not any(_reads_as_number(row[name], comma) for row in rows)
    ]
    for name in texts:
        if set(re.findall(r"[a-z]+", name.lower())) & _APART:
            return name
    keys = [row[key] for row in rows]
    if repeats or len(set(keys)) == len(keys):
        return None
    parting = (name for name in texts if len({(row[key], row[name]) for row in rows}) == len(rows))
    return next((name for name in parting if len({row[name] for row in rows}) < len(rows)), None)


def _reads_as_number(cell: str, comma: bool) -> bool:
    try:
        _number(cell, comma)
    except ValueError:
        return False
    return True


def _table(
    rows: Sequence[tuple[int, dict[str, str]]],
    source: str,
    header: Sequence[str],
    key: str,
    required: Sequence[str],
    wanted: Sequence[str],
    preempted: Sequence[str],
    read: Sequence[str],
    comma: bool,
    repeats: bool,
) -> Table:
    """The points of one group of rows, each with its number in the file."""
    dropped: list[Dropped] = []
    kept: dict[tuple[Key, int], list[dict[str, float]]] = {}
    first: dict[tuple[Key, int], int] = {}
    seen: dict[tuple[str, ...], int] = {}
    uncounted: list[str] = []
    keys = _keys([row[key] for _, row in rows], comma)
    for (number, row), at in zip(rows, keys, strict=True):
        if row[key].casefold() in MISSING:
            dropped.append(Dropped(f"point {number}", f"no value in column {key!r}"))
            continue
        try:
            values = _numbers(row, read, comma)
        except InvalidInput as error:
            raise InvalidInput(f"{source}: point {number} ({key} {row[key] or 'missing'}): {error}") from None
        if lacking := [name for name in required if name not in values]:
            dropped.append(Dropped(at, "; ".join(f"{_why_none(row[name])} in column {name!r}" for name in lacking)))
            continue
        count = max((values[name] for name in preempted if name in values), default=None if preempted else 0.0)
        if count:
            dropped.append(Dropped(at, f"{count:g} preemption{'' if count == 1 else 's'}"))
            continue
        same = tuple(row.values())
        if same in seen and not repeats:
            dropped.append(Dropped(at, f"the same row as point {seen[same]}"))
            continue
        if count is None:
            uncounted.append(str(at))
        seen[same] = number
        place = (at, 0 if repeats else number)
        first.setdefault(place, number)
        kept.setdefault(place, []).append({name: values[name] for name in wanted if name in values})
    notes = (
        [f"no reading of {', '.join(map(repr, preempted))} at {key} {', '.join(uncounted[:8])}: kept"]
        if uncounted
        else []
    )
    points = [replace(_point(place[0], group), row=first[place]) for place, group in kept.items()]
    return Table(points, dropped, tuple(header), tuple(notes))


def _counts_preemptions(name: str) -> bool:
    """Whether a column counts preemptions, whoever named it: num_preemptions, "Num Preemptions", vllm:preempted_requests."""
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
    return bool(words & _PREEMPTED) and words <= _PREEMPTED | _OF_A_COUNT


def _point(key: Key, group: Sequence[Mapping[str, float]]) -> Point:
    """One point of its repeated readings: means, and their 95 % t intervals where there are two or more."""
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
                f"{cell!r} in column {name!r} is not a number; mend the cell, or leave it empty to drop the point"
            ) from None
        if abs(value) < MOST:  # NaN is not, either
            values[name] = value
    return values


def _why_none(cell: str) -> str:
    return "no value" if cell.casefold() in MISSING else f"{cell!r} is no finite value"


def _number(cell: str, comma: bool) -> float:
    """The number in a cell; ``comma``: the file writes 1234,5. ValueError where it is none."""
    if comma:
        if _GROUPED_COMMA.fullmatch(cell):
            cell = cell.replace(".", "")
        return float(cell.replace(",", "."))
    return float(cell.replace(",", "") if "," in cell and _GROUPED.fullmatch(cell) else cell)


def _decimal_comma(cells: Sequence[str], source: str, delimiter: str) -> bool:
    """Whether the file's commas are decimal ones; InvalidInput where its cells allow both readings or contradict."""
    odd = [cell for cell in cells if "," in cell]
    grouped = all(_GROUPED.fullmatch(cell) for cell in odd)
    decimal = all(_DECIMAL_COMMA.fullmatch(cell) or _GROUPED_COMMA.fullmatch(cell) for cell in odd)
    # Where the comma parts the cells, nobody writes decimals with it; elsewhere 1,024 alone could be either.
    if odd and grouped and decimal and delimiter != "," and not any("." in cell for cell in cells):
        raise InvalidInput(
            f"{source}: {odd[0]!r} may be {odd[0].replace(',', '')} or {odd[0].replace(',', '.')}; write numbers without "
            "thousands separators, or with a decimal point"
        )
    if not odd or grouped or not decimal:
        return False  # where neither fits, the cell itself is named later
    if point := next(
        (cell for cell in cells if "." in cell and "," not in cell and _reads_as_number(cell, comma=False)), None
    ):
        raise InvalidInput(f"{source}: {odd[0]!r} has a decimal comma and {point!r} a decimal point; write all alike")
    return True


def _keys(cells: Sequence[str], comma: bool) -> list[Key]:
    """Keys as whole numbers, else numbers, else text: one kind for the whole column, so that keys can be ordered."""
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
