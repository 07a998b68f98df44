"""Imported launches that stand in two sessions of a baseline: a file that was imported alone and with others.

Counted twice, a launch would make the spread between launches look smaller than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_slmperf.baselines.json_format import rounded
from pytest_slmperf.model.baseline import BaselineSession

PREFIX = "import-"  # of the ids that sessions of imported files have

Launch = dict[str, list[float]]  # metric → rounds


def once(others: Sequence[BaselineSession], new: BaselineSession) -> tuple[list[BaselineSession], bool]:
    """The other sessions without the launches that are in ``new`` too (a session of which none is left goes), and whether
    they hold every launch of ``new``. Sessions that were measured, not imported, stay as they are."""
    if not new.id.startswith(PREFIX):
        return list(others), False
    mine = launches_of(new)
    seen_before = [False] * len(mine)
    kept = []
    for session in others:
        if not session.id.startswith(PREFIX):
            kept.append(session)
            continue
        theirs = launches_of(session)
        again = [any(_same(launch, own) for own in mine) for launch in theirs]
        seen_before = [
            seen or any(_same(own, launch) for launch in theirs) for seen, own in zip(seen_before, mine, strict=True)
        ]
        if not all(again):
            kept.append(_without(session, again))
    return kept, all(seen_before)


def launches_of(session: BaselineSession) -> list[Launch]:
    """The session's launches one by one; all as one where a metric was not read in every launch, so that which readings
    belong together is not known."""
    metrics = {name: rounded(metric.launches) for name, metric in session.metrics.items()}  # as a file holds them
    counts = {len(launches) for launches in metrics.values()}
    if len(counts) != 1:
        return [{name: [value for rounds in launches for value in rounds] for name, launches in metrics.items()}]
    return [{name: launches[number] for name, launches in metrics.items()} for number in range(counts.pop())]


def _same(a: Launch, b: Launch) -> bool:
    """Equal in every reading that both have: two runs do not agree in all of them to six digits."""
    common = a.keys() & b.keys()
    return bool(common) and all(a[name] == b[name] for name in common)


def _without(session: BaselineSession, again: Sequence[bool]) -> BaselineSession:
    if not any(again):
        return session
    left = [number for number, repeated in enumerate(again) if not repeated]
    metrics = {
        name: msgspec.structs.replace(
            metric,
            launches=[metric.launches[number] for number in left],
            bounds=[metric.bounds[number] for number in left] if metric.bounds else [],
        )
        for name, metric in session.metrics.items()
    }
    return msgspec.structs.replace(session, metrics=metrics)
