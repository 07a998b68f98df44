"""A test's history as a series over sessions, with change points: for trends and the time of a change, not for the gate."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_slmperf.baselines import comparability
from pytest_slmperf.baselines.store import Store
from pytest_slmperf.environment import fingerprint as fingerprints
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.registry import REGISTRY, known
from pytest_slmperf.model.baseline import HistoryPoint
from pytest_slmperf.model.charts import HistoryChart, HistoryChartPoint
from pytest_slmperf.model.result import Machine, Result


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One session: the mean of its launch means, and the number of launches."""

    session: str
    started_at: str
    commit: str | None
    dirty: bool
    value: float
    launches: int
    engine_version: str | None
    approved: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A change point. ``index``: the first session after it; ``change``: relative; ``worse``: None without a direction."""

    index: int
    change: float
    worse: bool | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric of one test on one system, oldest session first.

    left_out:          number of sessions that are left out because they measured other work
    otherwise_metered: for energy, number of sessions that are left out because of another meter, scope or set of devices
    untold:            for energy, number of sessions that are kept although their meter is unknown (older records)
    steps:             None if change points could not be computed, for the reason in ``note``
    """

    test: str
    fingerprint: str
    metric: str
    unit: str
    points: list[TrendPoint]
    left_out: int = 0
    otherwise_metered: int = 0
    untold: int = 0
    steps: list[Step] | None = field(default_factory=list)
    note: str = ""

    def chart(self) -> HistoryChart:
        """The metric's chart in ``Result.charts.history``."""
        points = [
            HistoryChartPoint(at=point.started_at, commit=point.commit, value=point.value) for point in self.points
        ]
        return HistoryChart(points=points, changes=[step.index for step in self.steps or []])


def find(store: Store, wanted: str, fingerprint: str | None = None) -> list[tuple[str, str]]:
    """(fingerprint, test id) of every history of the test ``wanted``, a full id or a part of one.

    InvalidInput if no test matches, or if several do.
    """
    known = [
        (system, test)
        for system in store.fingerprints()
        if fingerprint is None or system.startswith(fingerprint)
        for test in store.history_tests(system)
    ]
    pairs = [pair for pair in known if pair[1] == wanted] or [pair for pair in known if wanted in pair[1]]
    tests = sorted({test for _, test in pairs})
    if not tests:
        raise InvalidInput(
            f"no history of a test like {wanted!r} in {store}; approved sessions and those with CI set are kept in it"
        )
    if len(tests) > 1:
        shown = ", ".join(tests[:4]) + (", …" if len(tests) > 4 else "")
        raise InvalidInput(f"{wanted!r} names {len(tests)} tests: {shown}")
    return pairs


def trend(store: Store, fingerprint: str, test: str, name: str) -> Trend:
    """The history of one metric, only of sessions with the work and the meter of the newest session."""
    history = store.history(fingerprint, test)
    return of_points(history, fingerprint, test, name)


def of_points(history: Sequence[HistoryPoint], fingerprint: str, test: str, name: str) -> Trend:
    same = [point for point in history if not comparability.changes(point.work, history[-1].work)]
    measured = [point for point in same if point.launches.get(name)]
    comparable = _like_the_newest(measured) if comparability.is_energy(name) else measured
    points = [
        TrendPoint(
            session=point.session,
            started_at=point.started_at,
            commit=point.commit.id,
            dirty=bool(point.commit.dirty),
            value=math.fsum(point.launches[name]) / len(point.launches[name]),
            launches=len(point.launches[name]),
            engine_version=point.engine_version,
            approved=point.approved,
        )
        for point in comparable
    ]
    registered = known(name)
    steps, note = _steps(points, name)
    return Trend(
        test,
        fingerprint,
        name,
        registered.unit if registered else "",
        points,
        left_out=len(history) - len(same),
        otherwise_metered=len(measured) - len(comparable),
        untold=sum(point.metered is None for point in comparable) if comparability.is_energy(name) else 0,
        steps=steps,
        note=note,
    )


def _like_the_newest(points: Sequence[HistoryPoint]) -> list[HistoryPoint]:
    """The points with the meter, scope and devices of the newest point for which these are known."""
    newest = next((point.metered for point in reversed(points) if point.metered is not None), None)
    return [point for point in points if comparability.unlike(point.metered, newest) is None]


def metrics_of(store: Store, fingerprint: str, test: str) -> list[str]:
    """The metrics in the history of a test, gated metrics first."""
    names = {name for point in store.history(fingerprint, test) for name in point.launches}
    gating = [name for name in REGISTRY if name in names and REGISTRY[name].gate]
    return (
        gating + [name for name in REGISTRY if name in names and name not in gating] + sorted(names - REGISTRY.keys())
    )


def charts(store: Store, machine: Machine, result: Result) -> dict[str, HistoryChart]:
    """Gated metric → history of a result's test, for its report, with this session as the last point."""
    from pytest_slmperf.baselines import builder

    fingerprint = fingerprints.of(machine, result.engine)
    history = store.history(fingerprint, result.id)
    if not history:
        return {}
    means = builder.launch_means(result)
    now = HistoryPoint(
        session="this session",
        started_at="",
        work=comparability.work_of(result),
        launches=means,
        metered=comparability.metered_of(result.energy),
    )
    charts = {}
    for name in means:
        if name in REGISTRY and REGISTRY[name].gate:
            trend = of_points([*history, now], fingerprint, result.id, name)
            if len(trend.points) > 1:
                charts[name] = trend.chart()
    return charts


def _steps(points: Sequence[TrendPoint], name: str) -> tuple[list[Step] | None, str]:
    if importlib.util.find_spec("otava") is None:
        return None, "change points need apache-otava: pip install 'pytest-slmperf[history]'"
    from pytest_slmperf.statistics.changepoints import LEAST_POINTS, change_points

    if len(points) < LEAST_POINTS:
        return [], f"change points need at least {LEAST_POINTS} sessions"
    if any(point.value <= 0 for point in points):
        return None, "some readings are 0, which have no relative change"
    registered = known(name)
    better = registered.better if registered else "none"
    return [
        Step(
            index=change_point.index,
            change=change_point.change,
            worse=None if better == "none" else (change_point.change < 0) == (better == "higher"),
            p_value=change_point.p_value,
        )
        for change_point in change_points([point.value for point in points])
    ], ""
