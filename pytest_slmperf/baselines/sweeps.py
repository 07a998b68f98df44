"""A stored sweep: its points from the launches that a baseline keeps, and its verdict against a fresh one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.frontier.pareto import Standing, standings
from pytest_slmperf.frontier.records import goals_of, point_record, points_of
from pytest_slmperf.frontier.regression import split
from pytest_slmperf.model.baseline import Baseline


def stored_records(baseline: Baseline, varied: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The points with the launches of all sessions, as they would stand in ``Result.points``.

    ``varied``: swept setting → its values; keys are read as those values where their text is the same.
    """
    launches: dict[str, dict[str, list[list[float]]]] = {}
    for session in baseline.sessions:
        for name, kept in session.metrics.items():
            base, key = split(name)
            if key is not None:
                launches.setdefault(key, {}).setdefault(base, []).extend(list(rounds) for rounds in kept.launches)
    candidates = {str(value): value for values in varied.values() for value in values}
    return [point_record(candidates.get(key, key), samples) for key, samples in launches.items()]


def standings_of(
    baseline: Baseline, varied: Mapping[str, Sequence[Any]], objectives: Sequence[str]
) -> dict[str, Standing]:
    """Key as text → how the baseline's points stand among themselves."""
    points = points_of(stored_records(baseline, varied), objectives)
    ranks = standings(points, goals_of(objectives))
    return {str(point.key): rank for point, rank in zip(points, ranks, strict=True)}
