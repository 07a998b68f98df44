"""From a session's results to a baseline and its history: launches, latency distributions, points of sweeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from pytest_slmperf import redaction
from pytest_slmperf.baselines import codec, comparability
from pytest_slmperf.baselines.codec import rounded, usable_rounds
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.pareto import Standing, standings
from pytest_slmperf.frontier.points import goals_of, point_record, points_of
from pytest_slmperf.frontier.regression import split_point_metric
from pytest_slmperf.model.baseline import Baseline, BaselineMetric, BaselineSession, Distribution, HistoryPoint
from pytest_slmperf.model.charts import LatencySample, Samples, sample_of
from pytest_slmperf.model.result import Engine, Machine, Result, Session
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.util.quantiles import percentiles

KEPT_SESSIONS = 8  # newest sessions kept in a baseline: enough to estimate the variance between sessions

# The older sessions of a baseline are dropped ("replace"), kept beside the new one ("extend"), or either ("auto"),
# depending on the verdicts.
Mode = Literal["auto", "extend", "replace"]

# Facts of a single process, and facts that are too long for a file that people read.
_PASSING_FACTS = frozenset({"pid", "pids", "port", "ports", "log_path", "cwd", "argv", "executable", "env"})

# Settings of the connection to an endpoint do not characterise the engine; a port may change with every start.
_WAY_THERE = frozenset({"endpoint", "key_env", "ca_file", "insecure"})


def from_result(
    name: str, result: Result, session: Session, machine: Machine, reason: str | None, approved_at: str | None
) -> Baseline:
    """A baseline of one session. InvalidInput if nothing was measured or a value is not a finite number ≥ 0."""
    new = session_of(result, session, reason, approved_at)
    return Baseline(
        id=result.id,
        name=name,
        fingerprint=fingerprint.of(machine, result.engine),
        identity=fingerprint.identity(machine, result.engine),
        work=comparability.work_of(result),
        engine=stable(result.engine),
        machine=machine,
        sessions=[new],
    )


def session_of(result: Result, session: Session, reason: str | None, approved_at: str | None) -> BaselineSession:
    """The clean rounds of every launch of a result. InvalidInput if there is none."""
    metrics = {}
    for metric, value in result.metrics.items():
        launches = usable_rounds(result.id, metric, value.launches)
        if launches:
            metrics[metric] = BaselineMetric(
                unit=value.unit,
                better=value.better,
                launches=launches,
                bounds=energy_bounds(result, metric),
                hosts=value.hosts if len(value.hosts) == len(launches) else [],
            )
            codec.check(result.id, metric, metrics[metric])
    if not metrics:
        raise InvalidInput(f"{result.id}: nothing was measured, so there is nothing to save ({_why_empty(result)})")
    return BaselineSession(
        id=session.id,
        started_at=session.started_at,
        commit=session.commit,
        approved_at=approved_at,
        reason=reason,
        engine_version=result.engine.version,
        plugin_version=session.plugin_version,
        metrics=metrics,
        distributions=distributions(result.samples),
        doubts={
            metric: value.reason
            for metric, value in sorted(result.metrics.items())
            if value.reason and (value.gate or value.launches)
        },
        metered=comparability.metered_of(result.energy),
        launch_s=None if _is_duet(result) else result.launch_s,
    )


def merged(old: Baseline | None, new: Baseline, mode: Mode, result: Result) -> Baseline:
    """The stored baseline with a new session in it.

    ``auto`` keeps the older sessions unless they must not be mixed with the new one: the work, the engine version or its
    settings have changed, or the candidate is faster or slower by a verdict. A launch that was imported before counts
    once. Returned is the old baseline itself if the new session has no further launch (and is not being approved), or if
    it is older than all sessions that are kept. The oldest sessions go if the baseline grew too large to be read.
    """
    if old is None or mode == "replace" or (mode == "auto" and _replaces(old, new, result)):
        return new
    others, known = without_repeats([kept for kept in old.sessions if kept.id != new.newest.id], new.newest)
    if known and new.newest.approved_at is None:
        return old
    sessions = [*others, new.newest]
    sessions.sort(key=lambda kept: kept.started_at)
    kept = sessions[-KEPT_SESSIONS:]
    if new.newest not in kept:
        return old
    new.sessions = kept
    return codec.fitting(new)


def point_of(result: Result, session: Session, approved: bool) -> HistoryPoint:
    """A session's entry in the history: only launch means, so that years of history stay small."""
    return HistoryPoint(
        session=session.id,
        started_at=session.started_at,
        commit=session.commit,
        approved=approved,
        engine_version=result.engine.version,
        work=comparability.work_of(result),
        launches=launch_means(result),
        metered=comparability.metered_of(result.energy),
    )


