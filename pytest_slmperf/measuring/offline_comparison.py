"""Comparison of two stored sides: results files or folders of baselines, each as a ``Side``.

The judge is the session's.  Without an engine there are no further launches, and none that could confirm a suspicion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pytest_slmperf.baselines import lookup
from pytest_slmperf.baselines.builder import standings_of
from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.baselines.store import DEFAULT_NAME, Store
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, frontier_verdict, split_point_metric, volume_margin
from pytest_slmperf.judging.comparison import session_alpha
from pytest_slmperf.measuring.judge import Judge, Noise, Samples, Sides, verdict_record
from pytest_slmperf.metrics.registry import REGISTRY, metric
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.model.defaults import ALPHA
from pytest_slmperf.model.energy import Energy
from pytest_slmperf.model.result import Machine, MetricValue, Result, Results, Session
from pytest_slmperf.model.verdict import UNDECIDED, Gate, Judgement, LaunchSample, Verdict, VerdictRecord
from pytest_slmperf.statistics.variance import VariancePrior
from pytest_slmperf.util.formatting import counted

EXIT_SAME, EXIT_REGRESSED, EXIT_INCONCLUSIVE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a comparison.

    metrics:          empty: the gated metrics
    tolerance, limit: None: as in the candidate's session, else the defaults
    alpha:            error share of all comparisons together
    """

    metrics: tuple[str, ...] = ()
    tolerance: float | None = None
    limit: float | None = None
    alpha: float = ALPHA
    across: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One test of a side. ``baseline``: its launches by session; None if nothing was measured."""

    result: Result
    machine: Machine
    session: Session | None
    baseline: Baseline | None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison, with the look-ups of a store that holds one name."""

    label: str
    entries: list[Entry]

    def result(self, test_id: str) -> Result | None:
        """The test's result; None where this side has none."""
        return next((entry.result for entry in self.entries if entry.result.id == test_id), None)

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        same = [entry for entry in self.elsewhere(name, test_id) if entry.fingerprint == fingerprint]
        return same[0] if same else None

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        return [entry.baseline for entry in self.entries if entry.result.id == test_id and entry.baseline is not None]


@dataclass
class Compared:
    """One test of the candidate, with its verdicts in ``result.verdicts``, and its baseline."""

    result: Result
    match: BaselineMatch
    launches: Baseline | None
    base: Result | None = None  # of the base side, where it holds results


@dataclass
class Outcome:
    """A whole comparison. ``absent``: tests of the base side that the candidate lacks."""

    compared: list[Compared]
    absent: list[str] = field(default_factory=list)
    comparisons: int = 0

    @property
    def verdicts(self) -> list[VerdictRecord]:
        return [verdict for compared in self.compared for verdict in compared.result.verdicts]

    @property
    def exit_code(self) -> int:
        """0: nothing regressed; 1: a gated metric regressed; 2: at least one metric has no answer (no baseline, for
        instance).

        A test in quarantine (``gate`` false) is judged and shown but does not affect the code.
        """
        gated = {verdict.verdict for verdict in self.verdicts if verdict.gate}
        if Verdict.REGRESSED in gated:
            return EXIT_REGRESSED
        unanswered = gated & {*UNDECIDED}
        return EXIT_INCONCLUSIVE if unanswered or not self.verdicts else EXIT_SAME


def side_of_results(label: str, results: Results) -> Side:
    """The side of a results file. InvalidInput for a value that is not a reading, or has another unit than its metric."""
    from pytest_slmperf.baselines import builder

    entries = []
    for result in results.results:
        measured = any(rounds for value in result.metrics.values() for rounds in value.launches)
        baseline = None
        try:
            if measured:
                baseline = builder.from_result(DEFAULT_NAME, result, results.session, results.machine, None, None)
        except InvalidInput as error:
            raise InvalidInput(f"{label}: {error}; measure the test again") from None
        entries.append(Entry(result, results.machine, results.session, baseline))
    return Side(label, entries)


