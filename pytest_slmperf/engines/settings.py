"""Checks of engine settings: unknown names and wrong kinds of value are refused with the nearest names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import Scalar


def unknown_setting(engine: str, name: str, known: Iterable[str]) -> InvalidInput:
    """The error for a setting that this engine does not have."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:12])}…"
    return InvalidInput(f"{engine} engine has no setting {name!r}; {hint}")


def check_settings(
    engine: str, given: Mapping[str, Any], defaults: Mapping[str, Scalar], numbers: Collection[str] = ()
) -> dict[str, Scalar]:
    """The given settings, without those equal to their default, so that one configuration has one specification.

    InvalidInput on a name that is not among ``defaults``, on text where a number belongs or the other way round, and on
    numbers below 0. ``numbers``: settings without a default that take one.
    """
    kept: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in defaults:
            raise unknown_setting(engine, name, defaults)
        default = defaults[name]
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        if numeric and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidInput(f"{engine} engine: setting {name} must be a number, not {value!r}")
        if (
            default is None
            and name in numbers
            and (isinstance(value, bool) or not isinstance(value, int | float | None))
        ):
            raise InvalidInput(f"{engine} engine: setting {name} must be a number, not {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < math.inf:
            raise InvalidInput(f"{engine} engine: setting {name} must be a number of at least 0, not {value!r}")
        if isinstance(default, str) and not isinstance(value, str):
            raise InvalidInput(f"{engine} engine: setting {name} must be text, not {value!r}")
        if value != default:
            kept[name] = value
    return kept
