"""The session record of imported results: when they were measured, and by which tools."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from pytest_slmperf.baselines.builder import PREFIX
from pytest_slmperf.contrib.importers.run import Run
from pytest_slmperf.model.result import Machine, Result, Results, Session


def results_of(results: list[Result], runs: Sequence[Run], machine: Machine) -> Results:
    """The results in a session of the time at which the first run was measured; now, if no run has a time.

    The session's id is made from the content of the files in any order, so that importing the same files twice adds one
    session to a baseline.
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
