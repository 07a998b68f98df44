"""Measure a sweep: choose its points, launch by launch and point by point, until the frontier's verdict is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from pytest_slmperf.baselines.lookup import Found
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.frontier.adaptive_grid import Work, coarse, in_few_starts, next_step
from pytest_slmperf.frontier.pareto import Standing
from pytest_slmperf.frontier.points import Key
from pytest_slmperf.frontier.records import points_of
from pytest_slmperf.frontier.regression import VOLUME, split
from pytest_slmperf.measuring.context import Lab
from pytest_slmperf.measuring.launch import LaunchRun, Measured
from pytest_slmperf.measuring.measurement import Budget, FindBaseline, Fingerprint
from pytest_slmperf.measuring.noise import Noise
from pytest_slmperf.measuring.settings import Settings
from pytest_slmperf.measuring.sweep_judge import Judge, standings_of
from pytest_slmperf.measuring.sweep_record import Side, duet_side, record, unjudged
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.scenarios.sweep import Sweep, SweepPoint
from pytest_slmperf.statistics.variance import VariancePrior

Who = Literal["candidate", "baseline"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a sweep. ``result`` holds the points that were measured until then, without a verdict."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


class PointRun(LaunchRun):
    """One point of one launch. An engine that measured another point before is warm: one round adjusts it to the new one."""

    warm = False

    def _judge(self) -> None:
        super()._judge()
        if self.warm:
            self._steady = True
            self._warmup = 1 + self._position(0)


@dataclass
class SweepMeasurement:
    """Measures one sweep of one test. Same parts as ``loop.Measurement``; ``against``: the other side of a duet."""

    lab: Lab
    scenario: Sweep
    settings: Settings
    test: str
    alpha: float
    find_baseline: FindBaseline
    fingerprint: Fingerprint
    noise: Noise
    budget: Budget
    against: EngineSpec | None = None

    def run(self) -> Result:
        """The finished record with one verdict. Raises EngineError when no point at all could be measured."""
        # Without another side an engine may have the whole device, as one has that is run for its peak.
        budget = self.lab.kv_tokens_alone if self.against is None else None
        points = self.scenario.points(self.settings.spec, self.lab.resolve, budget)
        self.candidate = Side({point.key: point for point in points})
        self.baseline: Side | None = None
        if self.against is not None:
            other = self.scenario.points(self.against, self.lab.resolve)
            self.baseline = Side({point.key: point for point in other})
        self.launches = 0
        self.notes: list[str] = []
        candidates = list(self.candidate.points)
        self.keys = coarse(candidates) if self.scenario.adaptive else candidates
        try:
            self._pass(self.keys, 0)
            self._check_any()
            result = self._stored() if self.baseline is None else self._duet()
        except KeyboardInterrupt as stop:
            if not any(found.outcomes for launches in self.candidate.measured.values() for found in launches):
                raise
            raise Interrupted(self._interrupted()) from stop
        self.lab.annotate(result, self.scenario, next(iter(self.candidate.points.values())).spec)
        return result

    def _interrupted(self) -> Result:
        """What there is. No verdict of the frontier can be given on part of its points."""
        self.keys = [key for key in self.keys if key in self.candidate.measured]
        result = self._result()
        reason = f"interrupted after {len(self.keys)} of {len(self.candidate.points)} points"
        result.notes.append(reason)
        result.verdicts = [unjudged(result, self.settings, Verdict.INCONCLUSIVE, reason)]
        return result

    # --- against a stored baseline -------------------------------------------------------------------------------

    def _stored(self) -> Result:
        if not self.candidate.measured:
            return self._disturbed()
        found = self.find_baseline(self._result())
        comparable = found.baseline is not None and found.verdict is None
        if comparable:
            self._take_keys_of(found)
        elif self.scenario.adaptive:
            self._refine()
        self._finish_first_launch()
        self._launches(self.settings.launches - 1)
        if not comparable:
            result = self._result()
            result.differences = found.differences
            result.verdicts = [unjudged(result, self.settings, found.verdict or Verdict.NEW, found.reason)]
            return result
        judge = self._judge("stored", standings_of(found, self.scenario))
        judge.stored(found, self.keys)
        judged = judge.run(self.candidate, None, self.keys, self._more)
        result = self._result()
        result.differences = found.differences
        judge.write(result, judged, found)
        return result

    def _disturbed(self) -> Result:
        result = self._result()
        result.verdicts = [unjudged(result, self.settings, Verdict.INCONCLUSIVE, result.metrics[VOLUME].reason or "")]
        return result

    def _take_keys_of(self, found: Found) -> None:
        """The baseline's own points, so that both frontiers are made of the same ones."""
        assert found.baseline is not None
        stored = {split(name)[1] for name in found.baseline.newest.metrics}
        same = [key for key in self.candidate.points if str(key) in stored]
        self.keys = self._ordered({*self.keys, *same})
        self._pass([key for key in same if key not in self.candidate.measured], 0)

    def _refine(self) -> None:
        """Points where the frontier bends or the knee lies, until no gap can hide more."""
        candidates = list(self.candidate.points)
        while not self._out_of_time():
            known = points_of(self.candidate.records(self.scenario), self.scenario.objectives)
            measured = {point.key for point in known}
            lost = [key for key in self.candidate.measured if key not in measured]
            step = next_step(candidates, known, self.scenario.goals, given_up=[*lost, *self.candidate.failures])
            self.lab.progress.update(self.test, f"{len(measured)} points, next: {step.reason}")
            if step.key is None:
                self.notes.append(f"{len(measured)} of {len(candidates)} candidate points measured: {step.reason}")
                return
            self.keys = self._ordered({*self.keys, step.key})
            self._pass([step.key], 0)
        self.notes.append("the time budget ended before every bend of the frontier was measured")

    # --- duet ----------------------------------------------------------------------------------------------------

    def _duet(self) -> Result:
        assert self.baseline is not None
        if not self.candidate.measured:
            return self._disturbed()
        if self.scenario.adaptive:
            self._refine()
        self._finish_first_launch()
        self._launches(self.settings.launches - 1)
        judge = self._judge("duet", self.baseline.standings(self.scenario))
        judged = judge.run(self.candidate, self.baseline, self.keys, self._more)
        result = self._result()
        base = record(self.test, self.scenario, self.settings, self.baseline, [])
        judge.write(result, judged, None)
        result.baseline, result.differences = duet_side(base, result)
        return result

    def _judge(self, mode: Literal["stored", "duet"], standings: Mapping[str, Standing]) -> Judge:
        def prior(metrics: Sequence[str]) -> VariancePrior:
            return self.noise.prior(self.fingerprint(self._result()), metrics)

        return Judge(self.scenario, self.settings, self.alpha, mode, standings, prior)

    # --- launches ------------------------------------------------------------------------------------------------

    def _more(self, wanted: int) -> bool:
        """Measure up to so many further launches; False when the budget or the bound on launches ends it."""
        before = self.launches
        self._launches(min(wanted, self.settings.max_launches - self.launches))
        return self.launches > before

    def _launches(self, wanted: int) -> None:
        for _ in range(wanted):
            if not self.budget.allows_another(self.settings.launches):
                return
            began = self.lab.clock()
            self._pass(self.keys, self.launches)
            self.launches += 1
            self.budget.launch_seconds.append(self.lab.clock() - began)

    def _finish_first_launch(self) -> None:
        """The first launch grew while points were chosen; its length predicts that of the next ones."""
        self.launches = 1
        self.budget.launch_seconds.append(sum(self.candidate.seconds.get(key, 0.0) for key in self.keys))

    def _pass(self, keys: Sequence[Key], launch: int) -> None:
        """Measure these points in one launch, those of one engine together; a point that fails is noted, not raised."""
        works = in_few_starts([Work(key, self.candidate.points[key].spec) for key in keys])
        warm: set[EngineSpec] = set()
        for number, work in enumerate(works):
            if work.key in self.candidate.failures:
                continue
            self.lab.progress.update(self.test, f"point {self.scenario.key_name} {work.key}", number + 1, len(works))
            began = self.lab.clock()
            try:
                self._point(work.key, launch, warm)
            except (EngineError, InvalidInput) as error:  # too little memory, a request too long for the cache, a crash
                self.candidate.failures[work.key] = str(error).splitlines()[0]
                self.candidate.log_tail = getattr(error, "log_tail", "")
            self.candidate.seconds.setdefault(work.key, self.lab.clock() - began)

    def _point(self, key: Key, launch: int, warm: set[EngineSpec]) -> None:
        """Both sides of one point. Spoilt by a disturbed machine it is noted: the next launch measures it again."""
        sides = self._sides(key, launch, warm)
        self.candidate.facts = sides[0].facts
        spoilt = next((measured.unfit for measured in sides if measured.unfit), None)
        if spoilt is not None:
            self.candidate.disturbed[key] = spoilt
            self.candidate.spoilt += [measured.launch for measured in sides]
            return
        self.candidate.measured.setdefault(key, []).append(sides[0])
        if self.baseline is not None:
            self.baseline.measured.setdefault(key, []).append(sides[1])

    def _sides(self, key: Key, launch: int, warm: set[EngineSpec]) -> list[Measured]:
        with ExitStack() as stack:
            # A B B A; all roles change from launch to launch, as in a duet of single tests
            roles: list[tuple[Who, Side]] = [("candidate", self.candidate)]
            if self.baseline is not None:
                roles.insert(launch % 2, ("baseline", self.baseline))
            runs = {who: self._open(stack, side.points[key], launch, who, warm) for who, side in roles}
            begins, *follows = runs.values()
            order = [begins, *follows, *follows, begins]
            sides = [runs[who] for who in ("candidate", "baseline") if who in runs]
            turn = 0
            while any(run.wants_more() for run in sides):
                run = order[turn % len(order)]
                turn += 1
                if run.wants_more():
                    run.turn() if len(sides) > 1 else run.round()
        for run in sides:
            self.lab.pool.release(run.engine)
        return [run.measured for run in sides]

    def _open(self, stack: ExitStack, point: SweepPoint, launch: int, side: Who, warm: set[EngineSpec]) -> PointRun:
        run = PointRun(self.lab, point.work, self.settings, point.spec, launch, self.test, side)
        run.warm = point.spec in warm
        stack.enter_context(run)
        warm.add(point.spec)
        return run

    # --- little things -------------------------------------------------------------------------------------------

    def _result(self) -> Result:
        result = record(self.test, self.scenario, self.settings, self.candidate, self.keys)
        result.notes += self.notes
        return result

    def _ordered(self, keys: set[Key]) -> list[Key]:
        return [key for key in self.candidate.points if key in keys]

    def _out_of_time(self) -> bool:
        return self.budget.deadline is not None and self.lab.clock() >= self.budget.deadline

    def _check_any(self) -> None:
        """A sweep of which nothing works is an error; one that only the machine spoilt is not."""
        if self.candidate.failures and not self.candidate.measured and not self.candidate.disturbed:
            why = next(iter(self.candidate.failures.values()))
            raise EngineError(f"no point of the sweep could be measured: {why}", self.candidate.log_tail)
