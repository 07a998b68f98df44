"""The performance tests among the collected tests, which are skipped without ``--slmperf``."""

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
    """Refuse methods of a unittest.TestCase with a fixture as an argument, which unittest does not pass."""
    for item in tests:
        state, name = item.stash[TEST], unittest_argument(item)
        if name is not None and state.refused is None:
            state.refused = (
                f"unittest.TestCase hands no fixtures to its methods: take {name} in a fixture of the class "
                f"(@pytest.fixture(autouse=True) def take(self, {name}): self.{name} = {name}), or write a plain function"
            )


def unittest_argument(item: pytest.Item) -> str | None:
    """The fixture of this plugin that a method of a unittest.TestCase has as an argument; else None."""
    unittest = sys.modules.get("unittest")  # unless it is imported, there is no TestCase
    cls, code = getattr(item, "cls", None), getattr(getattr(item, "function", None), "__code__", None)
    if unittest is None or code is None or not (isinstance(cls, type) and issubclass(cls, unittest.TestCase)):
        return None
    return next((name for name in code.co_varnames[: code.co_argcount] if name in FIXTURES), None)


def will_measure(item: pytest.Item) -> bool:
    """Whether a test takes part in the time budget: a performance test that is neither skipped nor refused already."""
    if TEST not in item.stash or item.stash[TEST].refused or item.get_closest_marker("skip") is not None:
        return False
    return not any(condition is True for mark in item.iter_markers("skipif") for condition in mark.args)


# The plugin without ``--slmperf``.


class SkippingPlugin:
    """Skips performance tests and reports their number at the end; registered without ``--slmperf``."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        collected = list(items)  # before -k and similar options remove some
        result = yield  # a conftest.py may add marks
        for item in mark_tests(config, collected):
            if item.stash[TEST].refused is None:
                item.add_marker(pytest.mark.skip(reason=SKIPPED))
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        from pytest_slmperf import redaction

        state = item.stash.get(TEST, None)
        if state is not None and state.refused is not None:
            pytest.fail(redaction.message(state.refused), pytrace=False)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line with the number of performance tests that were skipped without ``--slmperf``."""
        skipped = sum(1 for report in terminalreporter.stats.get("skipped", []) if SKIPPED in str(report.longrepr))
        if skipped:
            tests, them = ("tests", "them") if skipped > 1 else ("test", "it")
            terminalreporter.write_line(f"slmperf: {skipped} performance {tests} skipped; run {them} with --slmperf")
