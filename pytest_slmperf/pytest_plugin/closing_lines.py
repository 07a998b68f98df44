"""The section at the end of the terminal output (verdict table, files, next steps), and the line in pytest's header."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf import redaction, text_out
from pytest_slmperf.pytest_plugin import merge_base, setting_table, settings
from pytest_slmperf.pytest_plugin.context import report_file, results_file

if TYPE_CHECKING:
    from pytest_slmperf.model.result import Result, Results
    from pytest_slmperf.pytest_plugin.finish import Written
    from pytest_slmperf.reports.view import ReportView


MOST_WIDTH = 120


def summary(terminal: pytest.TerminalReporter, config: pytest.Config, results: Results, written: Written) -> None:
    """Write the whole section; under -q only the lines on the session, its files and its baselines."""
    from pytest_slmperf.reports.terminal.table import session_lines
    from pytest_slmperf.reports.view import view_of

    view = view_of(results)
    # If the stream cannot encode a text, pytest escapes the whole text, including line breaks.
    encoding = getattr(terminal._tw._file, "encoding", None)
    width = min(terminal._tw.fullwidth, MOST_WIDTH)
    if config.get_verbosity() >= 0:
        _verdicts(terminal, config, view, width, encoding)
    html = _shown(report_file(config), config) if not written.failed("report") else None
    json = _shown(results_file(config), config) if not written.failed("results") else None
    for line in session_lines(
        view,
        html=html,
        json=json,
        width=width,
        verbosity=config.get_verbosity(),
        colour=terminal._tw.hasmarkup,
        approve=approve_command(config, json),
    ):
        _say(terminal, line, encoding)
    for line in written.kept:
        _say(terminal, redaction.message(f"slmperf: {line}"), encoding)
    for problem in written.problems:
        _say(terminal, redaction.message(f"slmperf: {problem}"), encoding, red=True)


def _say(terminal: pytest.TerminalReporter, text: str, encoding: str | None, **markup: bool) -> None:
    """Write lines that are made already; none of them is a command of a CI system."""
    from pytest_slmperf.reports.terminal.encoding import fit

    for row in text.split("\n"):
        terminal.write_line(fit(text_out.log_line(row), encoding), **markup)


def _verdicts(
    terminal: pytest.TerminalReporter, config: pytest.Config, view: ReportView, width: int, encoding: str | None
) -> None:
    from pytest_slmperf.reports.terminal.encoding import table
    from pytest_slmperf.reports.terminal.table import metric_lines, verdict_table

    verbosity = config.get_verbosity()
    terminal.write_sep("=", "slmperf")
    _say(terminal, table(verdict_table(view, width, verbosity, terminal._tw.hasmarkup), encoding), encoding)
    # pytest's section for -rA and -rP holds passed tests only, and a test that is new or inconclusive is not among them
    if not terminal.hasopt("P") or verbosity > 1:
        return
    judged = {report.nodeid for name in ("passed", "failed") for report in terminal.stats.get(name, [])}
    for result in view.results.results:
        ids = {result.id, result.id.rpartition("::")[0]}  # a test that measures several scenarios adds a part to its id
        if not ids & judged and result.failure is None:
            _say(terminal, "\n".join(["", *metric_lines(result, width)]), encoding)


def result_sections(results: Iterable[Result]) -> list[tuple[str, str]]:
    """Every metric of each result, one line each, for ``-rA``."""
    from pytest_slmperf.reports.terminal.table import metric_lines

    return [("slmperf", redaction.message("\n".join(metric_lines(result)))) for result in results]


def _shown(path: Path, config: pytest.Config) -> Path | None:
    """A file's path, relative to the folder where pytest was started if the file is below it; None without a file."""
    if not os.path.isfile(path):
        return None
    here = config.invocation_params.dir
    return path.relative_to(here) if path.is_relative_to(here) else path


def approve_command(config: pytest.Config, results: Path | None) -> str | None:
    """The command that makes these results the baseline; None if this session has done so already, or compared with a
    merge base, for which no approval counts.

    ``results`` None: the file was not written, so that the command must measure again.
    """
    name, place = setting_table.value(config, "baseline"), setting_table.value(config, "baselines")
    against = setting_table.value(config, "against")
    done = config.getoption("--slmperf-approve") or setting_table.value(config, "save") == name
    if done or settings.is_merge_base(against):
        return None
    if results is None:
        return redaction.hide(shlex.join(["pytest", *map(str, config.invocation_params.args), "--slmperf-approve"]))
    words = ["slmperf", "baselines", "approve", str(results), "--reason", "…"]
    words += ["--name", name] if name != "main" else []
    words += ["--baselines", setting_table.shown_url(place)] if place != "baselines" else []
    return shlex.join(words)


# The line in pytest's header.


def header_line(config: pytest.Config, time_budget_s: float | None) -> str:
    """Engine, model, device, profile, time budget and baseline in one line."""
    spec = settings.base_spec(config)
    against, baseline = setting_table.value(config, "against"), setting_table.value(config, "baseline")
    place = setting_table.shown_url(setting_table.value(config, "baselines"))
    base = merge_base.find(config)
    against = against if base is None else f"the {base.label}"
    compared = f"duet against {against}" if against else f"baseline {baseline!r} in {place}"
    bounded = "" if time_budget_s is None else f", at most {time_budget_s:.0f} s"
    return redaction.message(
        f"slmperf: {spec.engine} serving {spec.model} on {settings.device_of(config, spec)}, "
        f"profile {setting_table.value(config, 'profile')}{bounded}, {compared}"
    )
