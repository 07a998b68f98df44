"""Records whose every text is hostile, and what no output may hold whatever it is made from."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import msgspec

# What each begins with decides what it could do: a runner's command, a spreadsheet's formula, a terminal's sequence.
BEGINNINGS = ("::error::owned ", "=1+1|<script>owned ", "##[error]owned \x1b[31m\u202e@owned ")
REST = (
    "\n::error::owned\r\n  ::set-output name=owned::1\x0b::warning::owned\x85::add-mask::owned\u2028::debug::owned"
    "\x1b]0;owned\x07\x9b2J\x7f\t##[group]owned =1+1 <script>owned</script> https://owned.example/a?b www.owned.example "
    "@owned #1 [owned](https://owned.example) | ` \ud800"
)


def made_hostile(record: msgspec.Struct, beginning: str, keep: tuple[str, ...] = ()) -> Any:
    """The record with every text replaced that may hold anything: ``beginning``, its place, and the rest of the mischief.

    Texts that the record's type restricts (a direction, a verdict) stay, and the fields named in ``keep``.
    """
    plain, kind = msgspec.to_builtins(record), type(record)
    fixed: dict[str, bool] = {}

    def usable(put: Callable[[str], None], old: str, place: str) -> bool:
        """Whether the record still has its type with another text at that place."""
        put("another")
        try:
            msgspec.convert(plain, kind)
        except (msgspec.ValidationError, ValueError):
            return False
        finally:
            put(old)
        return True

    def walk(value: Any, place: str, number: str) -> None:
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            here = f"{place}.{key if isinstance(value, dict) else '*'}"
            if isinstance(item, str) and key not in keep:

                def put(text: str, key: Any = key) -> None:
                    value[key] = text

                if here not in fixed:
                    fixed[here] = not usable(put, item, here)
                if not fixed[here]:
                    put(f"{beginning}{number}.{key}{REST}")
            elif isinstance(item, dict | list):
                walk(item, here, f"{number}.{key}")

    walk(plain, "", "")
    return msgspec.convert(plain, kind)


def acts(text: str) -> list[str]:
    """What in a text would steer a terminal or command a CI system; empty where it is inert."""
    allowed = ("\n", " ", "\u200d", "\N{NO-BREAK SPACE}")
    wrong = [
        f"character {character!r}"
        for character in set(text)
        if character not in allowed and unicodedata.category(character).startswith(("C", "Z"))
    ]
    return wrong + [line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line]
