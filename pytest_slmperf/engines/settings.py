"""Checks of engine settings: unknown names and wrong kinds of value are refused with the nearest names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pytest_slmperf.engines.spec import Scalar
from pytest_slmperf.errors import InvalidInput


def unknown_setting(engine: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a setting that this engine does not have."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:12])}…"
    return InvalidInput(f"{engine} engine has no setting {name!r}; {hint}")


def check_settings(engine: str, given: Mapping[str, Any], defaults: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The given settings, without those equal to their default, so that one configuration has one specification.

    InvalidInput on a name that is not among ``defaults``, and on text where a number belongs or the other way round.
    """
    kept: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in defaults:
            raise unknown_setting(engine, name, defaults)
        default = defaults[name]
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        if numeric and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidInput(f"{engine} engine: setting {name} must be a number, not {value!r}")
        if isinstance(default, str) and not isinstance(value, str):
            raise InvalidInput(f"{engine} engine: setting {name} must be text, not {value!r}")
        if value != default:
            kept[name] = value
    return kept
