"""The end of a session: collecting results from reports, and writing results, report, exports, baselines and history."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.model.result import FailedTest, Result
from pytest_slmperf.pytest_plugin import added_by_plugins, setting_table
from pytest_slmperf.pytest_plugin.context import SessionContext, TimeBudget, report_file, results_file
from pytest_slmperf.pytest_plugin.outcome import failure_of, results_of
from pytest_slmperf.util.formatting import counted

if TYPE_CHECKING:
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.model.result import Results


@dataclass
class Written:
    """Lines about the outputs of a session: saved baselines, and files that could not be written."""

    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Write one output; a failure does not prevent the other outputs."""
        try:
            action()
        except (SlmperfError, OSError) as error:
            self.problems.append(f"{what} not written: {error}")
        except pytest.exit.Exception:
            raise
        except Exception as error:  # whatever a faulty exporter raises
            self.problems.append(f"{what} not written: {type(error).__name__}: {error}")

    def failed(self, what: str) -> bool:
        return any(problem.startswith(f"{what} not written") for problem in self.problems)


def closing_notes(results: Results, budget: TimeBudget) -> list[str]:
    """Notes about the whole session that follow at its end."""
    from pytest_slmperf.reports.view import shift_notes

    notes = budget.unfinished_note() + budget.too_short_note(results.results, time.monotonic())
    return notes + (shift_notes(results.results) if results.session.mode == "stored" else [])


def write_outputs(config: pytest.Config, results: Results, context: SessionContext, written: Written) -> None:
    """Write everything that the options ask for, and say in ``written`` what was not.

    In a session that was interrupted the results come first, and the report only where that takes no longer than usual.
    Signals are held until the results are written.
    """
    interrupted = context.interrupts.count > 0

    def store() -> Store:
        return context.store

    if not interrupted:
        written.attempt("charts of the history", lambda: _add_history(results, store()))
    written.attempt("results", lambda: _write(results_file(config), results))
    context.interrupts.release()
    if interrupted and not _charts_are_ready():
        written.kept.append(f"no report of an interrupted session; slmperf report {results_file(config)} makes it")
    else:
        written.attempt("report", lambda: _report(report_file(config), results))
    written.attempt("baseline", lambda: _keep(config, results, store, written))
    if config.getoption("--slmperf-approve") and context.provisional is not None and not written.failed("baseline"):
        context.provisional.drop(results)
    for name, path in setting_table.value(config, "export"):  # last, since exporters may be other packages' code
        written.attempt(f"export {name}", lambda name=name, path=path: _export(config, name, path, results))  # type: ignore[misc]


def _charts_are_ready() -> bool:
    """Whether the report's script was made before; it takes seconds to make."""
    from pytest_slmperf.reports.html import static_figures

    return static_figures.is_kept()


def _write(path: Path, results: Results) -> None:
    from pytest_slmperf.model.results_file import encode
    from pytest_slmperf.util import files

    files.refuse_other(path, *files.RESULTS)
    files.replace(path, encode(results))


def _report(path: Path, results: Results) -> None:
    from pytest_slmperf.reports.html.report import write_report

    write_report(results, path)


def _add_history(results: Results, store: Store) -> None:
    """The stored history of each test, for the report's charts."""
    from pytest_slmperf.baselines.trend import charts

    for result in results.results:
        result.charts.history = charts(store, results.machine, result)


def _export(config: pytest.Config, name: str, path: str, results: Results) -> None:
    from pytest_slmperf.util import files

    exporter = added_by_plugins.exporter(config, name)
    data = exporter.export(results)
    if not isinstance(data, bytes):
        raise InvalidInput(f"the exporter {name!r} gave {type(data).__name__}, and must give bytes")
    place = Path(setting_table.folder(config, "export"), path)
    files.refuse_unlike(place, data, exporter.suffix)
    files.replace(place, data)


