"""The last section on the terminal: the verdict table, where the files are, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.pytest_plugin.session import PerfSession


def say_skipped(terminal: pytest.TerminalReporter, reason: str) -> None:
    """One line that counts the perf tests which were skipped for want of ``--slmperf``."""
    skipped = sum(1 for report in terminal.stats.get("skipped", []) if reason in str(report.longrepr))
    if skipped:
        tests, them = ("tests", "them") if skipped > 1 else ("test", "it")
        terminal.write_line(f"slmperf: {skipped} performance {tests} skipped; run {them} with --slmperf")


def shown(path: Path, session: PerfSession) -> Path:
    """Relative to where the user stands, when it lies below."""
    here = session.config.invocation_params.dir
    return path.relative_to(here) if path.is_relative_to(here) else path


def _written(what: str, path: Path, session: PerfSession) -> Path | None:
    """Where a file of this session is; None where it was not written, though an older session's may lie there."""
    failed = any(problem.startswith(f"{what} not written") for problem in session.problems)
    return shown(path, session) if path.is_file() and not failed else None


def summary(terminal: pytest.TerminalReporter, session: PerfSession) -> None:
    from pytest_slmperf.reports.terminal.encoding import fit, table
    from pytest_slmperf.reports.terminal.table import metric_lines, session_lines, verdict_table

    if not session.collected and not session.problems and not session.record.failed_tests:
        return
    results = session.results()
    width = min(terminal._tw.fullwidth, 120)
    colour = terminal._tw.hasmarkup
    # pytest escapes a whole text that its stream cannot encode, line breaks too
    encoding = getattr(terminal._tw._file, "encoding", None)
    verbosity = session.config.get_verbosity()
    html, json = session.path("html", "report.html"), session.path("json", "results.json")
    if verbosity >= 0:
        terminal.write_sep("=", "slmperf")
        for line in verdict_table(results, width=width, verbosity=verbosity, colour=colour).splitlines():
            terminal.write_line(table(line, encoding))
        # pytest's own section for -rA and -rP is of passed tests; one that is new or open passed as far as it was judged
        if terminal.hasopt("P") and 0 <= verbosity < 2:
            judged = {report.nodeid for name in ("passed", "failed") for report in terminal.stats.get(name, [])}
            for result in results.results:
                own = {result.id, result.id.rpartition("::")[0]}  # a test that measures several adds a part to its id
                if not own & judged and result.failure is None:
                    for line in ["", *metric_lines(result, width)]:
                        terminal.write_line(fit(line, encoding))
    for line in session_lines(
        results,
        html=_written("report", html, session),
        json=_written("results", json, session),
        width=width,
        verbosity=verbosity,
        colour=colour,
        approve=session.approve_command(_written("results", json, session)),
    ):
        terminal.write_line(fit(line, encoding))
    for line in session.kept:
        terminal.write_line(fit(f"slmperf: {line}", encoding))
    for problem in session.problems:
        terminal.write_line(fit(f"slmperf: {problem}", encoding), red=True)
