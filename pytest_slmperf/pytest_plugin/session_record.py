"""What the results file says of the session itself."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_slmperf.environment.commit import look_up
from pytest_slmperf.model.result import FailedTest, Session
from pytest_slmperf.pytest_plugin import options
from pytest_slmperf.pytest_plugin.setting_table import OPTIONS
from pytest_slmperf.util.version import __version__

SECRET = ("endpoint", "set")  # may hold a key


def session_record(
    config: pytest.Config, *, session_id: str, started_at: str, notes: list[str], failed_tests: list[FailedTest]
) -> Session:
    """The session's record. It keeps ``notes`` and ``failed_tests`` themselves: what is added later stands in it too."""
    against = options.value(config, "against")
    commit, note = look_up(config.rootpath)
    if note is not None:
        notes.append(note)
    return Session(
        id=session_id,
        started_at=started_at,
        plugin_version=__version__,
        commit=commit,
        profile=options.value(config, "profile"),
        mode="duet" if against else "stored",
        against=against,
        alpha=options.value(config, "alpha"),
        options=_given_options(config),
        notes=notes,
        failed_tests=failed_tests,
    )


def _given_options(config: pytest.Config) -> dict[str, Any]:
    values = {name: options.value(config, name) for name in OPTIONS}
    return {
        name: [list(item) if isinstance(item, tuple) else item for item in value] if isinstance(value, list) else value
        for name, value in values.items()
        if value not in (None, []) and name not in SECRET
    }
