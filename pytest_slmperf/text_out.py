"""Output of text: one function for each destination.

Names, messages and figures come from files, servers and other people's code, and may contain anything: text that controls a
terminal, commands of a CI system, markup, or formulas of a spreadsheet. Every text passes through one of these functions
before it is printed, exported or passed to another system.

Standard library only, and nothing of this package: the errors use it.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MOST_LINES = 60  # of a message; an engine's log has 20
MOST_COLUMNS = 4_000  # of one line of a message, longer than any sentence
CUT = " … "

_AZURE = re.compile(r"##(?=\[)")  # "##[error]" is a command at any place in a line
_JOINER = "\N{ZERO WIDTH JOINER}"  # joins emoji
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


# --- terminal and log --------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """A name or a phrase within a line, with escapes for control characters and without commands of a CI system."""
    if text.isascii() and text.isprintable():
        shown = text
    else:
        shown = "".join(map(_shown, text))
    return _AZURE.sub(r"#\\#", shown)


def _shown(character: str) -> str:
    if character in (" ", _JOINER) or not unicodedata.category(character).startswith(("C", "Z")):
        return character
    return _ESCAPES.get(character) or character.encode("unicode_escape", "backslashreplace").decode()


def log_line(row: str) -> str:
    """A finished row for terminal or log, including colours, that is not a workflow command.

    For a runner, a line is a command if it begins with two colons after white space.
    """
    start = len(row) - len(row.lstrip())
    return _AZURE.sub(r"#\\#", f"{row[:start]}\\{row[start:]}" if row.startswith("::", start) else row)


def message(text: str, lines: int = MOST_LINES, columns: int = MOST_COLUMNS) -> str:
    """A text of several lines, such as an error or the end of a log, in at most ``lines`` lines of ``columns`` columns."""
    rows = [printable(row.rstrip("\r")) for row in text.split("\n")]
    if len(rows) > lines:
        rows = [*rows[: lines // 2], f"… {len(rows) - lines + 1:,} lines left out", *rows[-(lines - lines // 2 - 1) :]]
    return "\n".join(log_line(shortened(row, columns)) for row in rows)


def shortened(text: str, most: int) -> str:
    """The text in at most ``most`` characters; the middle of a longer text is left out."""
    if len(text) <= most:
        return text
    kept = most - len(CUT)
    return text[: kept - kept // 2] + CUT + text[len(text) - kept // 2 :]


def some(names: Iterable[str], most: int = 10) -> str:
    """The first ``most`` names of a list, and the number of further names."""
    shown = list(names)
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shortened(name, 120) for name in shown[:most]) + more


# --- CI systems --------------------------------------------------------------------------------------------------------


def workflow_command(level: str, text: str, properties: Mapping[str, str]) -> str:
    """A workflow command of GitHub, ``::error file=…,title=…::text``, on one line."""
    given = ",".join(
        f"{name}={_data(printable(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in properties.items()
    )
    return f"::{level} {given}::{_data(printable(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


# --- Markdown, HTML ----------------------------------------------------------------------------------------------------

_SPLIT = "<!-- -->"  # GitHub finds names, numbers and addresses in runs of plain text, which a comment interrupts
_MARKUP = str.maketrans(
    {character: "\\" + character for character in "\\`*{}[]|~"}
    | {character: character + _SPLIT for character in "@#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # between letters and digits (output_throughput) it is none
_LINKED = re.compile(r"://|\bwww(?=\.)|\b(?:mailto|xmpp)(?=:)|\bGH(?=-\d)", re.IGNORECASE)


def markdown(text: str) -> str:
    """Text that Markdown and the HTML in it show unchanged: no markup, mention, reference, link or table cell."""
    parts = _LINKED.split(shown := printable(text))
    marks = _LINKED.findall(shown)
    broken = [f":{_SPLIT}//" if mark == "://" else mark + _SPLIT for mark in marks]
    plain = [_EMPHASIS.sub(r"\\_", part.translate(_MARKUP)) for part in parts]
    return plain[0] + "".join(mark + part for mark, part in zip(broken, plain[1:], strict=True))


def markup(text: str) -> str:
    """Text within HTML or SVG, between tags or in a quoted attribute."""
    return html.escape(printable(text))


# --- CSV, JSON ---------------------------------------------------------------------------------------------------------

_FORMULA = re.compile(
    r"\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}]"
)


def csv_cell(value: object) -> object:
    """A cell for a table: an apostrophe precedes text that a spreadsheet would run as a formula."""
    if not isinstance(value, str):
        return value
    shown = "\n".join(log_line(printable(row)) for row in value.split("\n"))
    return f"'{shown}" if _FORMULA.match(shown) or shown.lstrip().startswith("::") else shown


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV. None is an empty cell; cells with a semicolon are quoted, since some programs split rows at it."""
    text = io.StringIO(newline="")
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=rule) for rule in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows:
        cells = [csv_cell(value) for value in row]
        foreign = any(isinstance(cell, str) and ";" in cell for cell in cells)
        (quoted if foreign else plain).writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


_PASSING = re.compile(r"[^ -~\n]|##(?=\[)")


def json_text(value: Any, indent: int | None = 1, *, ascii_only: bool = False, sort: bool = False) -> str:
    """JSON whose strings cannot control a terminal: characters that ``printable`` escapes are escaped by JSON's rules.

    Lone surrogates, which UTF-8 lacks, become question marks. ValueError for NaN and infinity, which JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False, sort_keys=sort)
    return _PASSING.sub(lambda match: _escaped(match[0]), text)


def _escaped(part: str) -> str:
    if part == "##":
        return "#\\u0023"
    if "\ud800" <= part <= "\udfff":
        return "?"
    return part if _shown(part) == part else json.dumps(part)[1:-1]
