"""``@pytest.mark.slmperf(...)``: keyword-only, checked against the table of settings, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS
from pytest_slmperf.util.suggest import near_names

NAME = "slmperf"


def check(kwargs: Mapping[str, Any], args: tuple[Any, ...], where: str) -> None:
    """Refuse positional arguments, unknown keys and wrong values. UsageError names the test, the key and the fix."""
    if args:
        raise pytest.UsageError(f"{where}: @pytest.mark.slmperf takes keywords only, for instance slmperf(rounds=5)")
    for key, value in kwargs.items():
        if key not in MARKER_KEYS:
            near = near_names(key, MARKER_KEYS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise pytest.UsageError(
                f"{where}: @pytest.mark.slmperf has no key {key!r}; {hint}known keys: {', '.join(MARKER_KEYS)}"
            )
        kind = MARKER_KEYS[key].kind
        if not kind.accepts(value):
            raise pytest.UsageError(f"{where}: @pytest.mark.slmperf({key}=…) must be {kind.wanted}, not {value!r}")


def merged(item: pytest.Item) -> dict[str, Any]:
    """All slmperf marks of a test joined, the closest winning, each checked."""
    result: dict[str, Any] = {}
    for mark in item.iter_markers(NAME):
        check(mark.kwargs, mark.args, item.nodeid)
        for key, value in mark.kwargs.items():
            result.setdefault(key, value)
    return result
