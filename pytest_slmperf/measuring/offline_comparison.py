"""Comparing two stored sides: results files or folders of baselines, each as a ``Side``.

The statistics are those of a session (``verdicts/``); what is missing here is the engine, so nothing can be measured
again, and a suspicion cannot be confirmed by fresh launches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_slmperf.baselines import lookup
from pytest_slmperf.baselines.lookup import Found
from pytest_slmperf.baselines.store import DEFAULT_NAME, Store
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, split, volume_margin
from pytest_slmperf.metrics.registry import REGISTRY, metric
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.model.defaults import ALPHA
from pytest_slmperf.model.energy import Energy
from pytest_slmperf.model.result import Machine, MetricValue, Result, Results, Session
from pytest_slmperf.model.verdict import UNDECIDED, Gate, Judgement, LaunchSample, Verdict, VerdictRecord
from pytest_slmperf.util.formatting import counted

if TYPE_CHECKING:
    from pytest_slmperf.statistics.variance import VariancePrior

EXIT_SAME, EXIT_REGRESSED, EXIT_INCONCLUSIVE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Rules:
    """How to compare. ``metrics`` empty: those that gate. ``tolerance`` and ``limit`` None: as the candidate's session
    used them, else the defaults. ``alpha`` is shared by all comparisons."""

    metrics: tuple[str, ...] = ()
    tolerance: float | None = None
    limit: float | None = None
    alpha: float = ALPHA
    across: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One test of a side. ``baseline`` holds its launches by session, None where nothing was measured."""

    result: Result
    machine: Machine
    session: Session | None
    baseline: Baseline | None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison. Looking up in it is like looking up in a store with one name."""

    label: str
    entries: list[Entry]

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        same = [one for one in self.elsewhere(name, test_id) if one.fingerprint == fingerprint]
        return same[0] if same else None

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        return [one.baseline for one in self.entries if one.result.id == test_id and one.baseline is not None]


@dataclass
class Compared:
    """One test of the candidate with its verdicts in ``result.verdicts``, and the baseline it was held against."""

    result: Result
    found: Found
    launches: Baseline | None


@dataclass
class Outcome:
    """A whole comparison. ``absent`` are tests of the base side that the candidate has not."""

    compared: list[Compared]
    absent: list[str] = field(default_factory=list)
    comparisons: int = 0

    @property
    def verdicts(self) -> list[VerdictRecord]:
        return [verdict for one in self.compared for verdict in one.result.verdicts]

    @property
    def exit_code(self) -> int:
        """0 nothing regressed, 1 a gated metric regressed, 2 no answer on at least one (a missing baseline is none).

        A test in quarantine (``gate`` false) is judged and shown and decides nothing.
        """
        gated = {verdict.verdict for verdict in self.verdicts if verdict.gate}
        if Verdict.REGRESSED in gated:
            return EXIT_REGRESSED
        unanswered = gated & {*UNDECIDED}
        return EXIT_INCONCLUSIVE if unanswered or not self.verdicts else EXIT_SAME


def side_of_results(label: str, results: Results) -> Side:
    """InvalidInput when a value is no reading, or a unit not its metric's."""
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
    """The baselines of one name, each with all its sessions. InvalidInput when there is none."""
    baselines = store.all(name)
    if not baselines:
        raise InvalidInput(f"{store}: holds no baseline named {name!r}; slmperf baselines list shows what there is")
    return Side(f"{store} ({name})", [Entry(as_result(one), one.machine, None, one) for one in baselines])


def as_result(baseline: Baseline) -> Result:
    """A baseline in the form of a result: the launches of all its sessions, one after the other."""
    energy = Energy(metered=baseline.newest.metered)
    result = Result(id=baseline.id, scenario=dict(baseline.work), engine=baseline.engine, energy=energy)
    for name in sorted({name for session in baseline.sessions for name in session.metrics}):
        kept = [session.metrics[name] for session in baseline.sessions if name in session.metrics]
        launches = [rounds for one in kept for rounds in one.launches]
        means = [sum(rounds) / len(rounds) for rounds in launches]
        result.metrics[name] = MetricValue(
            unit=kept[-1].unit, better=kept[-1].better, value=sum(means) / len(means), launches=launches
        )
    return result


