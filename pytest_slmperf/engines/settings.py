"""Checks of engine settings: unknown names and wrong kinds of value are refused with the nearest names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import Scalar
from pytest_slmperf.util.numbers import is_number
from pytest_slmperf.util.suggest import near_names


def unknown_setting(engine: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a setting that this engine does not have."""
    names = sorted(known)
    near = near_names(name, names)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:12])}…"
    return InvalidInput(f"{engine} engine has no setting {name!r}; {hint}")


def check_settings(
    engine: str, given: Mapping[str, Any], defaults: Mapping[str, Scalar], numbers: Collection[str] = ()
) -> dict[str, Scalar]:
    """The given settings, without those equal to their default, so that one configuration has one specification.

    InvalidInput for a name that is not among ``defaults``, for text in the place of a number or the other way round, and
    for numbers below 0. ``numbers``: settings that take a number although their default is None.
    """
    kept: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in defaults:
            raise unknown_setting(engine, name, defaults)
        wanted = _wanted(value, defaults[name], name in numbers)
        if wanted is not None:
            raise InvalidInput(f"{engine} engine: setting {name} must be {wanted}, not {value!r}")
        if value != defaults[name]:
            kept[name] = value
    return kept


def _wanted(value: Any, default: Scalar, takes_number: bool) -> str | None:
    """What the setting must be where the value is something else, else None."""
    if is_number(default) and not is_number(value):
        return "a number"
    if default is None and takes_number and not (value is None or is_number(value)):
        return "a number"
    if is_number(value) and not 0 <= value < math.inf:
        return "a number of at least 0"
    if isinstance(default, str) and not isinstance(value, str):
        return "text"
    return None
