"""Which of the collected tests are performance tests; without ``--slmperf`` they are skipped, and a line says so."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable

import pytest

from pytest_slmperf.pytest_plugin import setting_table
from pytest_slmperf.pytest_plugin.test_state import SKIPPED, TEST, TestState

FIXTURES = frozenset({"slmperf", "slm_engine", "energy_meter"})


def mark_tests(config: pytest.Config, items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Give every performance test its state and check its marks. Returns the performance tests among ``items``."""
    tests = []
    for item in items:
        marked = item.get_closest_marker(setting_table.NAME) is not None
        fixtures = FIXTURES & set(getattr(item, "fixturenames", ()))
        if not marked and not fixtures and unittest_argument(item) is None:
            continue
        state = item.stash[TEST] = TestState()
        tests.append(item)
        try:
            setting_table.merged(item)
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


# Without ``--slmperf``: performance tests are skipped, and one line at the end says so.


class SkippingPlugin:
    """Registered where performance tests were not asked for."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        collected = list(items)  # before -k and the like take some away
        result = yield  # a conftest.py may add marks
        for item in mark_tests(config, collected):
            if item.stash[TEST].refused is None:
                item.add_marker(pytest.mark.skip(reason=SKIPPED))
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        state = item.stash.get(TEST, None)
        if state is not None and state.refused is not None:
            pytest.fail(state.refused, pytrace=False)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line that counts the performance tests skipped for want of ``--slmperf``."""
        skipped = sum(1 for report in terminalreporter.stats.get("skipped", []) if SKIPPED in str(report.longrepr))
        if skipped:
            tests, them = ("tests", "them") if skipped > 1 else ("test", "it")
            terminalreporter.write_line(f"slmperf: {skipped} performance {tests} skipped; run {them} with --slmperf")
