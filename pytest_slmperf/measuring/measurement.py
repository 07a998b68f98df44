"""The one measuring loop: launch by launch, every point of a scenario, until its verdicts are reached or time is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import ClassVar

from pytest_slmperf.baselines import comparability
from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.errors import LongerThanModel
from pytest_slmperf.frontier.points import Key
from pytest_slmperf.measuring.assemble import assemble, engine_record, lengths_of, samples_of, unlike_energy
from pytest_slmperf.measuring.context import MeasuringContext, Settings
from pytest_slmperf.measuring.evidence_checks import DEFAULT_LIMITS, DUET_LIMITS, Limits
from pytest_slmperf.measuring.judge import Judge, Noise, Samples, Sides, unjudged_record, verdict_record
from pytest_slmperf.measuring.launch import LaunchRun, Measured
from pytest_slmperf.measuring.sides import Against, Side, duet_differences, duet_side, stored_side
from pytest_slmperf.metrics.registry import ENERGY_METRICS, metric
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import MetricValue, Result
from pytest_slmperf.model.verdict import Gate, Judgement, Verdict
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.scenarios.sweep import SweepPoint
from pytest_slmperf.statistics.crossover import candidate_goes_first
from pytest_slmperf.util.formatting import percent

FindBaseline = Callable[[Result], BaselineMatch]
Fingerprint = Callable[[Result], str]
ONLY: Key = ""  # the key of the single point of a plain scenario


@dataclass
class Budget:
    """Time of this test. ``deadline``: on the clock of the measuring context, None for no limit.

    ``fewest_until``: a later deadline for the requested launches, if the remaining tests can spare the time.
    ``launch_seconds``: of each launch so far, without the imports of launch hosts, which later launches do not pay again.
    """

    context: MeasuringContext
    deadline: float | None
    fewest_until: float | None = None
    launch_seconds: list[float] = field(default_factory=list)

    def allows_another(self, launch: int, fewest: int = 0) -> bool:
        """True if launch number ``launch``, as long as the longest so far, ends in time. ``fewest``: number of requested
        launches, for which the deadline is ``fewest_until``.
        """
        until = self.deadline
        if until is None:
            return True
        if self.fewest_until is not None and len(self.launch_seconds) < fewest:
            until = max(until, self.fewest_until)
        ahead = max(self.launch_seconds, default=0.0) + self.context.pool.import_ahead_s(launch)
        return self.context.clock() + ahead <= until


@dataclass
class Measurement(Sides):
    """Measures one scenario of one test, as a single point; ``SweepMeasurement`` has several points.

    ``against``: the baseline's side in a duet; None for a comparison with a stored baseline.
    """

    duet_limits: ClassVar[Limits] = DUET_LIMITS

    context: MeasuringContext
    scenario: Scenario
    settings: Settings
    test: str
    alpha: float
    find_baseline: FindBaseline
    fingerprint: Fingerprint
    noise: Noise
    budget: Budget
    against: Against | None = None

    candidate: Side = field(init=False)
    baseline: Side | None = field(init=False, default=None)  # the other side of a duet
    keys: list[Key] = field(init=False)  # the points that count
    started: int = field(init=False, default=0)  # launches (in a duet: pairs) begun, whether or not they count
    launches: int = field(init=False, default=0)  # launches (in a duet: pairs) that count
    unfit: list[Measured] = field(init=False, default_factory=list)  # on a disturbed machine: recorded, never compared
    stored: Samples = field(init=False, default_factory=dict)  # of the stored baseline
    unlike: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.candidate = Side("candidate", self.points(self.settings.spec))
        if self.against is not None:
            self.baseline = Side("baseline", self.points(self.against.spec))
        self.keys = list(self.candidate.points)

    def run(self) -> Result:
        """The finished record with verdicts. Raises EngineError if an engine fails."""
        self.first_launches()
        if not self.candidate.measured:
            return self.disturbed(self.record())
        match = self.find_baseline(self.record()) if self.baseline is None else None
        self.further_points(match)
        if match is not None and not match.comparable:
            forked = any(launch.host is not None for launch in self.record().launches)
            self.measure_launches(self.settings.baseline_launches - self.launches if forked else 0)
            result = self.record()
            result.differences = match.differences
            self.write_unjudged(result, match.verdict or Verdict.NEW, match.reason)
            return result
        self.take_baseline(match)
        judgements = self._judge()
        result = self.record()
        if (why := self._other_work(result, match)) is not None:
            result.differences = [] if match is None else match.differences
            self.write_unjudged(result, Verdict.INCOMPARABLE, why)
        else:
            self.write(result, judgements, match)
        return result

    def _other_work(self, own: Result, match: BaselineMatch | None) -> str | None:
        """Why the other side answered with other lengths, in a duet or in launches after the first; None where alike."""
        if self.baseline is None:
            stored = None if match is None else match.baseline
            return None if stored is None else comparability.other_answers(stored.work, own.scenario)
        answers = [
            comparability.answers_of(lengths_of(chain.from_iterable(side.measured.values())), own.scenario)
            for side in (self.baseline, self.candidate)
        ]
        return comparability.other_answers(*answers)

    # --- the scenario and its points ------------------------------------------------------------------------------

    def points(self, spec: EngineSpec) -> dict[Key, SweepPoint]:
        """The points by key, each with its engine's resolved specification."""
        return {ONLY: SweepPoint(ONLY, {}, self.scenario, _engine_of(self.context, self.scenario, spec))}

    def first_launches(self) -> None:
        """Measure before the baseline is looked up: in this class, all requested launches."""
        first = self.baseline or self.candidate
        self.context.pool.settle(first.points[ONLY].spec, paired=self.baseline is not None)
        self.measure_launches(self.settings.launches)

    def further_points(self, match: BaselineMatch | None) -> None:
        """Add points that depend on the baseline or on the first launch, and measure the remaining launches."""

    def gates(self) -> Sequence[Gate]:
        """The gates of all comparisons."""
        return self.settings.gates(self.scenario.gates)

    # --- judging --------------------------------------------------------------------------------------------------

    def _judge(self) -> list[Judgement]:
        fingerprint = self.fingerprint(self.record())
        judge = Judge(
            self.gates(),
            self.alpha,
            "stored" if self.baseline is None else "duet",
            lambda metrics: self.noise.prior(fingerprint, metrics),
            self.settings.max_launches,
        )
        judgements = judge.run(self)
        self.remember()
        if self._too_disturbed() and self.budget.allows_another(self.started):
            judgements = [self._ended_by_disturbance(judgement) for judgement in judgements]
        return judgements

    def take_baseline(self, match: BaselineMatch | None) -> None:
        """Store the baseline's readings, and which of them cannot be compared; ``match`` is None in a duet."""
        gates = self.gates()
        if self.baseline is not None:
            read = self.samples()[1]
            self.unlike = unlike_energy(self.baseline.measured[ONLY], self.candidate.measured[ONLY], read.keys())
            return
        assert match is not None
        self.stored = {gate.metric: match.samples(gate.metric) for gate in gates}
        self.unlike = {gate.metric: why for gate in gates if (why := match.unlike(gate.metric))}

    def samples(self) -> tuple[Samples, Samples]:
        gates, paired = self.gates(), self.baseline is not None
        own = samples_of(self.candidate.measured[ONLY], gates, paired)
        return own, self.stored if self.baseline is None else samples_of(self.baseline.measured[ONLY], gates, paired)

    def unread(self, metric: str, candidate: bool, baseline: bool) -> tuple[Verdict, str]:
        if not candidate:
            return Verdict.INCOMPARABLE, f"not measured: {self.record().metrics[metric].reason}"
        return Verdict.NEW, "the baseline has no reading of this metric"

    def further_launches(self) -> Callable[[int], None] | None:
        spent = self.launches >= self.settings.max_launches or self._too_disturbed()
        if spent or not self.budget.allows_another(self.started):
            return None
        return lambda launches: self.measure_launches(min(launches, self.settings.max_launches - self.launches))

    def remember(self) -> None:
        """Add the finished test to the noise that the priors of later tests include."""
        candidate, baseline = self.samples()
        compared = {name for name in candidate if baseline.get(name) and name not in self.unlike}
        if not compared:
            return
        for name, launches in candidate.items():
            self.noise.add(self.test, name, launches)
            if self.baseline is not None and name in compared:
                self.noise.add_pair(self.test, name, (baseline[name], launches))

    def _ended_by_disturbance(self, judgement: Judgement) -> Judgement:
        """The judgement with the disturbed machine, rather than the time, as the reason for its end."""
        if judgement.verdict != Verdict.INCONCLUSIVE or judgement.change is None:
            return judgement
        spoilt = [measured.unfit for measured in self.unfit if measured.unfit]
        what = "launch pairs" if self.baseline is not None else "launches"
        seen = f"{percent(judgement.change)} over {self.launches} {what}"
        return replace(
            judgement, reason=f"{seen}: environment: too many others were spoilt, the last with {spoilt[-1]}"
        )

    # --- the record -----------------------------------------------------------------------------------------------

    def record(self) -> Result:
        """The candidate's record.

        Launches on a disturbed machine are recorded as evidence; their figures count only if nothing else was measured.
        """
        measured = self.candidate.measured.get(ONLY, [])
        spoilt = [unfit for unfit in self.unfit if unfit.launch.side == "candidate"]
        result = assemble(self.test, self.scenario, self.candidate.points[ONLY].spec, measured or spoilt, self.gates())
        kept_out = self.unfit if measured else [unfit for unfit in self.unfit if unfit.launch.side == "baseline"]
        result.launches += [unfit.launch for unfit in kept_out]
        if measured:
            result.discarded_rounds += sum(
                1 for unfit in spoilt for round_ in unfit.launch.rounds if round_.contaminated
            )
        result.notes += [
            f"launch {unfit.launch.index + 1} is not used: {unfit.unfit}" for unfit in spoilt if unfit.unfit
        ]
        return result

    def write(self, result: Result, judgements: Sequence[Judgement], match: BaselineMatch | None) -> None:
        """Write verdicts and the baseline's side into the record; ``match`` is None in a duet."""
        if match is not None:
            result.differences = match.differences
            result.baseline = stored_side(match)
        elif self.baseline is not None and self.against is not None:
            other = self.baseline
            base = assemble(self.test, self.scenario, other.points[ONLY].spec, other.measured[ONLY], self.gates())
            result.launches += base.launches
            result.baseline = duet_side(base, self.against)
            result.differences = duet_differences(base, result)
        candidate, baseline = self.samples()
        result.verdicts = [
            verdict_record(
                self._standing(gate, bool(candidate.get(gate.metric) or baseline.get(gate.metric))),
                judgement,
                self.compared_with(match),
            )
            for gate, judgement in zip(self.gates(), judgements, strict=True)
        ]

    def compared_with(self, match: BaselineMatch | None) -> str:
        """The baseline's name in verdicts; ``match`` is None in a duet."""
        return (match or self.against or Against(self.settings.spec)).label

    def _standing(self, gate: Gate, has_reading: bool) -> Gate:
        """The gate, without effect on the test's outcome for a default metric that neither side can read.

        This is energy on a machine without a meter: the same suite runs on machines with and without a meter. The gate
        stays as it is if one side has a reading or if the test itself names another metric than energy.
        """
        asked_for = gate.metric not in ENERGY_METRICS and self.settings.asks_for(gate.metric)
        return replace(gate, gate=gate.gate and (has_reading or asked_for))

    def write_unjudged(self, result: Result, verdict: Verdict, reason: str) -> None:
        """The verdicts of a result without a comparable baseline."""
        for gate in self.gates():
            value = result.metrics[gate.metric]
            if value.value is None:
                standing = self._standing(gate, has_reading=False)
                why = f"not measured: {value.reason}"
                result.verdicts.append(unjudged_record(standing, Verdict.INCOMPARABLE, why))
            else:
                result.verdicts.append(unjudged_record(gate, verdict, reason))

    def disturbed(self, result: Result) -> Result:
        """The result without a usable launch: every gate is inconclusive, and nothing is green."""
        reason = next(measured.unfit for measured in self.unfit if measured.unfit)
        unread = {name: value.reason for name, value in result.metrics.items() if name in ENERGY_METRICS}
        for gate in self.gates():
            if not self.context.meter.available and gate.metric in unread:
                standing = self._standing(gate, has_reading=False)
                why = f"not measured: {unread[gate.metric]}"
                result.verdicts.append(unjudged_record(standing, Verdict.INCOMPARABLE, why))
            else:
                result.verdicts.append(unjudged_record(gate, Verdict.INCONCLUSIVE, f"environment: {reason}"))
            result.metrics[gate.metric].reason = reason
        return result

    # --- launches -------------------------------------------------------------------------------------------------

    def measure_launches(self, wanted: int) -> None:
        """Measure ``wanted`` further launches that count, or fewer if time is up; the very first is always measured."""
        goal = self.launches + wanted
        while self.launches < goal and not self._too_disturbed():
            if self.started and not self.budget.allows_another(self.started, self.settings.launches):
                return
            began, imported = self.context.clock(), self.context.pool.import_s
            self.launches += self.measure_launch(self.started)
            self.started += 1
            importing = self.context.pool.import_s - imported
            self.budget.launch_seconds.append(self.context.clock() - began - importing)

    def measure_launch(self, launch: int) -> bool:
        """Measure every point in one launch. False if the machine was disturbed, so that the launch is measured again."""
        return self.measure_point(ONLY, launch)

    def measure_point(self, key: Key, launch: int) -> bool:
        """Measure both sides of one point. False if the disturbed machine made a side unusable."""
        sides = self._sides(key, launch)
        self.candidate.facts = sides[0].facts
        spoilt = next((measured.unfit for measured in sides if measured.unfit), None)
        if spoilt is not None:
            self.candidate.disturbed[key] = spoilt
            self.unfit += sides
            return False
        for side, measured in zip((self.candidate, self.baseline), sides, strict=False):
            if side is not None:
                side.measured.setdefault(key, []).append(measured)
        return True

    def _sides(self, key: Key, launch: int) -> list[Measured]:
        """One launch of the point, in a duet of both sides; the candidate's is first in the list."""
        with ExitStack() as stack:
            sides = [self.candidate] if self.baseline is None else [self.baseline, self.candidate]
            # The order of starting matters too: the engine that starts first is slower (see ``crossover``).
            if candidate_goes_first(launch):
                sides.reverse()
            runs = {side.role: stack.enter_context(self.open_run(side, key, launch)) for side in sides}
            _interleave(list(runs.values()))
        return [runs[side.role].measured for side in (self.candidate, self.baseline) if side is not None]

    def open_run(self, side: Side, key: Key, launch: int, *, warm: bool = False) -> LaunchRun:
        """The run of one side's launch. ``warm``: its engine has measured another point in this launch."""
        point = side.points[key]
        limits = DEFAULT_LIMITS if self.baseline is None else self.duet_limits
        return LaunchRun(
            self.context, point.work, self.settings, point.spec, launch, self.test, side.role, limits, warm=warm
        )

    def _too_disturbed(self) -> bool:
        """True if more launches were disturbed than requested and than used: the machine is not fit for measuring."""
        return self.started - self.launches > max(self.settings.launches, self.launches)