def compare(base: Side, candidate: Side, rules: Rules) -> Outcome:
    """Judge every test of the candidate against the base side. Fills ``verdicts`` and ``differences`` of its results."""
    for name in rules.metrics:
        if metric(name).better == "none":
            raise InvalidInput(f"metric {name!r} has no direction, so it cannot be compared")
    lookup.check_across(rules.across, "--across")
    from pytest_slmperf.judging.comparison import session_alpha
    from pytest_slmperf.statistics.variance import estimate_prior

    compared: list[Compared] = []
    for entry in candidate.entries:
        found = lookup.find(base, entry.machine, entry.result, DEFAULT_NAME, rules.across, entry.session)
        if found.verdict == Verdict.NEW:
            found = replace(found, reason=f"{base.label} holds nothing of this test")
        compared.append(Compared(entry.result, found, entry.baseline))
    # Metrics that were asked for are judged as they stand; else a sweep is judged as a session judges it, by its points.
    points = [[] if rules.metrics else point_gates(one, rules) for one in compared]
    gates = [[*gates_of(one.result, one.found, rules), *own] for one, own in zip(compared, points, strict=True)]
    count = sum(len(wanted) for one, wanted in zip(compared, gates, strict=True) if one.found.verdict is None)
    alpha = session_alpha(rules.alpha, max(1, count))
    history = _history(compared)
    # Start-up times scatter unlike throughputs: only the same metric tells, a sweep's at all of its points.
    alike: dict[str, dict[str, list[LaunchSample]]] = {}
    for name, launches in history.items():
        alike.setdefault(split(name)[0], {}).update({f"{name} {key}": found for key, found in launches.items()})
    prior = {
        name: estimate_prior(launches if split(name)[1] is None else alike[split(name)[0]])
        for name, launches in history.items()
    }
    for one, wanted, own in zip(compared, gates, points, strict=True):
        one.result.differences = one.found.differences
        judged = [(gate, _judge(gate, one, alpha, prior)) for gate in wanted]
        one.result.verdicts = [_record(gate, judgement, one.found) for gate, judgement in judged if gate not in own]
        if own:  # energy of another meter says nothing of the frontier, which is judged without it
            elsewhere = [(gate, judgement) for gate, judgement in judged if one.found.unlike(gate.metric)]
            _judge_whole(one, [judgement for gate, judgement in judged if (gate, judgement) not in elsewhere])
            for gate, judgement in elsewhere[:1]:
                named = replace(gate, metric=ENERGY)
                one.result.verdicts.append(_record(named, replace(judgement, metric=ENERGY), one.found))
    present = {one.result.id for one in compared}
    absent = [entry.result.id for entry in base.entries if entry.result.id not in present]
    return Outcome(compared, absent, count)


def gates_of(result: Result, found: Found, rules: Rules) -> list[Gate]:
    """The metrics to judge, with the margins and the quarantine that the candidate's own session used."""
    previous = {verdict.metric: verdict for verdict in result.verdicts}
    measured = {name for name, value in result.metrics.items() if value.launches}
    known = measured | (set(found.baseline.newest.metrics) if found.baseline else set())
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
    """The hypervolume's margins follow from those of the points, as in a session; those its session used are kept."""
    count = len(result.scenario.get("objectives", ())) or 2
    kept = {"tolerance": was is not None and was.tolerance, "limit": was is not None and was.limit}
    tolerance, limit = (
        volume_margin(getattr(gate, name), count)
        if getattr(rules, name) is not None or not kept[name]
        else getattr(gate, name)
        for name in ("tolerance", "limit")
    )
    return replace(gate, tolerance=tolerance, limit=limit)


def point_gates(one: Compared, rules: Rules) -> list[Gate]:
    """What is judged at the points of a sweep that the baseline holds; empty for everything else."""
    objectives = one.result.scenario.get("objectives")
    if one.result.scenario.get("kind") != "sweep" or not objectives or one.found.verdict is not None:
        return []
    assert one.found.baseline is not None
    whole = next((verdict for verdict in one.result.verdicts if verdict.metric == VOLUME), None)
    used = {} if whole is None else whole.detail.get("margins", {})
    chosen = {str(row["key"]) for row in one.result.points} | {split(name)[1] for name in one.result.metrics}
    gates = []
    for name in one.found.baseline.newest.metrics:
        base, key = split(name)
        # An adaptive sweep need not have taken the same points; one that it took and that has no reading is no gap.
        if (
            key is None
            or base not in (*objectives, ENERGY)
            or (one.result.scenario.get("adaptive") and key not in chosen)
        ):
            continue
        given = {"tolerance": rules.tolerance, "limit": rules.limit}
        margins = used.get(base, {}) | {name: value for name, value in given.items() if value is not None}
        better = metric(base).better
        assert better != "none"
        gates.append(Gate(name, better, **margins, gate=True if whole is None else whole.gate))
    return gates


