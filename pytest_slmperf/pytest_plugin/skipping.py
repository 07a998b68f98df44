"""Without ``--slmperf``: performance tests are skipped, and one line at the end says so."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_slmperf.pytest_plugin import performance_tests
from pytest_slmperf.pytest_plugin.test_state import SKIPPED, TEST


class SkippingPlugin:
    """Registered where performance tests were not asked for."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        collected = list(items)  # before -k and the like take some away
        result = yield  # a conftest.py may add marks
        for item in performance_tests.mark_tests(config, collected):
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
