"""Anyone's table of points: from CSV text to points, with what was left out and why."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.points import Key, Point

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "—", "?"})
PREEMPTIONS = ("preemptions", "num_preemptions", "preemption_count")


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


def parse_rows(text: str, source: str) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of CSV text (comma, semicolon or tab). InvalidInput names ``source`` and the line at fault."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidInput(f"{source}: the file is empty; it needs a header line and one line per point")
    head = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header([cell.strip() for cell in cells], source)
                continue
            if len(cells) > len(header):
                raise InvalidInput(
                    f"{source}: line {reader.line_num} has {len(cells)} cells, the header has {len(header)}; "
                    "is a cell with a comma in it unquoted?"
                )
            cells += [""] * (len(header) - len(cells))
            rows.append({name: cell.strip() for name, cell in zip(header, cells, strict=True)})
    except csv.Error as error:
        raise InvalidInput(f"{source}: line {reader.line_num}: {error}") from error
    if not rows:
        raise InvalidInput(f"{source}: there is a header and no point below it")
    return header, rows


def read_points(
    text: str, source: str, *, key: str, required: Sequence[str], optional: Sequence[str] = (), repeats: bool = False
) -> Table:
    """The points of a CSV table.

    key:      the column whose value names a point
    required: columns without which a point cannot take part: a missing cell drops the row, with the reason
    optional: columns read where they hold a number
    repeats:  rows of one key are repeated measurements of one point (they become its rounds); otherwise every row is a
              point of its own

    Rows with preemptions are dropped (they show an overfull KV cache, not the batch size), as are exact duplicates.
    InvalidInput, naming the line and the column, for absent columns and for cells that are neither numbers nor missing.
    """
    header, rows = parse_rows(text, source)
    for name in (key, *required, *optional):
        if name not in header:
            raise InvalidInput(f"{source}: no column {name!r}{_near(name, header)}; it has: {', '.join(header)}")
    preempted = next((name for name in PREEMPTIONS if name in header), None)
    dropped: list[Dropped] = []
    kept: dict[tuple[Key, int], list[dict[str, float]]] = {}
    seen: dict[tuple[str, ...], int] = {}
    keys = _keys([row[key] for row in rows])
    for number, (row, at) in enumerate(zip(rows, keys, strict=True), 1):
        where = f"{source}: point {number} ({key} {row[key] or 'missing'})"
        if not row[key]:
            dropped.append(Dropped(f"point {number}", f"no value in column {key!r}"))
            continue
        values = _numbers(row, (*required, *optional), where)
        if lacking := [name for name in required if name not in values]:
            dropped.append(Dropped(at, f"no value in column {', '.join(map(repr, lacking))}"))
            continue
        count = _numbers(row, (preempted,), where).get(preempted, 0.0) if preempted else 0.0
        if count > 0:
            dropped.append(Dropped(at, f"{count:g} preemption{'' if count == 1 else 's'}"))
            continue
        same = tuple(row.values())
        if same in seen and not repeats:
            dropped.append(Dropped(at, f"the same row as point {seen[same]}"))
            continue
        seen[same] = number
        kept.setdefault((at, 0 if repeats else number), []).append(values)
    return Table([_point(at, group) for (at, _), group in kept.items()], dropped, tuple(header))


def _point(key: Key, group: Sequence[Mapping[str, float]]) -> Point:
    """One point of its repeated readings: means, and their 95 % t intervals where there are two or more."""
    from pytest_slmperf.frontier.intervals import mean_interval

    names = sorted({name for values in group for name in values})
    readings = {name: [values[name] for values in group if name in values] for name in names}
    intervals = {name: span for name, found in readings.items() if (span := mean_interval(found)) is not None}
    return Point(
        key=key,
        values={name: sum(found) / len(found) for name, found in readings.items()},
        intervals=intervals,
        launches={name: [[value] for value in found] for name, found in readings.items()},
    )


def _header(cells: list[str], source: str) -> list[str]:
    twice = {name for name in cells if cells.count(name) > 1}
    if twice:
        raise InvalidInput(f"{source}: the header names {', '.join(sorted(map(repr, twice)))} twice; rename one column")
    return cells


def _numbers(row: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for name in names:
        cell = row[name]
        if cell.casefold() in MISSING:
            continue
        try:
            value = float(cell)
        except ValueError:
            raise InvalidInput(
                f"{where}: {cell!r} in column {name!r} is not a number; mend the cell, or leave it empty to drop the point"
            ) from None
        if math.isfinite(value):
            values[name] = value
    return values


def _keys(cells: Sequence[str]) -> list[Key]:
    """Keys as whole numbers, else numbers, else text: one kind for the whole column, so that keys can be ordered."""
    try:
        numbers = [float(cell) for cell in cells if cell]
    except ValueError:
        return list(cells)
    if not all(math.isfinite(number) for number in numbers):
        return list(cells)
    return [_whole(float(cell)) if cell else cell for cell in cells]


def _whole(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _near(name: str, header: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, header, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