def _engine_of(context: MeasuringContext, scenario: Scenario, spec: EngineSpec) -> EngineSpec:
    """The resolved specification of the engine that the scenario needs, derived from ``spec``."""
    try:
        return context.resolve(scenario.spec(spec, context.adapter(spec)))
    except LongerThanModel as error:
        if (longest := scenario.longest_request()) is None:
            raise
        raise LongerThanModel(
            f"{longest}, more than the {error.limit} that {error.model} was made for; leave such rows out of the file, or "
            "measure a model with a longer window",
            error.model,
            error.limit,
        ) from error


def _interleave(runs: Sequence[LaunchRun]) -> None:
    """Measure the rounds of one run, or of two in the order A B B A, so that drift and neighbours affect both equally."""
    first, last = runs[0], runs[-1]
    order = [first, last, last, first]
    turn = 0
    while any(run.wants_more() for run in runs):
        run = order[turn % 4]
        turn += 1
        if run.wants_more():
            run.turn() if len(runs) > 1 else run.round()


def not_measured(
    context: MeasuringContext, scenario: Scenario, settings: Settings, test: str, expected_s: float | None = None
) -> Result:
    """The record of a test whose turn came after the session's time was up: inconclusive, without a figure.

    ``expected_s``: expected seconds of its requested launches; None if unknown.
    """
    spec = _engine_of(context, scenario, settings.spec)
    reason = "the session's time ended before it was measured; raise --slmperf-max-time"
    gates = settings.gates(scenario.gates)
    return Result(
        id=test,
        scenario=scenario.parameters(),
        engine=engine_record(spec, {}),
        launch_s=None if expected_s is None else expected_s / settings.launches,
        launches_short=settings.launches,
        metrics={
            gate.metric: MetricValue(unit=metric(gate.metric).unit, better=gate.better, value=None, reason=reason)
            for gate in gates
        },
        verdicts=[unjudged_record(gate, Verdict.INCONCLUSIVE, reason) for gate in gates],
    )
