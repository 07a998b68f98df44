"""Judge a sweep against its baseline: every point's objectives and the whole, then one verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pytest_slmperf.baselines import sweeps
from pytest_slmperf.baselines.lookup import Found
from pytest_slmperf.frontier.knee import share_knee
from pytest_slmperf.frontier.pareto import Standing
from pytest_slmperf.frontier.points import Key, numeric_keys
from pytest_slmperf.frontier.records import points_of
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, at, frontier_verdict, split, volume_margin
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.measuring.settings import Settings
from pytest_slmperf.measuring.sweep_record import WHOLE, Side, series
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample, Verdict, VerdictRecord
from pytest_slmperf.scenarios.sweep import Sweep
from pytest_slmperf.statistics.variance import VariancePrior

Samples = dict[str, list[LaunchSample]]
Prior = Callable[[Sequence[str]], VariancePrior]


def standings_of(found: Found, scenario: Sweep) -> dict[str, Standing]:
    """How the baseline's points stand among themselves; empty without a baseline."""
    if found.baseline is None:
        return {}
    return sweeps.standings_of(found.baseline, dict(scenario.varied), scenario.objectives)


class Judge:
    """Compares a sweep's launches with the baseline's; the sweep's error share is divided over all comparisons."""

    def __init__(
        self,
        scenario: Sweep,
        settings: Settings,
        alpha: float,
        mode: Literal["stored", "duet"],
        baseline_standings: Mapping[str, Standing],
        prior: Prior,
    ) -> None:
        self.scenario, self.settings, self.alpha, self.mode = scenario, settings, alpha, mode
        self.standings = baseline_standings
        self.prior = prior
        self._stored: Samples = {}
        self._unlike: dict[str, str] = {}  # the points' energy that was counted on something else, and on what
        self._other: list[dict[str, Any]] = []  # the other side's points, in a duet

    def stored(self, found: Found, keys: Sequence[Key]) -> None:
        """Take the baseline's samples; the sweep's own metrics are computed anew over the points both sides have."""
        assert found.baseline is not None
        names = [at(name, key) for key in keys for name in (*self.scenario.objectives, ENERGY)]
        self._stored = {name: samples for name in [*names, *WHOLE] if (samples := found.samples(name))}
        self._unlike = {name: why for name in names if (why := found.unlike(name))}

    def run(
        self, candidate: Side, baseline: Side | None, keys: Sequence[Key], more: Callable[[int], bool]
    ) -> list[Judgement]:
        """Judgements of every comparison, measuring on through ``more`` while verdicts are open."""
        own = self._samples(candidate, keys)
        self._other = [] if baseline is None else baseline.records(self.scenario)
        base = self._stored if baseline is None else self._samples(baseline, keys)
        wanted = self._gates(keys)
        gates = [gate for gate in wanted if own.get(gate.metric) and base.get(gate.metric)]
        result = [self._unmeasured(gate, own, base, candidate) for gate in wanted if gate not in gates]
        if not gates:
            return result
        comparison = Comparison(
            gates,
            {} if self.mode == "duet" else base,
            alpha=self.alpha / len(gates),
            mode=self.mode,
            prior=self._priors([gate.metric for gate in gates]),
            max_launches=max(Comparison.first_launches, self.settings.max_launches),
        )
        final = False
        while True:
            decision = comparison.decide(own, base if self.mode == "duet" else None, final=final)
            if decision.done or final:
                return [*result, *decision.judgements]
            if decision.hopeless:
                final = True  # the time is the other tests': say what can be said now
                continue
            final = not more(max(1, decision.next_launches))
            own = self._samples(candidate, keys)
            if baseline is not None:
                base = self._samples(baseline, keys)

    def _priors(self, names: Sequence[str]) -> dict[str, VariancePrior]:
        """One prior per metric: throughput, latency and hypervolume scatter unlike each other, one metric's points alike."""
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(split(name)[0], []).append(name)
        priors = {base: self.prior([base, *points]) for base, points in alike.items()}
        return {name: priors[split(name)[0]] for name in names}

    def write(self, result: Result, judged: Sequence[Judgement], found: Found | None) -> None:
        """Verdicts, the points' own judgements and the chart's baseline into the record."""
        label = "duet" if found is None else found.label
        # Energy of another meter says nothing of the frontier, which is judged without it.
        moved = [one for one in judged if one.metric not in self._unlike]
        verdict = frontier_verdict(moved, self.standings, key_name=self.scenario.key_name)
        volume = verdict.volume
        gate = next(gate for gate in self._gates(()) if gate.metric == VOLUME)
        more = (
            max((one.more_launches or 0 for one in judged), default=0) if verdict.verdict == Verdict.INCONCLUSIVE else 0
        )
        result.verdicts = [
            VerdictRecord(
                metric=VOLUME,
                verdict=verdict.verdict,
                change=None if volume is None else volume.change,
                ci=None if volume is None else volume.ci,
                baseline=label,
                tolerance=gate.tolerance,
                limit=gate.limit,
                gate=gate.gate,
                reason=verdict.reason,
                detail=verdict.detail()
                | _level(volume)
                | {"volume": {} if volume is None else volume.detail, "margins": self._point_margins()},
                more_launches=more or None,
            )
        ]
        if self._unlike:
            result.verdicts.append(self._energy_elsewhere(label))
        for one in judged:
            name, key = split(one.metric)
            brief = {"verdict": one.verdict, "change": one.change, "ci": one.ci, "reason": one.reason} | _level(one)
            if key is None and name != VOLUME:
                own = next(gate for gate in self._gates(()) if gate.metric == name)
                result.verdicts.append(
                    VerdictRecord(
                        metric=name, verdict=one.verdict, change=one.change, ci=one.ci, baseline=label,
                        tolerance=own.tolerance, limit=own.limit, gate=own.gate, reason=one.reason, detail=one.detail,
                        more_launches=one.more_launches,
                    )
                )  # fmt: skip
            for row in result.points:
                if key == str(row["key"]):
                    row.setdefault("verdicts", {})[name] = brief
        assert result.charts.sweep is not None
        result.charts.sweep.lost = list(verdict.lost)
        self._mark_old_knee(result, found)
        if found is not None:
            from pytest_slmperf.measuring.baseline_side import stored_side

            result.baseline = stored_side(found)
            result.baseline.points = self._records(found)

    def _energy_elsewhere(self, label: str) -> VerdictRecord:
        """One verdict for the energy of all points where the baseline's was counted on something else."""
        margins = self._margins(ENERGY)
        gate = bool(self.settings.gate) and self.settings.quarantined is None
        return VerdictRecord(
            metric=ENERGY, verdict=Verdict.INCOMPARABLE, baseline=label, tolerance=margins.tolerance, limit=margins.limit,
            gate=gate, reason=next(iter(self._unlike.values())),
        )  # fmt: skip

    def _records(self, found: Found) -> list[dict[str, Any]]:
        assert found.baseline is not None
        return sweeps.stored_records(found.baseline, dict(self.scenario.varied))

    def _mark_old_knee(self, result: Result, found: Found | None) -> None:
        """The baseline's knee beside the candidate's in the frontier chart."""
        records = self._records(found) if found is not None else self._other
        points = points_of(records, self.scenario.objectives)
        knee = share_knee(points, self.scenario.objectives[0]) if points and numeric_keys(points) else None
        for chart in result.charts.sweep.frontiers if result.charts.sweep else ():
            chart.baseline_knee = None if knee is None else knee.key

    def _gates(self, keys: Sequence[Key]) -> list[Gate]:
        """Margins of every comparison: the whole sweep's metrics and each point's objectives (and energy, where read)."""
        chosen = self.settings.gate if isinstance(self.settings.gate, frozenset) else frozenset()
        whole = [VOLUME, *sorted(chosen & set(WHOLE) - {VOLUME})]
        may_fail = bool(self.settings.gate) and self.settings.quarantined is None
        gates = [replace(self._margins(name), gate=may_fail) for name in whole]
        for key in keys:
            for name in self.scenario.objectives:
                gates.append(replace(self._margins(name), metric=at(name, key), gate=may_fail))
            if at(ENERGY, key) in self._stored or at(ENERGY, key) in self._unlike:
                gates.append(replace(self._margins(ENERGY), metric=at(ENERGY, key), gate=may_fail))
        return gates

    def _point_margins(self) -> dict[str, dict[str, float]]:
        """Tolerance and limit of what is judged at each point: a later comparison of the stored results needs them."""
        gates = [self._margins(name) for name in (*self.scenario.objectives, ENERGY)]
        return {gate.metric: {"tolerance": gate.tolerance, "limit": gate.limit} for gate in gates}

    def _margins(self, name: str) -> Gate:
        """Tolerance and limit of one metric; the hypervolume's follow from the points' unless they were given."""
        gate = replace(self.settings, gate=frozenset({name})).gates(())[0]
        if name != VOLUME or name in self.settings.tolerance or name in self.settings.limit:
            return gate
        count = len(self.scenario.objectives)
        tolerance, limit = volume_margin(gate.tolerance, count), volume_margin(gate.limit, count)
        return replace(gate, tolerance=tolerance, limit=limit) if tolerance < limit else gate

    def _samples(self, side: Side, keys: Sequence[Key]) -> Samples:
        duet = self.mode == "duet"
        session = next((one[0].launch.session for one in side.measured.values() if one), None) or ""
        return {
            name: [
                LaunchSample(rounds=tuple(rounds), session=session, pair=index if duet else None)
                for index, rounds in enumerate(launches)
                if rounds
            ]
            for name, launches in series(side, self.scenario, keys).items()
        }

    def _unmeasured(self, gate: Gate, own: Samples, base: Samples, side: Side) -> Judgement:
        """No numbers on one side: a point that failed now, or one that the baseline does not have."""
        key = split(gate.metric)[1]
        why = next((why for spoilt, why in side.disturbed.items() if key in (None, str(spoilt))), None)
        if why is not None and not own.get(gate.metric):
            return Judgement(gate.metric, Verdict.INCONCLUSIVE, None, None, f"environment: {why}")
        if own.get(gate.metric) and gate.metric in self._unlike:
            return Judgement(gate.metric, Verdict.INCOMPARABLE, None, None, self._unlike[gate.metric])
        if not base.get(gate.metric):
            lacking = "the baseline has no" if own.get(gate.metric) else "neither side has a usable"
            return Judgement(gate.metric, Verdict.NEW, None, None, f"{lacking} reading of it")
        key = split(gate.metric)[1]
        why = next(
            (why for failed, why in side.failures.items() if str(failed) == key), "no clean reading, or preemptions"
        )
        return Judgement(gate.metric, Verdict.INCOMPARABLE, None, None, f"not measured now: {why}")


def _level(judgement: Judgement | None) -> dict[str, Any]:
    """Coverage of the judgement's interval, where it has one."""
    level = None if judgement is None else judgement.detail.get("interval_level")
    return {} if level is None else {"interval_level": level}
