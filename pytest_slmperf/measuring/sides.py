"""The two sides of a measurement: points and launches of a measured side, and the baseline's side for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_slmperf.baselines import builder
from pytest_slmperf.baselines.builder import pooled
from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.frontier.points import Key
from pytest_slmperf.measuring.launch import Measured
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import BaselineReading, BaselineSide, Result, SideEnergy
from pytest_slmperf.model.verdict import Difference
from pytest_slmperf.scenarios.sweep import SweepPoint

# A measured side.


@dataclass(frozen=True, slots=True)
class Against:
    """The engine of the baseline's side in a duet, its label in verdicts, and the commit that defines it, if one does."""

    spec: EngineSpec
    label: str = "duet"
    commit: str | None = None


@dataclass
class Side:
    """The points of one side by key (a plain scenario has a single point). ``measured``: usable launches of each point."""

    role: Literal["candidate", "baseline"]
    points: dict[Key, SweepPoint]
    measured: dict[Key, list[Measured]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)  # why a point failed permanently
    disturbed: dict[Key, str] = field(default_factory=dict)  # why a launch of a point was unusable
    seconds: dict[Key, float] = field(default_factory=dict)  # duration of a point's first measurement
    facts: dict[str, Any] = field(default_factory=dict)  # of the engine that ran last
    log_tail: str = ""


# The baseline's side in the report.


def stored_side(match: BaselineMatch) -> BaselineSide:
    """Summary of a stored baseline: the launches of all its sessions, one value per metric (mean of launch means).

    Energy from another meter or other devices than the candidate's is left out, because charts would show both together.
    """
    baseline = match.baseline
    assert baseline is not None
    newest = baseline.newest
    launches: dict[str, list[list[float]]] = {}
    for session in baseline.sessions:
        for name, kept in session.metrics.items():
            if session in match.sessions(name):
                launches.setdefault(name, []).extend(list(rounds) for rounds in kept.launches)
    metrics = {}
    for name, rows in launches.items():
        unit = newest.metrics[name].unit if name in newest.metrics else ""
        metrics[name] = BaselineReading(unit=unit, launches=rows)
        metrics[name].value = metrics[name].reading
    return BaselineSide(
        name=match.label,
        commit=newest.commit.id,
        saved_at=newest.approved_at or newest.started_at,
        sessions=len(baseline.sessions),
        engine={"version": newest.engine_version},
        metrics=metrics,
        samples={**pooled(baseline.sessions)},
    )


def duet_side(base: Result, against: Against) -> BaselineSide:
    """Summary of the other side of a duet, measured in this session."""
    return BaselineSide(
        name=against.label,
        commit=against.commit,
        engine={"name": base.engine.name, "version": base.engine.version, "settings": base.engine.settings},
        metrics={
            name: BaselineReading(unit=item.unit, value=item.value, launches=item.launches)
            for name, item in base.metrics.items()
            if item.value is not None
        },
        samples=base.samples,
        energy=SideEnergy(joules=base.energy.joules, bound_j=base.energy.bound_j, source=base.energy.source),
    )


def duet_differences(base: Result, candidate: Result) -> list[Difference]:
    """Differences between the engines of both sides, with the report's names.

    Facts that differ between launches of one engine (process ids, durations) are left out.
    """
    old, new = builder.stable(base.engine), builder.stable(candidate.engine)
    pairs = {
        "engine version": (old.version, new.version),
        "engine": (old.name, new.name),
        "model": (old.model, new.model),
        "weights": (old.weights, new.weights),
        "dtype": (old.dtype, new.dtype),
        "device": (old.device, new.device),
    }
    for group, left, right in (("setting", old.settings, new.settings), ("fact", old.facts, new.facts)):
        for key in sorted({*left, *right} - {"settings"}):
            old_value, new_value = left.get(key), right.get(key)
            if isinstance(old_value, dict) and isinstance(new_value, dict):
                for part in sorted({*old_value, *new_value}):
                    pairs[f"{group} {key} {part}"] = (old_value.get(part), new_value.get(part))
            else:
                pairs[f"{group} {key}"] = (old_value, new_value)
        for key in sorted({*left.get("settings", {}), *right.get("settings", {})}):
            pairs[f"engine argument {key}"] = (left.get("settings", {}).get(key), right.get("settings", {}).get(key))
    variables, others = old.environment or {}, new.environment or {}
    for key in sorted({*variables, *others}):
        pairs[f"environment {key}"] = (variables.get(key), others.get(key))
    return [Difference(what=what, baseline=old, candidate=new) for what, (old, new) in pairs.items() if old != new]