def launch_means(result: Result) -> dict[str, list[float]]:
    """Measured metric → mean of the clean rounds of each launch."""
    means = {}
    for metric, value in result.metrics.items():
        launches = usable_rounds(result.id, metric, value.launches)
        if launches:
            means[metric] = [sum(rounds) / len(rounds) for rounds in launches]
    return means


def energy_bounds(result: Result, metric: str) -> list[float]:
    """Relative error bound of an energy metric, one per launch with rounds; empty for every other metric.

    Bounds of windows add up, so that the whole measurement's bound ÷ joules is the mean bound of its launches.
    """
    whole = result.energy
    if not re.search(r"energy|power", metric) or not whole.joules or whole.bound_j is None:
        return []
    return [whole.bound_j / whole.joules for rounds in result.metrics[metric].launches if rounds]


def _replaces(old: Baseline, new: Baseline, result: Result) -> bool:
    # The verdicts of a duet compare with its other side, not with the stored baseline.
    changed = (
        set()
        if _is_duet(result)
        else {verdict.verdict for verdict in result.verdicts} & {Verdict.REGRESSED, Verdict.IMPROVED}
    )
    return (
        bool(changed)
        or bool(comparability.changes(old.work, new.work))
        or old.identity != new.identity
        or old.engine.version != new.engine.version
        or rounded(old.engine.settings) != rounded(new.engine.settings)
    )


def _is_duet(result: Result) -> bool:
    return any(launch.side == "baseline" for launch in result.launches)


def stable(engine: Engine) -> Engine:
    """The engine without facts of one process or place: pids, ports, durations, folders, secrets.

    Launches of the same engine are equal in this form, so that every difference is worth reporting.
    """
    import msgspec

    facts = {key: value for key, value in engine.facts.items() if key not in _PASSING_FACTS and not key.endswith("_s")}
    settings = {key: value for key, value in engine.settings.items() if key != "python"}
    if isinstance(own := settings.get("settings"), dict):
        settings["settings"] = {key: value for key, value in own.items() if key not in _WAY_THERE}
    return msgspec.structs.replace(
        engine, model=comparability.model_name(engine.model), facts=_scrubbed(facts), settings=_scrubbed(settings)
    )


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _scrubbed(item) for key, item in value.items() if not redaction.is_secret(str(key))}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item) for item in value]
    return comparability.model_name(value) if isinstance(value, str) else value


def _why_empty(result: Result) -> str:
    if result.failure:
        return result.failure
    if result.discarded_rounds and result.notes:  # disturbed launches: the notes name the evidence
        return "; ".join(result.notes)
    reasons = {name: value.reason for name, value in result.metrics.items() if value.reason}
    return reasons.get("output_throughput") or next(iter(reasons.values()), "no rounds were kept")


# Latency distributions: a baseline keeps percentiles, never single requests.

LEVELS = 101  # 0 %, 1 %, … 100 %: they include p99 and both ends, and fit on one line of a diff
_DIGITS = 4


