"""Checks of values that users give: what counts as a number, and near names for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

# What counts as a number. Python's True is an int; a setting or a field of a file that holds it is no number.


def is_whole(value: object) -> TypeGuard[int]:
    """Whether the value is an int other than True and False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether the value is an int or a float other than True and False; infinity and NaN are floats."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# Near names for a name that is not known: what the user may have meant.


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """At most ``count`` of the known names, the most similar first; empty where none is similar."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=count)


def stopped(pid: int) -> bool:
    """Whether the process is stopped, by SIGSTOP, Ctrl-Z or a debugger (Linux)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False
