"""Where a session writes: the state folder, the results file, the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_slmperf.pytest_plugin import options


def state_dir(config: pytest.Config) -> Path:
    """The folder of reports, logs and the journal."""
    return Path(options.folder(config, "state-dir"), options.value(config, "state-dir"))


def results_file(config: pytest.Config) -> Path:
    return _file(config, "json", "results.json")


def report_file(config: pytest.Config) -> Path:
    return _file(config, "html", "report.html")


def _file(config: pytest.Config, option: str, usual: str) -> Path:
    """The file that a path option names, else the usual one in the state folder."""
    given = options.value(config, option)
    return state_dir(config) / usual if given is None else Path(options.folder(config, option), given)
