"""Names and lines as a reader sees them: the same wording in terminal, Markdown and HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from pytest_slmperf.metrics.latency import LATENCIES
from pytest_slmperf.metrics.registry import known
from pytest_slmperf.model.difference import Difference
from pytest_slmperf.util.formatting import number

ELLIPSIS = "…"


def metric_label(name: str) -> str:
    """A metric's name for a reader: ``ttft_p99`` → ``TTFT p99``, and that of a latency's samples: ``ttft`` → ``TTFT``."""
    metric = known(name)
    if metric is not None:
        return metric.label
    name, at, point = name.partition("@")
    if at:
        return f"{metric_label(name)} at {point}"
    base, _, statistic = name.partition("_")
    if base in LATENCIES:
        return f"{LATENCIES[base].label} {statistic}".strip()
    return name.replace("_", " ")


def direction_word(change: float | None, better: str) -> str:
    """``worse``, ``better`` or nothing, by the metric's direction."""
    if not change or better == "none":
        return ""
    return "worse" if (change < 0) == (better == "higher") else "better"


def printable(text: str) -> str:
    """The text on one line, control characters written as escapes: names from outside may hold anything."""
    return "".join(
        character
        if character == " " or not unicodedata.category(character).startswith(("C", "Z"))
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character) or (
        character
        if character == "\u200d"  # joins emoji
        else character.encode("unicode_escape", "backslashreplace").decode()
    )


def width_of(text: str) -> int:
    """Terminal columns that a text takes: wide characters two, combining ones none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(characters: Iterable[str], columns: int) -> int:
    """How many of the first characters fit into ``columns``."""
    used = 0
    for count, character in enumerate(characters):
        used += _columns(character)
        if used > columns:
            return count
    return -1  # all of them


def elide(text: str, columns: int, keep: str = "end") -> str:
    """The text cut to ``columns`` with an ellipsis; ``keep`` says which end stays: "start", "end" or "both"."""
    if width_of(text) <= columns:
        return text
    if keep == "both":
        head = text[: _fitting(text, columns // 2)]
        return head + elide(text[len(head) :], columns - width_of(head))
    if keep == "end":
        return ELLIPSIS + text[len(text) - _fitting(reversed(text), columns - 1) :]
    return text[: _fitting(text, columns - 1)] + ELLIPSIS


PERCENT, GLUED = re.compile(r"(?<=\d) %"), "\N{NO-BREAK SPACE}%"


def wrap(text: str, columns: int, indent: str = "  ") -> list[str]:
    """The text in rows of at most ``columns``, all but the first indented; a word that is too long for a row is cut.

    A figure and its percent sign stay in one row.
    """
    text = PERCENT.sub(GLUED, text)
    words = text.lstrip(" ").split(" ")
    rows, row = [], " " * (len(text) - len(text.lstrip(" ")))
    used = len(row)
    for place, word in enumerate(words):
        width = width_of(word)
        if place and used + 1 + width > columns:
            rows.append(row)
            row, used = indent, width_of(indent)
        elif place:
            row, used = row + " ", used + 1
        if used + width > columns:
            *full, row = _cut(word, row, indent, columns)
            rows += full
            used = width_of(row)
        else:
            row, used = row + word, used + width
    return [each.replace(GLUED, " %") for each in (*rows, row)]


def _cut(word: str, start: str, indent: str, columns: int) -> list[str]:
    """A word too long for a row, in rows: the first begins with ``start``, the others with ``indent``."""
    rows, begin = [], 0
    used, least = width_of(start), width_of(indent)
    for place, character in enumerate(word):
        width = _columns(character)
        if used + width > columns and (place > begin or used > least):
            rows.append(start + word[begin:place])
            start, begin, used = indent, place, least
        used += width
    return [*rows, start + word[begin:]]


def show(value: Any) -> str:
    """Any JSON value as short text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):  # a setting, not a reading: as short as it was written
        return f"{value:.4g}" if 1e-4 <= abs(value) < 1000 else number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(show(item) for item in value)
    return str(value)


def difference_text(difference: Difference) -> str:
    """One thing that changed: ``engine version 0.31 → 0.32``, ``slowdown none → 0.3``."""
    return f"{difference.what} {show(difference.baseline)} → {show(difference.candidate)}"
