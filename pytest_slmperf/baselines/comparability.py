"""What a scenario asks of the engine: the part of a result that must be the same for a comparison to mean anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.baselines import json_format
from pytest_slmperf.model.result import Result

LENGTHS_ALIKE = 0.02
# How long and how often it is measured changes the precision, not the work; where the test stands says nothing of it.
_NOT_WORK = frozenset(
    {"rounds", "min_rounds", "max_rounds", "launches", "min_launches", "max_launches", "warmup", "warmup_rounds"}
    | {"max_time", "timeout", "profile", "location"}
)


def work_of(result: Result) -> dict[str, Any]:
    """Scenario kind and parameters, model, dtype and number of replicas, as plain JSON values."""
    scenario = {key: value for key, value in result.scenario.items() if key not in _NOT_WORK and not is_secret(key)}
    engine = result.engine
    own = {"model": model_name(engine.model), "dtype": engine.dtype, "replicas": engine.replicas}
    work: dict[str, Any] = json_format.rounded(scenario | own)
    return work


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two pieces of work, one phrase each: ``batch 16 → 32``.

    A key that only one side has and that is None or empty there is no change: later versions add parameters.
    """
    keys = [*old, *(key for key in new if key not in old)]
    return [
        f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
        and (old.get(key) or new.get(key))
        and not _alike(key, old.get(key), new.get(key))
    ]


def _alike(key: str, old: Any, new: Any) -> bool:
    """Whether two measured lengths are of one work: answers of a sampled model vary a little from run to run."""
    if not key.endswith("tokens_per_request") or not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return abs(old - new) <= LENGTHS_ALIKE * max(abs(old), abs(new))


def is_secret(key: str) -> bool:
    """Whether a setting's name says that its value must reach no file."""
    return re.search(r"api.?key|token$|secret|passw|credential|authorization", key, re.IGNORECASE) is not None


def model_name(name: str) -> str:
    """The model without the place where this machine keeps it."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if name.startswith(("/", "~", ".")) or "\\" in name else name


def _shown(value: Any) -> str:
    return "none" if value is None else json_format.plain(str(value), 60)