def _keep(config: pytest.Config, results: Results, store: Callable[[], Store], written: Written) -> None:
    """Save under a name, approve, and remember in the history (approved and CI sessions)."""
    from pytest_slmperf.baselines.approve import save_all, shown

    approve = bool(config.getoption("--slmperf-approve"))
    save = setting_table.value(config, "save")
    names = ([save] if save else []) + ([setting_table.value(config, "baseline")] if approve else [])
    for name in dict.fromkeys(names):
        changes = save_all(
            store(),
            results,
            name,
            reason=setting_table.value(config, "reason"),
            approved_at=results.session.finished_at if approve else None,
        )
        written.problems += [
            f"history of {change.test} not written: {change.lost}" for change in changes if change.lost
        ]
        saved = sum(change.action != "refused" for change in changes)
        written.kept += shown(changes)
        if changes and not saved:  # a requested baseline that was not saved counts as a file that could not be written
            written.problems.append(f"baseline not written: no result could be saved as {name!r}")
            continue
        left = f", {len(changes) - saved} not" if saved < len(changes) else ""
        written.kept.append(f"{counted(saved, 'baseline')} saved as {name!r} in {store()}{left}")
    if os.environ.get("CI") and not names:
        _remember(results, store(), written)


def _remember(results: Results, store: Store, written: Written) -> None:
    """Add a CI session to the history. A failure only becomes a line, since the user did not request it."""
    for result in results.results:
        if any(any(metric.launches) for metric in result.metrics.values()):  # disturbed launches leave none
            try:
                store.remember(result, results.session, results.machine)
            except SlmperfError as error:
                written.kept.append(f"this session is not kept in the history: {error}")
                return


def keep_provisional(config: pytest.Config, results: Results, context: SessionContext, written: Written) -> None:
    """Keep what was compared with no stored baseline, for this machine's next session; nothing of an interrupted one.

    Comes before the results are written, since it may add a note.
    """
    if context.provisional is None or config.getoption("--slmperf-approve") or context.interrupts.count > 0:
        return
    if count := context.provisional.keep(results):
        written.kept.append(
            f"{counted(count, 'result')} kept on this machine, not in the repository: the next session compares with "
            f"{'them' if count > 1 else 'it'} until a baseline is approved"
        )


# Results and failed tests of a session, from the reports of its tests.

CRASHED = "???"  # pytest-xdist's name for the phase of a test whose worker died


class CollectedResults:
    """``results`` in the order of their tests' reports; ``failed_tests``: tests that failed other than by a verdict."""

    def __init__(self, failed_tests: list[FailedTest]) -> None:
        """``failed_tests``: the list in the session's record, which is updated in place."""
        self.results: list[Result] = []
        self.failed_tests = failed_tests

    def receive(self, report: pytest.TestReport) -> None:
        """Add the results and the failure of a report."""
        self._remember_failure(report)
        self.add(results_of(report))

    def add(self, results: Sequence[Result]) -> None:
        """Add a test's results, which replace those of an earlier run, if another plugin reruns the test."""
        again = {result.id for result in results}
        self.results = [result for result in self.results if result.id not in again] + list(results)

    def ended(self, nodeid: str, reason: str) -> None:
        """Record a test that ended the session, by ``pytest.exit()`` or a signal, and therefore has no report."""
        self.failed_tests.append(FailedTest(id=nodeid, reason=reason))

    def _remember_failure(self, report: pytest.TestReport) -> None:
        if report.when == "setup":  # a new run of the test replaces an earlier one
            self.failed_tests[:] = [failed for failed in self.failed_tests if failed.id != report.nodeid]
        failure = failure_of(report)
        if report.when == CRASHED:  # the worker's own information about the test is lost
            failure = FailedTest(id=report.nodeid, reason=str(report.longrepr))
        known = {failed.id for failed in self.failed_tests} if report.when == "call" else set()
        # The first failing subtest determines the reason.
        if report.failed and failure is not None and report.nodeid not in known:
            self.failed_tests.append(failure)
