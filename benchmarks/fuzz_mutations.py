"""Mutations of valid inputs: of values and names in JSON, of cells in tables, of bytes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DEEP = 400  # levels

VALUES: list[Any] = [
    None, True, False, 0, -0.0, 1, -1, 2, 1.5, -1.5, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400,
    5e-324, 1e-320, 1e-9, 1e18, 1e100, 1e308, -1e308, math.nan, math.inf, -math.inf,
    "", " ", "x", "0", "1", "-1", "1.5", "nan", "NaN", "inf", "null", "１２", "1,5", "1_000", "\x00", "\x1b[31mred", "\n",
    "a\nb", "\ud800", "\u202e", "\u2028", "é", "𝟙", "../../x", "/", "C:\\x", "a" * 5000, "<script>", "{{x}}", "%s%n", "::",
    "[1]", "main", "higher", "lower", "none", "ms", "s", "2026-11-30T00:00:00Z", "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00+23:59", [], [[]], [None], [1], [1, "a"], ["a"], [[1.0, 2.0]], [[1.0], []], [{}], {}, {"a": 1},
    {"": None}, {"1": {"2": [3]}},
]  # fmt: skip
TEXTS = [value for value in VALUES if isinstance(value, str)]
TOKENS = [
    b"", b"NaN", b"-Infinity", b"1e999", b"-0", b"0x10", b"01", b"1_0", b"9" * 400, b"1" + b"0" * 100_000, b'"', b"'", b"\\",
    b"\\u", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b"[" * DEEP, b'{"a":' * DEEP, b"[" * 50_000, b",", b":", b";",
    b"\t", b"\n", b"\r", b"\r\n", b"\n\n\n", b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80",
    b"\xe2\x80\xa8", b"null", b"true", b'"a":1,', b'{"schema_version":1}', b"<<<<<<< HEAD\n", b"=======\n",
    b">>>>>>> x\n", b"#", b"//", b"%", b"=1+1", b" " * 1000,
]  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A valid file. ``name``: its name when it is read."""

    name: str
    data: bytes


def mutated(seeds: Sequence[Seed], draw: random.Random) -> Seed:
    """A seed with one to four changes: of values and names in JSON, of cells in tables, of bytes."""
    seed = draw.choice(seeds)
    data = seed.data
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        change = draw.random()
        if change < 0.7 and seed.name.endswith((".json", ".jsonl")):
            data = changed_json(data, draw, seed.name.endswith(".jsonl"))
        elif change < 0.7 and seed.name.endswith(".csv"):
            data = changed_table(data, draw)
        else:
            data = changed_bytes(data, draw, draw.choice(seeds).data)
    if draw.random() < 0.01:
        data = data.decode("utf-8", "replace").encode(
            draw.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace"
        )
    return Seed(seed.name, data)


def changed_bytes(data: bytes, draw: random.Random, other: bytes) -> bytes:
    start = draw.randrange(len(data) + 1)
    end = min(len(data), start + draw.choice((1, 2, 8, 40, 400, 4000)))
    match draw.randrange(7):
        case 0:
            return data[:start] + bytes([draw.randrange(256)]) + data[start + 1 :]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data[:start]
        case 4:
            at = draw.randrange(len(other) + 1)
            return data[:start] + other[at : at + draw.choice((1, 8, 40, 400))] + data[end:]
        case 5:
            return (
                data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\x85", b"\n\n")))
                if draw.random() < 0.2
                else data + other
            )
        case _:
            return data[:start] + draw.choice(TOKENS) + data[draw.choice((start, end)) :]


def changed_json(data: bytes, draw: random.Random, lines: bool) -> bytes:
    """The document, or one of its lines, with a changed value or name; unchanged if it is not JSON any more."""
    rows = data.split(b"\n") if lines else [data]
    number = draw.randrange(len(rows))
    try:
        document = json.loads(rows[number])
    except (ValueError, RecursionError):
        return data
    twice = draw.random() < 0.03
    document = changed_value(document, draw, document)
    try:
        text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    except (ValueError, RecursionError):
        return data
    if twice and (at := text.find("{", draw.randrange(len(text)))) >= 0:
        name = next((part for part in text[at + 1 :].split('"')[1:2]), "x")
        text = f'{text[: at + 1]}"{name}": 1, {text[at + 1 :]}'
    rows[number] = text.encode("utf-8", "surrogatepass")
    return b"\n".join(rows)


def changed_value(value: Any, draw: random.Random, whole: Any) -> Any:
    """The value with a part of it, at any depth, replaced, dropped, renamed, repeated or scaled."""
    if isinstance(value, dict) and value and draw.random() < 0.93:
        name = draw.choice(list(value))
        match draw.randrange(14):
            case 0:
                return {key: kept for key, kept in value.items() if key != name}
            case 1:
                other = draw.choice((draw.choice(list(value)), draw.choice(TEXTS)))
                return {other if key == name else key: kept for key, kept in value.items()}
            case 2:
                return value | {draw.choice(TEXTS): draw.choice(VALUES)}
            case _:
                return value | {name: changed_value(value[name], draw, whole)}
    if isinstance(value, list) and value and draw.random() < 0.93:
        at = draw.randrange(len(value))
        match draw.randrange(12):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[: at + 1] + value[at:]
            case 2:
                return value[::-1]
            case _:
                return [*value[:at], changed_value(value[at], draw, whole), *value[at + 1 :]]
    if isinstance(value, int | float) and abs(value) < 1e300 and draw.random() < 0.5:
        return draw.choice((-value, value * 1e9, value / 1e9, value + 1, float(value), str(value), [value]))
    return somewhere(whole, draw) if draw.random() < 0.1 else draw.choice(VALUES)


def somewhere(value: Any, draw: random.Random) -> Any:
    """A random part of the document."""
    while isinstance(value, dict | list) and value and draw.random() < 0.8:
        value = draw.choice(list(value.values()) if isinstance(value, dict) else value)
    return value


def changed_table(data: bytes, draw: random.Random) -> bytes:
    rows = [row.split(b",") for row in data.split(b"\n")]
    cells = draw.choice(rows)
    at = draw.randrange(len(cells))
    match draw.randrange(9):
        case 0:
            rows.remove(cells)
        case 1:
            rows.insert(draw.randrange(len(rows)), list(cells))
        case 2:
            del cells[at]
        case 3:
            cells.insert(at, cells[at])
        case 4:
            for row in rows:
                del row[at : at + 1]
        case 5:
            other = draw.choice(rows)
            cells[at] = draw.choice(other) if other else b""
        case _:
            cells[at] = str(draw.choice(VALUES)).encode("utf-8", "surrogatepass")
    delimiter = draw.choice((b";", b"\t")) if draw.random() < 0.03 else b","
    return b"\n".join(delimiter.join(row) for row in rows)
