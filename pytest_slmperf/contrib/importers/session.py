"""The session that imported results stand in: when they were measured, and by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from pytest_slmperf.baselines.builder import PREFIX
from pytest_slmperf.contrib.importers.run import Run
from pytest_slmperf.model.result import Machine, Result, Results, Session


def results_of(results: list[Result], runs: Sequence[Run], machine: Machine) -> Results:
    """The results in a session of the time at which the first run was measured (now, where no run says it).

    The session's id follows from what the files hold, in whatever order they were given, so that the same files imported
    twice are one session of a baseline and not two.
    """
    dates = sorted(run.measured_at for run in runs if run.measured_at is not None)
    formats = " and ".join(sorted({run.format for run in runs}))
    notes = [f"imported from {formats}; measured outside this plugin, without its contamination checks"]
    digest = hashlib.sha256("".join(sorted(run.digest for run in runs)).encode()).hexdigest()[:8]
    first, last = (dates[0], dates[-1]) if dates else (datetime.now(UTC),) * 2
    if dates:
        notes.append("the files do not say their time zone; taken for UTC")
    session = Session(
        id=f"{PREFIX}{digest}",
        started_at=f"{first:%Y-%m-%dT%H:%M:%SZ}",
        finished_at=f"{last:%Y-%m-%dT%H:%M:%SZ}",
        plugin_version=version("pytest-slmperf"),
        notes=notes,
    )
    return Results(session=session, machine=machine, results=results)
