"""Text for a terminal or log whose encoding lacks characters that this package writes: plainer ones, never an error."""

from __future__ import annotations

import codecs
import io
import json
from typing import Any

HANDLER = "slmperf.plain"  # for the ``errors`` of a stream
_PLAIN = {
    "…": "...", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "⁻": "-", "±": "+-", "×": "x", "÷": "/", "·": ".",
    "≤": "<=", "≥": ">=", "≠": "!", "▼": "v", "▲": "^", "◀": "<", "✗": "x", "“": "'", "”": "'", "’": "'", "µ": "u",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " ",
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
}  # fmt: skip


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign) or json.dumps(sign)[1:-1] for sign in missing), error.end


codecs.register_error(HANDLER, _plainer)


def soften(*streams: Any) -> None:
    """Let standard streams replace signs that their encoding lacks by plainer signs; other streams stay as they are."""
    for stream in streams:
        # "surrogateescape": what Python takes in the locale C, where it encodes no sign beyond ASCII
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=HANDLER)


def fit(text: str, encoding: str | None) -> str:
    """The text as a stream of this encoding can show it; ``None``: an unstated encoding, which takes every character."""
    return text if encoding is None else text.encode(encoding, HANDLER).decode(encoding)


def table(text: str, encoding: str | None) -> str:
    """``fit`` for text in columns: a cut name ends in one character, as wide as the ellipsis it had."""
    plain = fit("…", encoding) != "…"
    return fit(text.replace("…", "~") if plain else text, encoding)


def is_unicode(encoding: str | None) -> bool:
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")
