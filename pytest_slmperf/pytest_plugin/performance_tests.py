"""Which of the collected tests are performance tests."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from pytest_slmperf.pytest_plugin import marker
from pytest_slmperf.pytest_plugin.test_state import TEST, TestState

FIXTURES = frozenset({"slmperf", "slm_engine", "energy_meter"})


def mark_tests(config: pytest.Config, items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Give every performance test its state and check its marks. Returns the performance tests among ``items``."""
    tests = []
    for item in items:
        marked = item.get_closest_marker(marker.NAME) is not None
        fixtures = FIXTURES & set(getattr(item, "fixturenames", ()))
        if not marked and not fixtures and unittest_argument(item) is None:
            continue
        state = item.stash[TEST] = TestState()
        tests.append(item)
        try:
            marker.merged(item)
        except pytest.UsageError as error:
            if not hasattr(config, "workerinput"):
                raise
            state.refused = str(error)
    return tests


def refuse_unittest_arguments(tests: Iterable[pytest.Item]) -> None:
    """Refuse methods of a unittest.TestCase that name a fixture as an argument: unittest never gives it."""
    for item in tests:
        state, name = item.stash[TEST], unittest_argument(item)
        if name is not None and state.refused is None:
            state.refused = (
                f"unittest.TestCase hands no fixtures to its methods: take {name} in a fixture of the class "
                f"(@pytest.fixture(autouse=True) def take(self, {name}): self.{name} = {name}), or write a plain function"
            )


def unittest_argument(item: pytest.Item) -> str | None:
    """The fixture of this plugin that a method of a unittest.TestCase names as an argument; None where there is none."""
    unittest = sys.modules.get("unittest")  # where it was not imported there is no TestCase
    cls, code = getattr(item, "cls", None), getattr(getattr(item, "function", None), "__code__", None)
    if unittest is None or code is None or not (isinstance(cls, type) and issubclass(cls, unittest.TestCase)):
        return None
    return next((name for name in code.co_varnames[: code.co_argcount] if name in FIXTURES), None)


def will_measure(item: pytest.Item) -> bool:
    """Whether a test will share the time: a performance test that is not known to be skipped or refused before it runs."""
    if TEST not in item.stash or item.stash[TEST].refused or item.get_closest_marker("skip") is not None:
        return False
    return not any(condition is True for mark in item.iter_markers("skipif") for condition in mark.args)