def _judge_whole(one: Compared, judged: list[Judgement]) -> None:
    """One verdict for a sweep, from its points and its hypervolume, in place of the hypervolume's own."""
    from pytest_slmperf.baselines.sweeps import standings_of
    from pytest_slmperf.frontier.regression import frontier_verdict

    scenario, found = one.result.scenario, one.found
    assert found.baseline is not None
    ours = {split(name)[1] for name, value in one.result.metrics.items() if value.launches}
    theirs = {split(name)[1] for name in found.baseline.newest.metrics}
    if ours != theirs:  # frontiers of other points have other hypervolumes
        judged = [judgement for judgement in judged if judgement.metric != VOLUME]
    ranks = standings_of(found.baseline, scenario.get("varied", {}), scenario["objectives"])
    verdict = frontier_verdict(judged, ranks, key_name=str(scenario.get("key", "point")))
    for number, record in enumerate(one.result.verdicts):
        if record.metric == VOLUME:
            volume = verdict.volume
            one.result.verdicts[number] = VerdictRecord(
                metric=VOLUME, verdict=verdict.verdict, baseline=record.baseline, tolerance=record.tolerance,
                limit=record.limit, gate=record.gate, reason=verdict.reason,
                change=None if volume is None else volume.change, ci=None if volume is None else volume.ci,
                detail=record.detail | verdict.detail(),
            )  # fmt: skip


def _gates(name: str, result: Result, previous: dict[str, VerdictRecord]) -> bool:
    if name in previous:
        return True
    value = result.metrics.get(name)
    return (value is not None and value.gate) or (name in REGISTRY and REGISTRY[name].gate)


def _judge(gate: Gate, one: Compared, alpha: float, prior: Mapping[str, VariancePrior]) -> Judgement:
    from pytest_slmperf.judging.comparison import Comparison

    def settled(verdict: Verdict, reason: str) -> Judgement:
        return Judgement(gate.metric, verdict, None, None, reason)

    if one.result.failure:
        return settled(Verdict.INCOMPARABLE, f"not measured: {one.result.failure}")
    if one.found.verdict is not None:
        return settled(one.found.verdict, one.found.reason)
    fresh = _own_samples(one.launches, gate.metric) if one.launches else []
    if not fresh:
        return settled(Verdict.INCOMPARABLE, f"not measured: {_why_not(one.result, gate.metric)}")
    stored = one.found.samples(gate.metric)
    if (why := one.found.unlike(gate.metric)) is not None:
        return settled(Verdict.INCOMPARABLE, why)
    if not stored:
        return settled(Verdict.NEW, "the baseline has no reading of this metric")
    comparison = Comparison(
        [gate],
        {gate.metric: stored},
        alpha=alpha,
        mode="stored",
        prior=prior,
        max_launches=max(Comparison.first_launches, len(fresh)),
        confirm=False,
    )
    return comparison.decide({gate.metric: fresh}, final=True).judgements[0]


def _own_samples(launches: Baseline, name: str) -> list[LaunchSample]:
    """The candidate's launches; of energy those of its sessions that were read as its newest one was."""
    return Found(launches, metered=launches.newest.metered).samples(name)


def _why_not(result: Result, name: str) -> str:
    """Why a metric has no rounds, of a sweep's point by its own record."""
    value = result.metrics.get(name)
    key = split(name)[1]
    row = next((row for row in result.points if key is not None and str(row["key"]) == key), {})
    lost = row.get("preemptions")
    said = row.get("failure") or (counted(lost, "preemption") if lost else row.get("missing", {}).get(split(name)[0]))
    return str(said or (value.reason if value and value.reason else "no rounds were kept"))


def _history(compared: Sequence[Compared]) -> dict[str, dict[str, list[LaunchSample]]]:
    """Metric → launches of both sides, for what is known of its noise; sides apart, since a true change is no noise."""
    found: dict[str, dict[str, list[LaunchSample]]] = {}
    for one in compared:
        if one.found.verdict is not None or one.found.baseline is None or one.launches is None:
            continue
        for side, baseline in (("base", one.found.baseline), ("candidate", one.launches)):
            for name in baseline.newest.metrics:
                samples = one.found.samples(name) if side == "base" else _own_samples(baseline, name)
                if samples and all(value > 0 for sample in samples for value in sample.rounds):
                    found.setdefault(name, {})[f"{side} {one.result.id}"] = samples
    return found


def _record(gate: Gate, judgement: Judgement, found: Found) -> VerdictRecord:
    return VerdictRecord(
        metric=gate.metric,
        verdict=judgement.verdict,
        change=judgement.change,
        ci=judgement.ci,
        baseline=found.label if found.baseline else None,
        tolerance=gate.tolerance,
        limit=gate.limit,
        gate=gate.gate,
        reason=judgement.reason,
        detail=judgement.detail,
        more_launches=judgement.more_launches,
    )
