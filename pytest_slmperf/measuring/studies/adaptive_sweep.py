"""Measuring a sweep: the choice of its points, launch by launch, until the frontier's verdict is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pytest_slmperf.baselines import builder
from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.frontier.adaptive_grid import Work, coarse_grid, in_few_starts, next_step
from pytest_slmperf.frontier.pareto import Standing
from pytest_slmperf.frontier.points import Key
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, point_metric, split_point_metric
from pytest_slmperf.measuring.evidence_checks import DEFAULT_LIMITS, Limits
from pytest_slmperf.measuring.judge import Samples
from pytest_slmperf.measuring.launch import LaunchRun
from pytest_slmperf.measuring.measurement import Measurement
from pytest_slmperf.measuring.sides import Side, duet_differences, duet_side, stored_side
from pytest_slmperf.measuring.studies.sweep_record import (
    WHOLE,
    hosts_by_launch,
    record,
    records_of,
    series,
    standings_of,
    usable_points,
)
from pytest_slmperf.measuring.studies.sweep_result import Margins, mark_knee, unjudged, write_verdicts
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample, Verdict
from pytest_slmperf.scenarios.sweep import Sweep, SweepPoint


@dataclass
class SweepMeasurement(Measurement):
    """Measures one sweep of one test: a measurement of several points, which are chosen during the measurement."""

    duet_limits: ClassVar[Limits] = DEFAULT_LIMITS

    scenario: Sweep

    notes: list[str] = field(init=False, default_factory=list)
    warm: set[EngineSpec] = field(init=False, default_factory=set)  # engines that measured a point of this launch
    standings: dict[str, Standing] = field(init=False, default_factory=dict)  # key as text, of the baseline's points
    baseline_points: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keys = coarse_grid(self.keys) if self.scenario.adaptive else self.keys

    def run(self) -> Result:
        """The finished record with one verdict. Raises EngineError if no point could be measured."""
        result = super().run()
        self.context.annotate(result, self.scenario, next(iter(self.candidate.points.values())).spec)
        return result

    def interrupted(self) -> Result | None:
        """The record of the points so far, which do not suffice for a verdict; None without a point."""
        if not any(launch.outcomes for launches in self.candidate.measured.values() for launch in launches):
            return None
        self.keys = [key for key in self.keys if key in self.candidate.measured]
        result = self.record()
        reason = f"interrupted after {len(self.keys)} of {len(self.candidate.points)} points"
        result.notes.append(reason)
        self.write_unjudged(result, Verdict.INCONCLUSIVE, reason)
        return result

    # --- which points next ----------------------------------------------------------------------------------------

    def points(self, spec: EngineSpec) -> dict[Key, SweepPoint]:
        # Without another side, an engine may use the whole device.
        alone = self.context.kv_tokens_alone if self.against is None else None
        return {point.key: point for point in self.scenario.points(spec, self.context.resolve, alone)}

    def first_launches(self) -> None:
        """Measure the coarse points in the first launch."""
        self._measure_points(self.keys, 0)
        if self.candidate.failures and not self.candidate.measured and not self.candidate.disturbed:
            why = next(iter(self.candidate.failures.values()))
            raise EngineError(f"no point of the sweep could be measured: {why}", self.candidate.log_tail)

    def further_points(self, match: BaselineMatch | None) -> None:
        """Measure the baseline's points, or points where the frontier bends, and then the requested launches."""
        if match is not None and match.comparable:
            self._take_keys_of(match)
        elif self.scenario.adaptive:
            self._refine()
        # The first launch includes all chosen points; its duration predicts that of the next launches.
        self.started = self.launches = 1
        self.budget.launch_seconds.append(sum(self.candidate.seconds.get(key, 0.0) for key in self.keys))
        self.measure_launches(self.settings.launches - 1)

    def _take_keys_of(self, match: BaselineMatch) -> None:
        """Measure the baseline's points, so that both frontiers consist of the same points."""
        assert match.baseline is not None
        stored = {split_point_metric(name)[1] for name in match.baseline.newest.metrics}
        same = [key for key in self.candidate.points if str(key) in stored]
        self.keys = self._ordered({*self.keys, *same})
        self._measure_points([key for key in same if key not in self.candidate.measured], 0)

    def _refine(self) -> None:
        """Measure points where the frontier bends or the knee lies, until no gap can hide more than the tolerance."""
        candidates = list(self.candidate.points)
        while self.budget.deadline is None or self.context.clock() < self.budget.deadline:
            known = usable_points(self.candidate, self.scenario)
            measured = {point.key for point in known}
            lost = [key for key in self.candidate.measured if key not in measured]
            step = next_step(candidates, known, self.scenario.goals, given_up=[*lost, *self.candidate.failures])
            self.context.progress.update(self.test, f"{len(measured)} points, next: {step.reason}")
            if step.key is None:
                self.notes.append(f"{len(measured)} of {len(candidates)} candidate points measured: {step.reason}")
                return
            self.keys = self._ordered({*self.keys, step.key})
            self._measure_points([step.key], 0)
        self.notes.append("the time budget ended before every bend of the frontier was measured")

    def _ordered(self, keys: set[Key]) -> list[Key]:
        return [key for key in self.candidate.points if key in keys]

    # --- launches -------------------------------------------------------------------------------------------------

    def measure_launch(self, launch: int) -> bool:
        """Every launch counts: a point that is unusable in one launch is measured again in the next."""
        self._measure_points(self.keys, launch)
        return True

    def _measure_points(self, keys: Sequence[Key], launch: int) -> None:
        """Measure these points in one launch, grouped by engine; the failure of a point is recorded, not raised."""
        works = in_few_starts([Work(key, self.candidate.points[key].spec) for key in keys])
        self.warm.clear()
        for number, work in enumerate(works):
            if work.key in self.candidate.failures:
                continue
            self.context.progress.update(
                self.test, f"point {self.scenario.key_name} {work.key}", number + 1, len(works)
            )
            began = self.context.clock()
            try:
                self.measure_point(work.key, launch)
            except (EngineError, InvalidInput) as error:  # too little memory, a request too long for the cache, a crash
                self.candidate.failures[work.key] = str(error).splitlines()[0]
                self.candidate.log_tail = error.log_tail if isinstance(error, EngineError) else ""
            self.candidate.seconds.setdefault(work.key, self.context.clock() - began)

    def open_run(self, side: Side, key: Key, launch: int, *, warm: bool = False) -> LaunchRun:
        spec = side.points[key].spec
        run = super().open_run(side, key, launch, warm=spec in self.warm)
        self.warm.add(spec)
        return run

    # --- judging --------------------------------------------------------------------------------------------------

    def gates(self) -> Sequence[Gate]:
        return self._margins.gates(self.keys, {*self.stored, *self.unlike})

    @property
    def _margins(self) -> Margins:
        return Margins(self.scenario, self.settings)

    def take_baseline(self, match: BaselineMatch | None) -> None:
        """Store the baseline's readings; metrics of the whole sweep are recomputed over the points of both sides."""
        if self.baseline is not None:
            self.standings = standings_of(self.baseline, self.scenario)
            self.baseline_points = records_of(self.baseline, self.scenario)
            return
        assert match is not None
        assert match.baseline is not None
        varied = dict(self.scenario.varied)
        self.standings = builder.standings_of(match.baseline, varied, self.scenario.objectives)
        self.baseline_points = builder.stored_records(match.baseline, varied)
        names = [point_metric(name, key) for key in self.keys for name in (*self.scenario.objectives, ENERGY)]
        self.stored = {name: samples for name in [*names, *WHOLE] if (samples := match.samples(name))}
        self.unlike = {name: why for name in names if (why := match.unlike(name))}

    def samples(self) -> tuple[Samples, Samples]:
        other = self.baseline
        return self._samples_of(self.candidate), self.stored if other is None else self._samples_of(other)

    def _samples_of(self, side: Side) -> Samples:
        session = next((launches[0].launch.session for launches in side.measured.values() if launches), None) or ""
        hosts = hosts_by_launch(side)
        return {
            name: [
                LaunchSample(
                    tuple(rounds), session, index if self.baseline is not None else None, host=hosts.get(index)
                )
                for index, rounds in enumerate(launches)
                if rounds
            ]
            for name, launches in series(side, self.scenario, self.keys).items()
        }

    def unread(self, metric: str, candidate: bool, baseline: bool) -> tuple[Verdict, str]:
        """Verdict and reason of a point that failed or was unusable, or that the baseline lacks."""
        key = split_point_metric(metric)[1]
        spoilt = next((why for spoilt, why in self.candidate.disturbed.items() if key in (None, str(spoilt))), None)
        if spoilt is not None and not candidate:
            return Verdict.INCONCLUSIVE, f"environment: {spoilt}"
        if not baseline:
            lacking = "the baseline has no" if candidate else "neither side has a usable"
            return Verdict.NEW, f"{lacking} reading of it"
        failed = (why for failed, why in self.candidate.failures.items() if str(failed) == key)
        return Verdict.INCOMPARABLE, f"not measured now: {next(failed, 'no clean reading, or preemptions')}"

    def remember(self) -> None:
        """Do nothing: the priors of other tests do not include the noise of a sweep's points."""

    # --- the record -----------------------------------------------------------------------------------------------

    def record(self) -> Result:
        result = record(self.test, self.scenario, self.settings, self.candidate, self.keys, self.unfit)
        result.notes += self.notes
        return result

    def write(self, result: Result, judgements: Sequence[Judgement], match: BaselineMatch | None) -> None:
        label = self.compared_with(match)
        write_verdicts(result, self._margins, judgements, self.standings, self.unlike, label)
        mark_knee(result, self.scenario, self.baseline_points)
        if match is not None:
            result.differences = match.differences
            result.baseline = stored_side(match)
            result.baseline.points = self.baseline_points
        elif self.baseline is not None and self.against is not None:
            base = record(self.test, self.scenario, self.settings, self.baseline)
            result.baseline = duet_side(base, self.against)
            result.baseline.points = base.points
            result.differences = duet_differences(base, result)

    def write_unjudged(self, result: Result, verdict: Verdict, reason: str) -> None:
        result.verdicts = [unjudged(result, self.settings, verdict, reason)]

    def disturbed(self, result: Result) -> Result:
        self.write_unjudged(result, Verdict.INCONCLUSIVE, result.metrics[VOLUME].reason or "")
        return result
