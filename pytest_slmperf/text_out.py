"""Text on its way out: one function for each place it goes to.

Names, messages and figures come from files, servers and other people's code, and may hold anything: what would steer a
terminal, command a CI system, make markup, or run in a spreadsheet. Every text passes one of these functions before it is
printed, exported or handed to another system. Each may be applied twice: the second time changes nothing.

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
MOST_COLUMNS = 4_000  # of one line of a message; what is longer is nobody's sentence
CUT = " … "

_AZURE = re.compile(r"##(?=\[)")  # "##[error]" commands wherever it stands in a line
_JOINER = "\N{ZERO WIDTH JOINER}"  # joins emoji
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


# --- terminal and log --------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """A name or a phrase within a line: control characters written as escapes, and no command of a CI system in it."""
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
    """A finished row of terminal or log, colours included: no workflow command, whatever its first word is.

    A runner takes a line for a command that begins with two colons after white space.
    """
    start = len(row) - len(row.lstrip())
    return _AZURE.sub(r"#\\#", f"{row[:start]}\\{row[start:]}" if row.startswith("::", start) else row)


def message(text: str, lines: int = MOST_LINES, columns: int = MOST_COLUMNS) -> str:
    """A text of several lines, such as an error or the end of a log, in at most so many lines and columns each."""
    rows = [printable(row.rstrip("\r")) for row in text.split("\n")]
    if len(rows) > lines:
        rows = [*rows[: lines // 2], f"… {len(rows) - lines + 1:,} lines left out", *rows[-(lines - lines // 2 - 1) :]]
    return "\n".join(log_line(shortened(row, columns)) for row in rows)


def shortened(text: str, most: int) -> str:
    """The text in at most so many characters; its middle is left out where it is longer."""
    if len(text) <= most:
        return text
    kept = most - len(CUT)
    return text[: kept - kept // 2] + CUT + text[len(text) - kept // 2 :]


def some(names: Iterable[str], most: int = 10) -> str:
    """The first names of a list that may have any length, and how many more there are."""
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

_SPLIT = "<!-- -->"  # GitHub looks for names, numbers and addresses in runs of plain text, which a comment ends
_MARKUP = str.maketrans(
    {character: "\\" + character for character in "\\`*_{}[]|~"}
    | {character: character + _SPLIT for character in "@#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
_LINKED = re.compile(r"://|\bwww(?=\.)|\b(?:mailto|xmpp)(?=:)|\bGH(?=-\d)", re.IGNORECASE)


def markdown(text: str) -> str:
    """Text that Markdown and the HTML in it show unchanged: no markup, mention, reference, link or table cell."""
    parts = _LINKED.split(shown := printable(text))
    marks = _LINKED.findall(shown)
    broken = [f":{_SPLIT}//" if mark == "://" else mark + _SPLIT for mark in marks]
    return parts[0].translate(_MARKUP) + "".join(
        mark + part.translate(_MARKUP) for mark, part in zip(broken, parts[1:], strict=True)
    )


def markup(text: str) -> str:
    """Text within HTML or SVG, between tags or in a quoted attribute."""
    return html.escape(printable(text))


# --- CSV, JSON ---------------------------------------------------------------------------------------------------------

_FORMULA = re.compile(
    r"\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}]"
)


def csv_cell(value: object) -> object:
    """A cell as it may stand in a table: text that a spreadsheet would run as a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    shown = "\n".join(log_line(printable(row)) for row in value.split("\n"))
    return f"'{shown}" if _FORMULA.match(shown) or shown.lstrip().startswith("::") else shown


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV. None is an empty cell; a cell with a semicolon is quoted, which other countries' programs split at."""
    text = io.StringIO(newline="")
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=rule) for rule in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows:
        cells = [csv_cell(value) for value in row]
        foreign = any(isinstance(cell, str) and ";" in cell for cell in cells)
        (quoted if foreign else plain).writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


_PASSING = re.compile(r"[^ -~\n]|##(?=\[)")


def json_text(value: Any, indent: int | None = 1, *, ascii_only: bool = False, sort: bool = False) -> str:
    """JSON whose strings steer no terminal: what ``printable`` would escape is escaped here by JSON's own rules.

    Half a character, which UTF-8 cannot hold, becomes a question mark. ValueError for NaN and infinity, which JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False, sort_keys=sort)
    return _PASSING.sub(lambda match: _escaped(match[0]), text)


def _escaped(part: str) -> str:
    if part == "##":
        return "#\\u0023"
    if "\ud800" <= part <= "\udfff":
        return "?"
    return part if _shown(part) == part else json.dumps(part)[1:-1]
