"""From a measured result to what a baseline and the history hold of it. Pure functions, shared by every store."""

from __future__ import annotations

import re
from typing import Any

from pytest_slmperf.baselines import codec, comparability, energy_comparability, import_dedup
from pytest_slmperf.baselines.distribution import distributions
from pytest_slmperf.baselines.json_format import rounded
from pytest_slmperf.baselines.store import KEPT_SESSIONS, Mode, usable_rounds
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.baseline import Baseline, BaselineMetric, BaselineSession, HistoryPoint
from pytest_slmperf.model.result import Engine, Machine, Result, Session
from pytest_slmperf.model.verdict import Verdict

# Facts that say something of one process only, or that are too long for a file people read.
_PASSING_FACTS = frozenset({"pid", "pids", "port", "ports", "log_path", "cwd", "argv", "executable", "env"})

# How an endpoint is reached says nothing of what answers there; a port that changes with every start must not matter.
_WAY_THERE = frozenset({"endpoint", "key_env", "ca_file", "insecure"})


def from_result(
    name: str, result: Result, session: Session, machine: Machine, reason: str | None, approved_at: str | None
) -> Baseline:
    """A baseline of one session. InvalidInput when nothing was measured or a value is not a finite number ≥ 0."""
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
    """The clean rounds of every launch of a result. InvalidInput when there is none."""
    metrics = {}
    for metric, value in result.metrics.items():
        launches = usable_rounds(result.id, metric, value.launches)
        if launches:
            metrics[metric] = BaselineMetric(
                unit=value.unit, better=value.better, launches=launches, bounds=energy_bounds(result, metric)
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
        metered=energy_comparability.metered_of(result.energy),
        launch_s=None if _is_duet(result) else result.launch_s,
    )


def merged(old: Baseline | None, new: Baseline, mode: Mode, result: Result) -> Baseline:
    """The stored baseline with a new session in it.

    ``auto`` keeps the older sessions beside the new one unless the two must not be mixed: the work, the engine version
    or its settings changed, or a verdict said that the candidate is faster or slower. A launch that was imported before
    counts once: the old baseline itself is returned where the new session has no other, unless it is to be approved; and
    where the new session is older than all that are kept.
    """
    if old is None or mode == "replace" or (mode == "auto" and _replaces(old, new, result)):
        return new
    others, known = import_dedup.once([kept for kept in old.sessions if kept.id != new.newest.id], new.newest)
    if known and new.newest.approved_at is None:
        return old
    sessions = [*others, new.newest]
    sessions.sort(key=lambda kept: kept.started_at)
    kept = sessions[-KEPT_SESSIONS:]
    if new.newest not in kept:
        return old
    new.sessions = kept
    return new


def point_of(result: Result, session: Session, approved: bool) -> HistoryPoint:
    """What the history keeps of a session: launch means, so that years of it stay small."""
    return HistoryPoint(
        session=session.id,
        started_at=session.started_at,
        commit=session.commit,
        approved=approved,
        engine_version=result.engine.version,
        work=comparability.work_of(result),
        launches=launch_means(result),
        metered=energy_comparability.metered_of(result.energy),
    )


def launch_means(result: Result) -> dict[str, list[float]]:
    """Metric → mean of the clean rounds of each launch, of what was measured."""
    means = {}
    for metric, value in result.metrics.items():
        launches = usable_rounds(result.id, metric, value.launches)
        if launches:
            means[metric] = [sum(rounds) / len(rounds) for rounds in launches]
    return means


def energy_bounds(result: Result, metric: str) -> list[float]:
    """Relative error bound of an energy metric, one per launch that has rounds; empty for every other metric.

    Bounds of windows add up, so the whole measurement's bound over its joules is the mean bound of its launches.
    """
    whole = result.energy
    if not re.search(r"energy|power", metric) or not whole.joules or whole.bound_j is None:
        return []
    return [whole.bound_j / whole.joules for rounds in result.metrics[metric].launches if rounds]


def _replaces(old: Baseline, new: Baseline, result: Result) -> bool:
    # A duet's verdicts are about its other side, not about what is stored.
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
    """The engine without what belongs to one process or one place: pids, ports, durations, folders, secrets.

    Two launches of the same engine are equal in this form, so whatever differs is worth naming.
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
        return {str(key): _scrubbed(item) for key, item in value.items() if not comparability.is_secret(str(key))}
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
