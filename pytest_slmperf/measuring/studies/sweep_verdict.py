"""What of a sweep is compared, and one verdict of the whole from the judgements of its points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_slmperf.frontier.knee import share_knee
from pytest_slmperf.frontier.pareto import Standing
from pytest_slmperf.frontier.points import Key, numeric_keys
from pytest_slmperf.frontier.records import points_of
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, at, frontier_verdict, split, volume_margin
from pytest_slmperf.measuring.judge import unjudged_record, verdict_record
from pytest_slmperf.measuring.settings import Settings
from pytest_slmperf.measuring.studies.sweep_record import WHOLE
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Gate, Judgement, Verdict, VerdictRecord
from pytest_slmperf.scenarios.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Margins:
    """Tolerances and limits of everything in one sweep that is compared."""

    scenario: Sweep
    settings: Settings

    @property
    def may_fail(self) -> bool:
        return bool(self.settings.gate) and self.settings.quarantined is None

    def of(self, name: str) -> Gate:
        """Tolerance and limit of one metric; the hypervolume's follow from the points' unless they were given."""
        gate = replace(self.settings, gate=frozenset({name})).gates(())[0]
        if name != VOLUME or name in self.settings.tolerance or name in self.settings.limit:
            return gate
        count = len(self.scenario.objectives)
        tolerance, limit = volume_margin(gate.tolerance, count), volume_margin(gate.limit, count)
        return replace(gate, tolerance=tolerance, limit=limit) if tolerance < limit else gate

    def whole(self) -> dict[str, Gate]:
        """The gates of the sweep's own metrics: the hypervolume and those that were asked for."""
        chosen = self.settings.gate if isinstance(self.settings.gate, frozenset) else frozenset()
        names = [VOLUME, *sorted(chosen & set(WHOLE) - {VOLUME})]
        return {name: replace(self.of(name), gate=self.may_fail) for name in names}

    def gates(self, keys: Sequence[Key], metered: Collection[str]) -> list[Gate]:
        """The whole sweep's gates, then each point's objectives. ``metered``: the points' energies that are compared."""
        gates = [*self.whole().values()]
        for key in keys:
            names = [*self.scenario.objectives, *([ENERGY] if at(ENERGY, key) in metered else [])]
            gates += [replace(self.of(name), metric=at(name, key), gate=self.may_fail) for name in names]
        return gates

    def at_points(self) -> dict[str, dict[str, float]]:
        """Tolerance and limit of what is compared at each point: a later comparison of the stored results needs them."""
        gates = [self.of(name) for name in (*self.scenario.objectives, ENERGY)]
        return {gate.metric: {"tolerance": gate.tolerance, "limit": gate.limit} for gate in gates}


def write_verdicts(
    result: Result,
    margins: Margins,
    judgements: Sequence[Judgement],
    standings: Mapping[str, Standing],
    unlike: Mapping[str, str],
    label: str,
) -> None:
    """The verdicts into the record: the whole sweep's, the metrics' that were asked for, and each point's own.

    ``standings``: how the baseline's points stand. ``unlike``: the points' energies of another meter, and why.
    """
    # Energy of another meter says nothing of the frontier, which is judged without it.
    comparable = [judgement for judgement in judgements if judgement.metric not in unlike]
    verdict = frontier_verdict(comparable, standings, key_name=margins.scenario.key_name)
    volume = verdict.volume
    detail = _level(volume) | {"volume": {} if volume is None else volume.detail, "margins": margins.at_points()}
    more = 0
    if verdict.verdict == Verdict.INCONCLUSIVE:
        more = max((judgement.more_launches or 0 for judgement in judgements), default=0)
    gates = margins.whole()
    result.verdicts = [verdict_record(gates[VOLUME], verdict.judgement(detail, more or None), label)]
    if unlike:
        reason = next(iter(unlike.values()))
        energy = Judgement(ENERGY, Verdict.INCOMPARABLE, reason=reason)
        result.verdicts.append(verdict_record(replace(margins.of(ENERGY), gate=margins.may_fail), energy, label))
    for judgement in judgements:
        name, key = split(judgement.metric)
        if key is None and name != VOLUME:
            result.verdicts.append(verdict_record(gates[name], judgement, label))
        for row in result.points:
            if key == str(row["key"]):
                row.setdefault("verdicts", {})[name] = _brief(judgement)
    if result.charts.sweep is not None:
        result.charts.sweep.lost = list(verdict.lost)


def _brief(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.verdict,
        "change": judgement.change,
        "ci": judgement.ci,
        "reason": judgement.reason,
    } | _level(judgement)


def _level(judgement: Judgement | None) -> dict[str, Any]:
    """Coverage of the judgement's interval, where it has one."""
    level = None if judgement is None else judgement.detail.get("interval_level")
    return {} if level is None else {"interval_level": level}


def mark_knee(result: Result, scenario: Sweep, baseline_points: Sequence[Mapping[str, Any]]) -> None:
    """The baseline's knee beside the candidate's in the frontier chart."""
    points = points_of(baseline_points, scenario.objectives)
    knee = share_knee(points, scenario.objectives[0]) if points and numeric_keys(points) else None
    for chart in result.charts.sweep.frontiers if result.charts.sweep else ():
        chart.baseline_knee = None if knee is None else knee.key


def unjudged(result: Result, settings: Settings, verdict: Verdict, reason: str) -> VerdictRecord:
    """The one verdict where there is nothing to compare with."""
    gate = settings.gates((VOLUME,))[0] if isinstance(settings.gate, bool) else settings.gates((VOLUME,))[-1]
    missing = result.metrics[VOLUME].reason or ""
    if result.metrics[VOLUME].value is None:
        verdict, reason = Verdict.INCOMPARABLE, f"not measured: {missing}"
        if missing.startswith("environment"):
            verdict, reason = Verdict.INCONCLUSIVE, missing
    return unjudged_record(replace(gate, metric=VOLUME), verdict, reason)
