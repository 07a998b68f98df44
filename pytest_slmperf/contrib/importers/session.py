"""The session that imported results stand in: when they were measured, and by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pytest_slmperf.baselines.import_dedup import PREFIX
from pytest_slmperf.contrib.importers.runs import Run
from pytest_slmperf.model.result import Machine, Result, Results, Session

NOTES = [
    "imported from vllm bench; measured outside this plugin, without its contamination checks",
]


def results_of(results: list[Result], runs: Sequence[Run], machine: Machine) -> Results:
    """The results in a session of the time at which the first run was measured (now, where no run says it).

    The session's id follows from what the files hold, in whatever order they were given, so that the same files imported
    twice are one session of a baseline and not two.
    """
    dates = sorted(date for run in runs if (date := _date(run.fields.get("date"))) is not None)
    digest = hashlib.sha256("".join(sorted(run.digest for run in runs)).encode()).hexdigest()[:8]
    first, last = (dates[0], dates[-1]) if dates else (datetime.now(UTC),) * 2
    notes = [*NOTES, "the files do not say their time zone; taken for UTC"] if dates else list(NOTES)
    session = Session(
        id=f"{PREFIX}{digest}",
        started_at=f"{first:%Y-%m-%dT%H:%M:%SZ}",
        finished_at=f"{last:%Y-%m-%dT%H:%M:%SZ}",
        plugin_version=version("pytest-slmperf"),
        notes=notes,
    )
    return Results(session=session, machine=machine, results=results)


def _date(text: Any) -> datetime | None:
    """``20261123-150000``, as vllm bench serve writes it."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M%S")
    except (TypeError, ValueError):
        return None