def side_of_store(store: Store, name: str) -> Side:
    """The baselines of one name, with all their sessions. InvalidInput if there is none."""
    baselines = store.all(name)
    if not baselines:
        raise InvalidInput(f"{store}: holds no baseline named {name!r}; slmperf baselines list shows what there is")
    entries = [Entry(as_result(baseline), baseline.machine, None, baseline) for baseline in baselines]
    return Side(f"{store} ({name})", entries)


def as_result(baseline: Baseline) -> Result:
    """A baseline in the form of a result: the launches of all its sessions in order, and what is in doubt of them."""
    energy = Energy(metered=baseline.newest.metered)
    result = Result(id=baseline.id, scenario=dict(baseline.work), engine=baseline.engine, energy=energy)
    for name in sorted({name for session in baseline.sessions for name in session.metrics}):
        kept = [session.metrics[name] for session in baseline.sessions if name in session.metrics]
        launches = [rounds for kept_session in kept for rounds in kept_session.launches]
        means = [sum(rounds) / len(rounds) for rounds in launches]
        doubt = next((s.doubts[name] for s in baseline.sessions if name in s.metrics and name in s.doubts), None)
        result.metrics[name] = MetricValue(
            unit=kept[-1].unit, better=kept[-1].better, value=sum(means) / len(means), launches=launches, reason=doubt
        )
    for name, reason in baseline.newest.doubts.items():
        known = metric(name)
        result.metrics.setdefault(name, MetricValue(unit=known.unit, better=known.better, value=None, reason=reason))
    return result


def compare(base: Side, candidate: Side, rules: Rules) -> Outcome:
    """Judge every test of the candidate against the base side. Fills ``verdicts`` and ``differences`` of its results."""
    for name in rules.metrics:
        if metric(name).better == "none":
            raise InvalidInput(f"metric {name!r} has no direction, so it cannot be compared")
    lookup.check_across(rules.across, "--across")

    compared: list[Compared] = []
    for entry in candidate.entries:
        match = lookup.find(base, entry.machine, entry.result, DEFAULT_NAME, rules.across, entry.session)
        if match.verdict == Verdict.NEW:
            match = replace(match, reason=f"{base.label} holds nothing of this test")
        compared.append(Compared(entry.result, match, entry.baseline, base.result(entry.result.id)))
    # Requested metrics are judged one by one; without a request, a sweep is judged by its points, as in a session.
    gates = [
        (gates_of(test.result, test.match, rules), [] if rules.metrics else point_gates(test, rules))
        for test in compared
    ]
    count = sum(
        len(own) + len(points) for test, (own, points) in zip(compared, gates, strict=True) if not test.match.verdict
    )
    alpha = session_alpha(rules.alpha, max(1, count))
    prior = _prior_of(compared)
    for test, (own, points) in zip(compared, gates, strict=True):
        judged = [(gate, _judge(gate, test, alpha, prior)) for gate in [*own, *points]]
        if points:
            judged = _of_sweep(test, judged, points)
        test.result.differences = test.match.differences
        label = test.match.label if test.match.baseline else None
        test.result.verdicts = [verdict_record(gate, judgement, label) for gate, judgement in judged]
    present = {test.result.id for test in compared}
    absent = [entry.result.id for entry in base.entries if entry.result.id not in present]
    return Outcome(compared, absent, count)


def gates_of(result: Result, match: BaselineMatch, rules: Rules) -> list[Gate]:
    """The metrics to judge, with the margins and the quarantine of the candidate's session."""
    previous = {verdict.metric: verdict for verdict in result.verdicts}
    measured = {name for name, value in result.metrics.items() if value.launches}
    known = measured | (set(match.baseline.newest.metrics) if match.baseline else set())
    names = list(rules.metrics) or [
        name
        for name in [*REGISTRY, *sorted(known - REGISTRY.keys())]
        if name in known and _gates(name, result, previous)
    ]
    gates = []
    for name in names or ["output_throughput"]:
        was = previous.get(name)
        better = result.metrics[name].better if name in result.metrics else metric(name).better
        if better == "none":
            continue
        margins = {"tolerance": rules.tolerance, "limit": rules.limit}
        if was is not None:
            margins = {"tolerance": was.tolerance, "limit": was.limit} | {
                k: v for k, v in margins.items() if v is not None
            }
        given = {key: value for key, value in margins.items() if value is not None}
        gate = Gate(name, better, **given, gate=was.gate if was is not None else True)
        gates.append(_widened(gate, result, rules, was) if name == VOLUME else gate)
    return gates


