"""Names and lines as a reader sees them: the same wording in terminal, Markdown and HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.metrics.latency import LATENCIES
from pytest_slmperf.metrics.registry import known
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
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def elide(text: str, columns: int, keep: str = "end") -> str:
    """The text cut to so many columns with an ellipsis; ``keep`` says which end stays: "start", "end" or "both"."""
    if width_of(text) <= columns:
        return text
    if keep == "both":
        head = ""
        while width_of(head + text[len(head)]) <= columns // 2:
            head += text[len(head)]
        return head + elide(text[len(head) :], columns - width_of(head))
    while text and width_of(text) > columns - 1:
        text = text[1:] if keep == "end" else text[:-1]
    return ELLIPSIS + text if keep == "end" else text + ELLIPSIS


PERCENT, GLUED = re.compile(r"(?<=\d) %"), "\N{NO-BREAK SPACE}%"


def wrap(text: str, columns: int, indent: str = "  ") -> list[str]:
    """The text in rows of at most so many terminal columns, all but the first indented; a word too long for one is cut.

    A figure and its percent sign stay in one row.
    """
    text = PERCENT.sub(GLUED, text)
    words = text.lstrip(" ").split(" ")
    rows, row, empty = [], " " * (len(text) - len(text.lstrip(" "))), True
    for word in words:
        joined = row + word if empty else f"{row} {word}"
        if not empty and width_of(joined) > columns:
            rows.append(row)
            joined = indent + word
        while width_of(joined) > columns:
            fits = next(place for place in range(len(joined), 0, -1) if width_of(joined[:place]) <= columns)
            rows.append(joined[:fits])
            joined = indent + joined[fits:]
        row, empty = joined, False
    return [one.replace(GLUED, " %") for one in (*rows, row)]


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


def difference_text(row: Mapping[str, Any]) -> str:
    """One thing that changed: ``engine version 0.31 → 0.32``, ``slowdown none → 0.3``."""
    return f"{row.get('what')} {show(row.get('baseline'))} → {show(row.get('candidate'))}"
