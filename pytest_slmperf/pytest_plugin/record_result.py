"""A finished result is kept in three places: the journal, its test's state, pytest-benchmark's results."""

from __future__ import annotations

import pytest

from pytest_slmperf.baselines.journal import Journal
from pytest_slmperf.errors import EngineError, SlmperfError
from pytest_slmperf.model.result import Engine, Result
from pytest_slmperf.pytest_plugin import benchmark_bridge
from pytest_slmperf.pytest_plugin.settings import base_spec, device_of
from pytest_slmperf.pytest_plugin.test_state import TEST
from pytest_slmperf.scenarios.base import Scenario


def location(item: pytest.Item) -> str:
    """``path:line`` of a test."""
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}"


def record_result(journal: Journal, item: pytest.Item, result: Result) -> None:
    """Write the result to the journal, so that a later crash loses nothing, and keep it with its test."""
    result.scenario.setdefault("location", location(item))
    write_to_journal(journal, result)
    item.stash[TEST].results.append(result)
    benchmark_bridge.add(item, result)


def write_to_journal(journal: Journal, result: Result) -> None:
    """Append a result, or its later state, which replaces the earlier. A full disk is noted in the result itself."""
    try:
        journal.append(result)
    except (SlmperfError, OSError) as error:  # the result still stands in what is written at the end
        result.notes.append(f"not kept against a crash: {error}")


def record_failure(
    journal: Journal, item: pytest.Item, scenario: Scenario, result_id: str, error: BaseException
) -> None:
    """A scenario that could not be measured still has its line in every report, with the reason and no numbers."""
    spec = item.stash[TEST].spec or base_spec(item.config, None)
    engine = Engine(
        name=spec.engine, version="unknown", model=spec.model, weights=spec.weights or "unknown",
        device=device_of(item.config, spec),
    )  # fmt: skip
    lines = str(error).strip().splitlines() or [type(error).__name__]  # some errors have no message
    result = Result(id=result_id, scenario=scenario.parameters(), engine=engine, failure=lines[0])
    if isinstance(error, EngineError):
        result.log_tail = error.log_tail
    record_result(journal, item, result)