def _widened(gate: Gate, result: Result, rules: Rules, was: VerdictRecord | None) -> Gate:
    """The hypervolume's gate with margins derived from the points', as in a session, unless its session stated its own."""
    count = len(result.scenario.get("objectives", ())) or 2
    kept = {"tolerance": was is not None and was.tolerance, "limit": was is not None and was.limit}
    tolerance, limit = (
        volume_margin(getattr(gate, name), count)
        if getattr(rules, name) is not None or not kept[name]
        else getattr(gate, name)
        for name in ("tolerance", "limit")
    )
    return replace(gate, tolerance=tolerance, limit=limit)


def point_gates(test: Compared, rules: Rules) -> list[Gate]:
    """Gates for the points of a sweep that the baseline holds; empty for any other scenario."""
    objectives = test.result.scenario.get("objectives")
    if test.result.scenario.get("kind") != "sweep" or not objectives or test.match.verdict is not None:
        return []
    assert test.match.baseline is not None
    whole = next((verdict for verdict in test.result.verdicts if verdict.metric == VOLUME), None)
    used = {} if whole is None else whole.detail.get("margins", {})
    chosen = {str(row["key"]) for row in test.result.points} | {
        split_point_metric(name)[1] for name in test.result.metrics
    }
    gates = []
    for name in test.match.baseline.newest.metrics:
        base, key = split_point_metric(name)
        # An adaptive sweep may choose other points; a chosen point without a reading is incomparable, not absent.
        if (
            key is None
            or base not in (*objectives, ENERGY)
            or (test.result.scenario.get("adaptive") and key not in chosen)
        ):
            continue
        given = {"tolerance": rules.tolerance, "limit": rules.limit}
        margins = used.get(base, {}) | {name: value for name, value in given.items() if value is not None}
        better = metric(base).better
        assert better != "none"
        gates.append(Gate(name, better, **margins, gate=True if whole is None else whole.gate))
    return gates


def _of_sweep(test: Compared, judged: list[tuple[Gate, Judgement]], points: list[Gate]) -> list[tuple[Gate, Judgement]]:
    """The judgements of a sweep: the frontier's, from its points, replaces the hypervolume's own.

    The frontier is judged without energy of another meter, which its reason names once.
    """
    scenario, match = test.result.scenario, test.match
    assert match.baseline is not None
    elsewhere = [(gate, judgement) for gate, judgement in judged if match.unlike(gate.metric)]
    comparable = [judgement for gate, judgement in judged if (gate, judgement) not in elsewhere]
    ours = {split_point_metric(name)[1] for name, value in test.result.metrics.items() if value.launches}
    theirs = {split_point_metric(name)[1] for name in match.baseline.newest.metrics}
    if ours != theirs:  # hypervolumes over different points are not comparable
        comparable = [judgement for judgement in comparable if judgement.metric != VOLUME]
    ranks = standings_of(match.baseline, scenario.get("varied", {}), scenario["objectives"])
    frontier = frontier_verdict(comparable, ranks, key_name=str(scenario.get("key", "point")))
    whole = [
        (gate, frontier.judgement(judgement.detail) if gate.metric == VOLUME else judgement)
        for gate, judgement in judged
        if gate not in points
    ]
    return whole + [(replace(gate, metric=ENERGY), judgement) for gate, judgement in elsewhere[:1]]


def _gates(name: str, result: Result, previous: dict[str, VerdictRecord]) -> bool:
    if name in previous:
        return True
    value = result.metrics.get(name)
    return (value is not None and value.gate) or (name in REGISTRY and REGISTRY[name].gate)


