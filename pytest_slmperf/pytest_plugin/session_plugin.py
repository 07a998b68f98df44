"""All hooks of a session with ``--slmperf``, in the order in which pytest calls them."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from pytest_slmperf.errors import NotMeasured, SlmperfError
from pytest_slmperf.model.result import Results
from pytest_slmperf.model.results_file import cleaned
from pytest_slmperf.pytest_plugin import (
    closing_lines,
    collection,
    finish,
    merge_base,
    outcome,
    performance_tests,
    plan,
    setting_table,
)
from pytest_slmperf.pytest_plugin.closing_lines import header_line
from pytest_slmperf.pytest_plugin.context import CONTEXT, SessionContext, now
from pytest_slmperf.pytest_plugin.finish import CollectedResults
from pytest_slmperf.pytest_plugin.interrupts import again
from pytest_slmperf.pytest_plugin.own_frames import without_own_frames
from pytest_slmperf.pytest_plugin.test_state import TEST

COMPARED = "slmperf_compared"  # a worker's word to the controller: the merge base's label, and lines for the session
SHOWS_PASSED = frozenset("AP")  # the letters of pytest's -r that show passing tests in full


class SessionPlugin:
    """One pytest process with ``--slmperf``: the only process of a session, or a controller or worker of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.context = config.stash[CONTEXT] = SessionContext(config)
        self.collected = CollectedResults(self.context.failed_tests)
        self.written = finish.Written()
        self.ids: list[str] = []  # of all collected tests
        self.compared = False  # with a merge base, whose tests may all be unchanged
        # With --slmperf-approve the results become the baseline, and the summary shows the changes.
        self.fail_on: str = "never" if config.getoption("--slmperf-approve") else setting_table.value(config, "fail-on")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """pytest-xdist: all workers write into one session."""
        node.workerinput["slmperf_session_id"] = self.context.id

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """pytest-xdist: what a worker's tests were compared with."""
        label, lines = getattr(node, "workeroutput", {}).get(COMPARED, (None, []))
        if label is not None:
            self.compared = True
            merge_base.note_on_session(self.context, label, lines)

    def pytest_report_header(self) -> str:
        return header_line(self.config, self.context.budget.total_s)

    # --- collection --------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        collected = list(items)  # before -k and similar options remove some
        result = yield  # a conftest.py may add marks
        performance_tests.refuse_unittest_arguments(performance_tests.mark_tests(self.config, collected))
        self.ids = [item.nodeid for item in collected]
        self.context.notes += collection.unknown_quarantine(self.config, collected)
        return result

    @pytest.hookimpl(tryfirst=True)  # pytest asks for the plan in its own hook of this name
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        tests = [item for item in session.items if performance_tests.will_measure(item)]
        tests = collection.check_ids(self.context, tests)
        if not self._rehearses():
            try:
                tests = merge_base.prepare(self.context, tests, self.ids)
                self.compared = self.context.base is not None
            except SlmperfError as error:
                tests = collection.refuse(self.context, tests, str(error))
        tests = collection.check(self.context, tests)
        tests = collection.refuse_secret_ids(self.context, tests)
        self.context.budget.tests = [item.nodeid for item in tests]
        if tests and not self._rehearses():
            collection.check_baselines(self.context, tests)

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> list[str]:
        """The plan, before anything is measured."""
        planned = set(self.context.budget.tests)
        return [] if self._rehearses() else plan.plan_lines(self.context, [i for i in items if i.nodeid in planned])

    def _rehearses(self) -> bool:
        """Whether no test body runs, in which case an earlier session's results must not be overwritten."""
        return bool(self.config.option.collectonly or getattr(self.config.option, "setuponly", False))

    # --- running -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        self.context.interrupts.install()
        self.config.add_cleanup(self.context.interrupts.remove)
        try:
            return (yield)
        finally:
            # Here and not in sessionfinish: a report that cannot be written must still be able to fail the session.
            try:
                if not self._rehearses():
                    session.testsfailed += self._finish()
            finally:
                self.context.interrupts.leave_loop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception) as stop:
            self.context.interrupts.hold()  # until the results are written
            # Results come from reports, but pytest makes no report of an interrupted test.
            if TEST in item.stash:
                self.collected.add(item.stash[TEST].results)
                if isinstance(stop, pytest.exit.Exception):
                    self.collected.ended(item.nodeid, f"the session was ended: {stop.msg}")
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        state = item.stash.get(TEST, None)
        if state is not None:
            state.begin()
            outcome.refuse(state)
            outcome.refuse_fork(self.context.pid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        if TEST in item.stash:
            outcome.refuse_again(item.stash[TEST])
        result = None
        try:
            result = yield
        except (
            NotMeasured
        ):  # a test cannot assert anything about a missing reading; its verdict is inconclusive, with the reason
            if TEST not in item.stash:
                raise
        except SlmperfError as error:
            if TEST in item.stash:
                raise without_own_frames(error)  # noqa: B904
            raise
        finally:
            state = item.stash.get(TEST, None)  # read again: the body may have requested the fixture by its name
            if state is not None:
                state.ended = True
                outcome.keep_regression(state, self.fail_on)
        if state is not None:
            outcome.judge(state, self.fail_on)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        state = item.stash.get(TEST, None)
        if state is not None:
            outcome.hide_secrets(report)
        if state is None or os.getpid() != self.context.pid:  # a forked process hands back what marshal can write
            return report
        results = list(state.results) if report.when == "call" else None
        outcome.attach(report, results, outcome.other_failure(item, state, report))
        # Only if passing tests are shown in full (-rA, -rP): a failing test prints lines of its own.
        if results and report.passed and SHOWS_PASSED & set(self.config.getoption("reportchars", "")):
            report.sections += closing_lines.result_sections(results)
        return report

    # --- reports, in the controller under pytest-xdist -----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        data = yield
        if data is not None:
            outcome.to_builtins(data)
        return data

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Generator[None, Any, Any]:
        report = yield
        if report is not None:
            outcome.from_builtins(report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.context.budget.finished.add(report.nodeid)
        if not self.context.is_worker:
            self.collected.receive(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        status = yield  # first, since pytest fails a test here for its subtests
        name = outcome.category(report) if isinstance(report, pytest.TestReport) else None
        return status if name is None else (name, name[0].upper(), (name.upper(), {"yellow": True}))

    # --- the end -----------------------------------------------------------------------------------------------------

    def _results(self) -> Results:
        """All results so far, as they may be shown and written."""
        record = self.context.record
        record.finished_at = record.finished_at or now()
        return cleaned(Results(session=record, machine=self.context.machine, results=self.collected.results))

    def _finish(self) -> int:
        """Stop the engines and write the requested outputs. Returns the number of files that could not be written."""
        self.context.interrupts.hold()
        if self.context.interrupts.count == 0:
            self.context.close()
        if self.context.is_worker or not (self.collected.results or self.context.budget.tests or self.compared):
            return 0
        measured = self._results()
        self.context.notes += finish.closing_notes(measured, self.context.budget)
        self.written = finish.Written()
        finish.keep_provisional(self.config, measured, self.context, self.written)
        finish.write_outputs(self.config, self._results(), self.context, self.written)  # with the notes added here
        self.context.close()
        return len(self.written.problems)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        any_result = self.collected.results or self.collected.failed_tests
        if any_result or self.written.problems or self.compared:
            closing_lines.summary(terminalreporter, self.config, self._results(), self.written)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        interrupts = self.context.interrupts
        try:
            interrupts.release()
            if self.context.is_worker and self.context.base is not None:
                compared = (self.context.record.against, self.context.base.summary(self.ids))
                getattr(self.config, "workeroutput", {})[COMPARED] = compared
            if interrupts.count > 1:
                raise again()  # before the teardown of fixtures, which may take long
            return (yield)
        finally:
            interrupts.over = True

    def pytest_unconfigure(self) -> None:
        self.context.interrupts.over = True
        self.context.close()