def distributions(samples: Samples) -> dict[str, Distribution]:
    """Each latency of ``Result.samples`` as at most ``LEVELS`` quantiles.

    With fewer values than levels, the quantiles are the values themselves.
    """
    distributions = {}
    for name in samples:
        sample = sample_of(samples, name)
        values = [value for value in sample.values if value >= 0]
        if values:
            levels = min(LEVELS, len(values))
            distributions[name] = Distribution(unit=sample.unit, quantiles=_at(values, levels))
    return distributions


def pooled(sessions: Sequence[BaselineSession]) -> dict[str, LatencySample]:
    """The distributions of all sessions together, with equal weights of the sessions, in the shape of ``Result.samples``."""
    rows: dict[str, list[Distribution]] = {}
    for session in sessions:
        for name, distribution in session.distributions.items():
            if distribution.quantiles:
                rows.setdefault(name, []).append(distribution)
    samples = {}
    for name, several in rows.items():
        alike = len({len(distribution.quantiles) for distribution in several}) == 1
        values = sorted(
            value
            for distribution in several
            for value in (distribution.quantiles if alike else _at(sorted(distribution.quantiles), LEVELS))
        )
        quantiles = _at(values, min(2 * LEVELS - 1, len(values)))
        samples[name] = LatencySample(unit=several[-1].unit, values=quantiles)
    return samples


def _at(ordered: Sequence[float], levels: int) -> list[float]:
    """Quantiles of a rising, non-empty sequence at evenly spaced levels, both ends included."""
    shares = [index / (levels - 1) for index in range(levels)] if levels > 1 else [0.5]
    return [float(f"{value:.{_DIGITS}g}") for value in percentiles(ordered, shares)]


# Points of a stored sweep, from the launches that a baseline keeps.


def stored_records(baseline: Baseline, varied: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The points with the launches of all sessions, in the form of ``Result.points``.

    ``varied``: swept setting → its values, with which keys are identified by their text.
    """
    launches: dict[str, dict[str, list[list[float]]]] = {}
    for session in baseline.sessions:
        for name, kept in session.metrics.items():
            base, key = split_point_metric(name)
            if key is not None:
                launches.setdefault(key, {}).setdefault(base, []).extend(list(rounds) for rounds in kept.launches)
    candidates = {str(value): value for values in varied.values() for value in values}
    return [point_record(candidates.get(key, key), samples) for key, samples in launches.items()]


def standings_of(
    baseline: Baseline, varied: Mapping[str, Sequence[Any]], objectives: Sequence[str]
) -> dict[str, Standing]:
    """Key as text → standing of the point among the baseline's points."""
    points = points_of(stored_records(baseline, varied), objectives)
    ranks = standings(points, goals_of(objectives))
    return {str(point.key): rank for point, rank in zip(points, ranks, strict=True)}


# Imported launches that are in two sessions of a baseline, because a file was imported alone and together with others. A
# launch that counts twice would make the variance between launches look smaller.

PREFIX = "import-"  # of the ids of imported sessions

Launch = dict[str, list[float]]  # metric → rounds


def without_repeats(others: Sequence[BaselineSession], new: BaselineSession) -> tuple[list[BaselineSession], bool]:
    """The other sessions without the launches that are in ``new`` too, and whether they had every launch of ``new``.

    A session without remaining launches is left out; measured (not imported) sessions stay as they are.
    """
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
    """The session's launches one by one; or all as one launch if some launches lack a metric, since the correspondence
    of readings to launches is then unknown."""
    metrics = {name: rounded(metric.launches) for name, metric in session.metrics.items()}  # as in a file
    counts = {len(launches) for launches in metrics.values()}
    if len(counts) != 1:
        return [{name: [value for rounds in launches for value in rounds] for name, launches in metrics.items()}]
    return [{name: launches[number] for name, launches in metrics.items()} for number in range(counts.pop())]


def _same(a: Launch, b: Launch) -> bool:
    """Whether the launches are equal in every common reading; different runs never agree in all to six digits."""
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
