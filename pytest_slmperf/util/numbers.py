"""What counts as a number. Python's True is an int; a setting or a field of a file that holds it is no number."""

from __future__ import annotations

from typing import TypeGuard


def is_whole(value: object) -> TypeGuard[int]:
    """Whether the value is an int other than True and False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether the value is an int or a float other than True and False; infinity and NaN are floats."""
    return isinstance(value, int | float) and not isinstance(value, bool)