class _StoredSides(Sides):
    """One test of the candidate and its baseline, both stored: nothing can be measured again."""

    def __init__(self, test: Compared, metric: str) -> None:
        self._result, self._match, self._base = test.result, test.match, test.base
        settled = bool(test.result.failure) or test.match.verdict is not None
        self._fresh = [] if settled or test.launches is None else _own_samples(test.launches, metric)
        self._stored = [] if settled else test.match.samples(metric)
        self._metric = metric
        self.unlike = {} if settled or (why := test.match.unlike(metric)) is None else {metric: why}

    def samples(self) -> tuple[Samples, Samples]:
        return {self._metric: self._fresh}, {self._metric: self._stored}

    def unread(self, metric: str, candidate: bool, baseline: bool) -> tuple[Verdict, str]:
        if self._result.failure:
            return Verdict.INCOMPARABLE, f"not measured: {self._result.failure}"
        if self._match.verdict is not None:
            return self._match.verdict, self._match.reason
        if not candidate:
            return Verdict.INCOMPARABLE, f"not measured: {_why_not(self._result, metric)}"
        value = None if self._base is None else self._base.metrics.get(metric)
        if value is not None and value.reason:
            return Verdict.INCOMPARABLE, f"the baseline has no reading of this metric: {value.reason}"
        return Verdict.NEW, "the baseline has no reading of this metric"

    @property
    def launches(self) -> int:
        return len(self._fresh)


def _judge(gate: Gate, test: Compared, alpha: float, prior: Callable[[Sequence[str]], VariancePrior]) -> Judgement:
    """The judgement of one metric of a test. ``alpha``: the error share of this comparison."""
    sides = _StoredSides(test, gate.metric)
    (judgement,) = Judge([gate], alpha, "stored", prior, sides.launches, confirm=False).run(sides)
    return _without_doubt(judgement, test)


def _without_doubt(judgement: Judgement, test: Compared) -> Judgement:
    """The judgement, incomparable where it passed on a reading that is in doubt: such a reading can fail and not pass."""
    if judgement.verdict not in (Verdict.SAME, Verdict.IMPROVED):
        return judgement
    for side, result in (("", test.result), ("the baseline: ", test.base)):
        value = None if result is None else result.metrics.get(judgement.metric)
        if value is not None and value.launches and value.reason:
            return replace(judgement, verdict=Verdict.INCOMPARABLE, reason=f"{side}{value.reason}")
    return judgement


def _own_samples(launches: Baseline, name: str) -> list[LaunchSample]:
    """The candidate's launches; for energy, only those of sessions metered like its newest."""
    return BaselineMatch(launches, metered=launches.newest.metered).samples(name)


def _why_not(result: Result, name: str) -> str:
    """Why a metric has no rounds; for a point of a sweep, from its own record."""
    value = result.metrics.get(name)
    key = split_point_metric(name)[1]
    row = next((row for row in result.points if key is not None and str(row["key"]) == key), {})
    lost = row.get("preemptions")
    said = row.get("failure") or (
        counted(lost, "preemption") if lost else row.get("missing", {}).get(split_point_metric(name)[0])
    )
    return str(said or (value.reason if value and value.reason else "no rounds were kept"))


def _prior_of(compared: Sequence[Compared]) -> Callable[[Sequence[str]], VariancePrior]:
    """The noise of both sides, estimated as in a session: the base side is stored history, the candidate is today's."""
    stored: dict[tuple[str, str], Sequence[LaunchSample]] = {}
    noise = Noise(lambda _: stored)
    names: set[str] = set()
    for test in compared:
        if not test.match.comparable or test.match.baseline is None or test.launches is None:
            continue
        for name in test.match.baseline.newest.metrics:
            if _all_positive(samples := test.match.samples(name)):
                stored[test.result.id, name] = samples
                names.add(name)
        for name in test.launches.newest.metrics:
            if _all_positive(samples := _own_samples(test.launches, name)):
                noise.add(test.result.id, name, samples)
                names.add(name)

    def prior(metrics: Sequence[str]) -> VariancePrior:
        """Points of one metric scatter alike in all sweeps; a metric of a whole test has its own noise."""
        at_points = any(split_point_metric(name)[1] is not None for name in metrics)
        bases = {split_point_metric(name)[0] for name in metrics}
        return noise.prior(
            "", {name for name in names if split_point_metric(name)[0] in bases} if at_points else metrics
        )

    return prior


def _all_positive(samples: Sequence[LaunchSample]) -> bool:
    return bool(samples) and all(value > 0 for sample in samples for value in sample.rounds)
