"""``@pytest.mark.slmperf(...)``: keyword-only, validated, unknown keys refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import pytest

NAME = "slmperf"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def _margin(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _share(item) for key, item in value.items())
    return _share(value)


def _gate(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value)
    )


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _settings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and (item is None or isinstance(item, (str, int, float, bool)))
        for key, item in value.items()
    )


_WHOLE = (_whole, "a whole number of at least 1")
_TEXT = (_text, "a non-empty text")

KEYS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "engine": (*_TEXT, "engine by its registered name"),
    "model": (*_TEXT, "preset, local folder or hub id"),
    "weights": (lambda value: value in ("dummy", "real"), "'dummy' or 'real'", "kind of weights"),
    "dtype": (*_TEXT, "number format of the model"),
    "device": (*_TEXT, "device to serve on"),
    "max_model_len": (*_WHOLE, "longest sequence the engine must serve"),
    "max_num_seqs": (*_WHOLE, "most sequences the engine runs at once"),
    "kv_cache_tokens": (*_WHOLE, "KV-cache budget in tokens"),
    "settings": (_settings, "a mapping of engine arguments to plain values", "further engine arguments"),
    "launches": (*_WHOLE, "launches to start with"),
    "max_launches": (*_WHOLE, "most launches of this test"),
    "rounds": (*_WHOLE, "measured rounds in each launch"),
    "gate": (
        _gate,
        "True, False or a list of metric names",
        "False: measure and report, never fail; a list: gate exactly these",
    ),
    "tolerance": (_margin, "a share in [0, 1), or a mapping of metric names to shares", "change that is never flagged"),
    "limit": (_margin, "a share in [0, 1), or a mapping of metric names to shares", "change that must not pass"),
    "max_time": (_positive, "seconds, more than 0", "longest time this test may measure"),
    "energy_bound": (_share, "a share in [0, 1)", "largest relative error of an energy reading"),
}


def check(kwargs: Mapping[str, Any], args: tuple[Any, ...], where: str) -> None:
    """Refuse positional arguments, unknown keys and wrong values with a UsageError naming the test, key and mend."""
    if args:
        raise pytest.UsageError(f"{where}: @pytest.mark.slmperf takes keywords only, for instance slmperf(rounds=5)")
    for key, item in kwargs.items():
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise pytest.UsageError(
                f"{where}: @pytest.mark.slmperf has no key {key!r}; {hint}known keys: {', '.join(KEYS)}"
            )
        valid, wanted, _ = KEYS[key]
        if not valid(item):
            raise pytest.UsageError(f"{where}: @pytest.mark.slmperf({key}=…) must be {wanted}, not {item!r}")


def merged(item: pytest.Item) -> dict[str, Any]:
    """All slmperf marks of a test joined, the closest winning, each checked."""
    result: dict[str, Any] = {}
    for mark in item.iter_markers(NAME):
        check(mark.kwargs, mark.args, item.nodeid)
        for key, given in mark.kwargs.items():
            result.setdefault(key, given)
    return result
