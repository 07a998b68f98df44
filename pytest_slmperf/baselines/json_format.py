"""JSON of baselines as people read it in a diff: sorted keys, one launch's rounds on one line, six digits."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from pytest_slmperf.model.results_file import indented

_DIGITS = 6


def render(value: Any) -> bytes:
    """A struct as indented JSON with a newline at the end. ValueError for NaN and infinity, which JSON has not."""
    return (indented(rounded(msgspec.to_builtins(value)), "  ", sort=True) + "\n").encode("utf-8", "replace")


def line(value: Any) -> bytes:
    """A struct as JSON on one line, for files that are appended to."""
    return (_flat(rounded(msgspec.to_builtins(value))) + "\n").encode("utf-8", "replace")


def clean(text: str) -> str:
    """``text`` as it comes back from a file: what UTF-8 cannot hold becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def plain(text: str, most: int = 80) -> str:
    """``text`` from a file as it may stand in a message: one line, no control characters, at most so long."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


def rounded(value: Any) -> Any:
    """Floats to six significant digits: more is noise in a measurement, and makes diffs unreadable."""
    if isinstance(value, float):
        short = float(f"{value:.{_DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value
