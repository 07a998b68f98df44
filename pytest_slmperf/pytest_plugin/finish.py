"""What happens when the last test is done: engines stopped, results, report, exports, baselines and history written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.pytest_plugin import options
from pytest_slmperf.util.formatting import counted

if TYPE_CHECKING:
    from pytest_slmperf.model.result import Results
    from pytest_slmperf.pytest_plugin.session import PerfSession


def finish(session: PerfSession) -> int:
    """Write everything that was asked for. Returns how many of it could not be written; each is told in the summary."""
    session.close()
    if session.is_worker or not (session.collected or session.tests):
        return 0
    left = [test for test in session.tests if test not in session.finished]
    if left:
        session.notes.append(
            f"stopped early: {len(left)} of {len(session.tests)} performance tests were not run to their end"
        )
    from pytest_slmperf.reports.shift import shift_notes

    results = session.results()
    session.time_note(results)
    if results.session.mode == "stored":
        session.notes += shift_notes(results.results)
    _try(session, "charts of the history", lambda: _add_history(session, results))
    before = len(session.problems)
    _try(session, "results", lambda: _write(session.path("json", "results.json"), results))
    _try(session, "report", lambda: _report(session.path("html", "report.html"), results))
    _try(session, "baseline", lambda: _keep(session, results))
    for name, path in options.value(session.config, "export"):  # last: they may be anybody's code
        _try(session, f"export {name}", lambda name=name, path=path: _export(session, name, path, results))  # type: ignore[misc]
    return len(session.problems) - before


def _try(session: PerfSession, what: str, action: Callable[[], None]) -> None:
    try:
        action()
    except (SlmperfError, OSError) as error:
        session.problems.append(f"{what} not written: {error}")
    except Exception as error:  # whatever a faulty exporter raises: the rest is still written and said
        session.problems.append(f"{what} not written: {type(error).__name__}: {error}")


def _write(path: Path, results: Results) -> None:
    from pytest_slmperf.model.results_file import encode
    from pytest_slmperf.util import atomic_write

    atomic_write.replace(path, encode(results))


def _report(path: Path, results: Results) -> None:
    from pytest_slmperf.reports.html.report import write_report

    write_report(results, path)


def _add_history(session: PerfSession, results: Results) -> None:
    """The stored history of each test, for the report's charts."""
    from pytest_slmperf.baselines.trend import charts

    for result in results.results:
        history = charts(session.store, results.machine, result)
        if history:
            result.charts["history"] = history


def _export(session: PerfSession, name: str, path: str, results: Results) -> None:
    from pytest_slmperf.util import atomic_write

    data = session.exporter(name).export(results)
    if not isinstance(data, bytes):
        raise InvalidInput(f"the exporter {name!r} gave {type(data).__name__}, and must give bytes")
    atomic_write.replace(Path(options.folder(session.config, "export"), path), data)


def _keep(session: PerfSession, results: Results) -> None:
    """Save under a name, approve, and remember in the history (approved and CI sessions)."""

    def value(name: str) -> Any:
        return options.value(session.config, name)

    approve = bool(session.config.getoption("--slmperf-approve"))
    names = ([value("save")] if value("save") else []) + ([value("baseline")] if approve else [])
    from pytest_slmperf.baselines.approve import save_all, shown

    for name in dict.fromkeys(names):
        changes = save_all(
            session.store,
            results,
            name,
            reason=value("reason"),
            approved_at=results.session.finished_at if approve else None,
        )
        session.problems += [
            f"history of {change.test} not written: {change.lost}" for change in changes if change.lost
        ]
        saved = sum(change.action != "refused" for change in changes)
        session.kept += shown(changes)
        if changes and not saved:  # asked for, and not there: as wrong as a file that could not be written
            session.problems.append(f"baseline not written: no result could be saved as {name!r}")
            continue
        left = f", {len(changes) - saved} not" if saved < len(changes) else ""
        session.kept.append(f"{counted(saved, 'baseline')} saved as {name!r} in {session.store}{left}")
    if os.environ.get("CI") and not names:
        for result in results.results:
            if any(any(metric.launches) for metric in result.metrics.values()):  # of disturbed launches none is left
                session.store.remember(result, results.session, results.machine)
