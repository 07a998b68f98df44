"""Measure one scenario until its verdicts are reached or its time is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from pytest_slmperf.baselines import energy_comparability
from pytest_slmperf.baselines.lookup import Found
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.measuring.assemble import assemble, energy_record, engine_record, samples_of
from pytest_slmperf.measuring.baseline_side import duet_differences, duet_side, stored_side
from pytest_slmperf.measuring.context import Lab
from pytest_slmperf.measuring.evidence.contamination import DEFAULT_LIMITS, DUET_LIMITS
from pytest_slmperf.measuring.launch import LaunchRun, Measured
from pytest_slmperf.measuring.noise import Noise
from pytest_slmperf.measuring.settings import Settings
from pytest_slmperf.metrics.registry import ENERGY_METRICS, metric
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import MetricValue, Result
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample, Verdict, VerdictRecord
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.statistics.crossover import candidate_goes_first
from pytest_slmperf.util.formatting import percent

FindBaseline = Callable[[Result], Found]
Fingerprint = Callable[[Result], str]
Samples = Mapping[str, Sequence[LaunchSample]]


@dataclass
class Budget:
    """Time this test may use: ``deadline`` on the lab's clock, None for no bound; ``fewest_until`` is the later one for
    the launches that were asked for, where the tests to come can spare the time."""

    lab: Lab
    deadline: float | None
    fewest_until: float | None = None
    launch_seconds: list[float] = field(default_factory=list)

    def allows_another(self, fewest: int = 0) -> bool:
        """True when a further launch, as long as the longest so far, ends in time; ``fewest`` launches were asked for."""
        until = self.deadline
        if until is None:
            return True
        if self.fewest_until is not None and len(self.launch_seconds) < fewest:
            until = max(until, self.fewest_until)
        return self.lab.clock() + max(self.launch_seconds, default=0.0) <= until


@dataclass
class Measurement:
    """Measures one scenario of one test. ``against`` is the baseline side's engine in a duet, None otherwise."""

    lab: Lab
    scenario: Scenario
    settings: Settings
    test: str
    alpha: float
    find_baseline: FindBaseline
    fingerprint: Fingerprint
    noise: Noise
    budget: Budget
    against: EngineSpec | None = None

    def run(self) -> Result:
        """The finished record with verdicts. Raises EngineError when an engine fails."""
        self.spec = self.lab.resolve(self.scenario.spec(self.settings.spec, self.lab.adapter(self.settings.spec)))
        self.gates = self.settings.gates(self.scenario.gates)
        # Metrics that neither side can read, such as energy where there is no meter: shown with the reason, but no
        # verdict about a change. Where the baseline has a reading and the candidate has none, the gate stands.
        self.quiet: set[str] = set()
        self.unlike: dict[str, str] = {}  # metrics of energy that were counted on something else, and on what
        self.candidate: list[Measured] = []
        self.baseline: list[Measured] = []
        self.unfit: list[Measured] = []  # launches on a disturbed machine: recorded, never compared
        self.started = 0  # launches (pairs in a duet) begun, fit or not
        if self.against is not None:
            self.base_spec = self.lab.resolve(self.scenario.spec(self.against, self.lab.adapter(self.against)))
            return self._duet()
        return self._stored()

    # --- against a stored baseline -------------------------------------------------------------------------------

    def _stored(self) -> Result:
        self._launches(self.settings.launches)
        result = self._result()
        if not self.candidate:
            return self._disturbed(result)
        found = self.find_baseline(result)
        result.differences = found.differences
        if found.baseline is None or found.verdict is not None:
            return self._unjudged(result, found.verdict or Verdict.NEW, found.reason)
        stored = {gate.metric: found.samples(gate.metric) for gate in self.gates}
        self.unlike = {gate.metric: why for gate in self.gates if (why := found.unlike(gate.metric))}
        judged = self._judge("stored", stored)
        result = self._result()
        result.differences = found.differences
        result.baseline = stored_side(found)
        result.verdicts = [self._verdict(judgement, found.label) for judgement in judged]
        return result

    def _judge(self, mode: str, stored: Samples | None) -> list[Judgement]:
        """Measure on while verdicts are open; judgements in the order of the gates."""
        duet = mode == "duet"
        candidate = samples_of(self.candidate, self.gates, paired=duet)
        base = samples_of(self.baseline, self.gates, paired=duet) if stored is None else stored
        if duet:
            self.unlike = self._unlike_sides(base)
            base = {name: launches for name, launches in base.items() if name not in self.unlike}
        gates = [gate for gate in self.gates if candidate.get(gate.metric) and base.get(gate.metric)]
        judgements = [self._incomparable(gate, candidate) for gate in self.gates if gate not in gates]
        self.quiet = {
            gate.metric for gate in self.gates if not candidate.get(gate.metric) and not base.get(gate.metric)
        }
        if not gates:
            return judgements
        fingerprint = self.fingerprint(self._result())
        comparison = Comparison(
            gates,
            {} if duet else {gate.metric: base[gate.metric] for gate in gates},
            alpha=self.alpha / len(gates),  # metrics without a reading take no share
            mode="duet" if duet else "stored",
            prior={gate.metric: self.noise.prior(fingerprint, [gate.metric]) for gate in gates},
            max_launches=max(Comparison.first_launches, self.settings.max_launches),
        )
        hopeless = False
        while True:
            out_of_time = not self.budget.allows_another()
            spent = len(self.candidate) >= self.settings.max_launches or self._too_disturbed()
            last = out_of_time or spent or hopeless
            decision = comparison.decide(
                {gate.metric: candidate.get(gate.metric, []) for gate in gates},
                {gate.metric: base.get(gate.metric, []) for gate in gates} if duet else None,
                final=last,
            )
            if decision.hopeless and not last:
                hopeless = True  # the time is the other tests': say what can be said now
                continue
            if decision.done or last:
                self._remember(candidate, base if duet else None)
                order = {gate.metric: number for number, gate in enumerate(self.gates)}
                found = decision.judgements
                if self._too_disturbed() and not out_of_time:
                    found = tuple(map(self._ended_by_disturbance, found))
                return sorted([*judgements, *found], key=lambda judged: order[judged.metric])
            wanted = min(max(1, decision.next_launches), self.settings.max_launches - len(self.candidate))
            if duet:
                self._pairs(wanted)
                base = samples_of(self.baseline, self.gates, paired=True)
            else:
                self._launches(wanted)
            candidate = samples_of(self.candidate, self.gates, paired=duet)

    def _unlike_sides(self, base: Samples) -> dict[str, str]:
        """Metrics of energy whose two sides in a duet were counted on other devices: one engine on the CPU, say."""
        why = energy_comparability.unlike(energy_record(self.baseline).metered, energy_record(self.candidate).metered)
        return dict.fromkeys(base.keys() & set(ENERGY_METRICS), why) if why else {}

    def _remember(self, candidate: Samples, baseline: Samples | None) -> None:
        """The finished test tells the next ones how noisy the machine is today."""
        for name, launches in candidate.items():
            self.noise.add(self.test, name, launches)
            if baseline is not None and name in baseline:
                self.noise.add_pair(self.test, name, (baseline[name], launches))

    def _incomparable(self, gate: Gate, candidate: Samples) -> Judgement:
        """No numbers on one side: an absent reading of the candidate, or a baseline that has none."""
        if not candidate.get(gate.metric):
            missing = self._result().metrics[gate.metric].reason
            return Judgement(gate.metric, Verdict.INCOMPARABLE, None, None, f"not measured: {missing}")
        if gate.metric in self.unlike:
            return Judgement(gate.metric, Verdict.INCOMPARABLE, None, None, self.unlike[gate.metric])
        return Judgement(gate.metric, Verdict.NEW, None, None, "the baseline has no reading of this metric")

    def _unjudged(self, result: Result, verdict: Verdict, reason: str) -> Result:
        for gate in self.gates:
            value = result.metrics[gate.metric]
            measured = value.value is not None
            name, why = (verdict, reason) if measured else (Verdict.INCOMPARABLE, f"not measured: {value.reason}")
            result.verdicts.append(
                VerdictRecord(
                    metric=gate.metric,
                    verdict=name,
                    tolerance=gate.tolerance,
                    limit=gate.limit,
                    gate=gate.gate and measured,
                    reason=why,
                )
            )
        return result

    def _verdict(self, judgement: Judgement, label: str) -> VerdictRecord:
        gate = next(gate for gate in self.gates if gate.metric == judgement.metric)
        return VerdictRecord(
            metric=judgement.metric,
            verdict=judgement.verdict,
            change=judgement.change,
            ci=judgement.ci,
            baseline=label,
            tolerance=gate.tolerance,
            limit=gate.limit,
            gate=gate.gate and gate.metric not in self.quiet,
            reason=judgement.reason,
            detail=judgement.detail,
            more_launches=judgement.more_launches,
        )

    # --- duet ----------------------------------------------------------------------------------------------------

    def _duet(self) -> Result:
        self.lab.pool.settle(self.base_spec)
        self._pairs(self.settings.launches)
        if not self.candidate:
            return self._disturbed(self._result())
        judged = self._judge("duet", None)
        result = self._result()
        base = assemble(self.test, self.scenario, self.base_spec, self.baseline, self.gates)
        result.launches += base.launches
        result.baseline = duet_side(base)
        result.differences = duet_differences(base, result)
        result.verdicts = [self._verdict(judgement, "duet") for judgement in judged]
        return result

    def _pairs(self, wanted: int) -> None:
        """Launch pairs with their rounds interleaved A B B A, so that drift and neighbours meet both sides alike."""

        def pair(index: int) -> tuple[Measured, Measured]:
            with ExitStack() as stack:
                # Not for the order of measuring alone: the engine that starts first is the slower one (see crossover).
                roles = [(self.base_spec, "baseline"), (self.spec, "candidate")][
                    :: -1 if candidate_goes_first(index) else 1
                ]
                first, second = (self._open(stack, spec, index, side) for spec, side in roles)
                order = [first, second, second, first]
                turn = 0
                while first.wants_more() or second.wants_more():
                    run = order[turn % 4]
                    turn += 1
                    if run.wants_more():
                        run.turn()
                base, candidate = (second, first) if candidate_goes_first(index) else (first, second)
            return candidate.measured, base.measured

        self._measure(wanted, pair)

    def _open(self, stack: ExitStack, spec: EngineSpec, index: int, side: str) -> LaunchRun:
        limits = DEFAULT_LIMITS if self.against is None else DUET_LIMITS
        return stack.enter_context(
            LaunchRun(self.lab, self.scenario, self.settings, spec, index, self.test, side, limits)  # type: ignore[arg-type]
        )

    # --- launches ------------------------------------------------------------------------------------------------

    def _launches(self, wanted: int) -> None:
        """So many more launches of the candidate."""

        def one(index: int) -> tuple[Measured]:
            with ExitStack() as stack:
                run = self._open(stack, self.spec, index, "candidate")
                while run.wants_more():
                    run.round()
            return (run.measured,)

        self._measure(wanted, one)

    def _measure(self, wanted: int, launch: Callable[[int], tuple[Measured, ...]]) -> None:
        """So many more fit launches, fewer when the time is out; the very first is always measured."""
        goal = len(self.candidate) + wanted
        while len(self.candidate) < goal and not self._too_disturbed():
            if self.started and not self.budget.allows_another(self.settings.launches):
                return
            began = self.lab.clock()
            sides = launch(self.started)
            self.started += 1
            self.budget.launch_seconds.append(self.lab.clock() - began)
            if any(measured.unfit for measured in sides):
                self.unfit += sides
                continue
            self.candidate.append(sides[0])
            self.baseline += sides[1:]

    def _too_disturbed(self) -> bool:
        """More launches were spoilt than were asked for, and than could be used: the machine is not fit to measure on."""
        spoilt = sum(1 for measured in self.unfit if measured.launch.side == "candidate")
        return spoilt > max(self.settings.launches, len(self.candidate))

    def _ended_by_disturbance(self, judgement: Judgement) -> Judgement:
        """The same, saying that the machine ended it and not the time."""
        if judgement.verdict != Verdict.INCONCLUSIVE or judgement.change is None:
            return judgement
        spoilt = [measured.unfit for measured in self.unfit if measured.unfit]
        count = len(self.candidate)
        what = "launch pairs" if self.against is not None else "launches"
        seen = f"{percent(judgement.change)} over {count} {what}"
        return replace(
            judgement, reason=f"{seen}: environment: too many others were spoilt, the last with {spoilt[-1]}"
        )

    def _disturbed(self, result: Result) -> Result:
        """No launch could be used. Inconclusive and never green, whatever the metric would have been."""
        reason = next(measured.unfit for measured in self.unfit if measured.unfit)
        unread = {name: value.reason for name, value in result.metrics.items() if name in ENERGY_METRICS}
        for gate in self.gates:
            absent = not self.lab.meter.available and gate.metric in unread
            result.verdicts.append(
                VerdictRecord(
                    metric=gate.metric,
                    verdict=Verdict.INCOMPARABLE if absent else Verdict.INCONCLUSIVE,
                    tolerance=gate.tolerance,
                    limit=gate.limit,
                    gate=gate.gate and not absent,
                    reason=f"not measured: {unread[gate.metric]}" if absent else f"environment: {reason}",
                )
            )
            result.metrics[gate.metric].reason = reason
        return result

    def _result(self) -> Result:
        """The candidate's record. Spoilt launches stand in it as evidence; their figures count only where nothing
        else was measured."""
        spoilt = [measured for measured in self.unfit if measured.launch.side == "candidate"]
        result = assemble(self.test, self.scenario, self.spec, self.candidate or spoilt, self.gates)
        kept_out = self.unfit if self.candidate else [m for m in self.unfit if m.launch.side == "baseline"]
        result.launches += [measured.launch for measured in kept_out]
        if self.candidate:
            result.discarded_rounds += sum(1 for m in spoilt for round_ in m.launch.rounds if round_.contaminated)
        result.notes += [f"launch {m.launch.index + 1} is not used: {m.unfit}" for m in spoilt if m.unfit]
        return result


def not_measured(
    lab: Lab, scenario: Scenario, settings: Settings, test: str, expected_s: float | None = None
) -> Result:
    """The record of a test whose turn came after the session's time had ended: inconclusive, no figure.

    ``expected_s``: seconds that its fewest launches would have taken, None where nothing tells.
    """
    spec = lab.resolve(scenario.spec(settings.spec, lab.adapter(settings.spec)))
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
        verdicts=[
            VerdictRecord(
                metric=gate.metric,
                verdict=Verdict.INCONCLUSIVE,
                tolerance=gate.tolerance,
                limit=gate.limit,
                gate=gate.gate,
                reason=reason,
            )
            for gate in gates
        ],
    )
