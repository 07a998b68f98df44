"""The result of ``slmperf.sweep``: frontier, knee, advice and its confirmation; the margins and verdicts of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.advisor import (
    EPSILON,
    Advice,
    Memory,
    engine_flags,
    largest_batch,
    least_energy,
    with_memory,
)
from pytest_slmperf.frontier.knee import Knee, KneeUncertainty, knee_uncertainty, kneedle, share_knee
from pytest_slmperf.frontier.pareto import Standing, frontier
from pytest_slmperf.frontier.points import Key, MetricBound, Point, goals_of, numeric_keys, points_of
from pytest_slmperf.frontier.regression import (
    ENERGY,
    VOLUME,
    frontier_verdict,
    point_metric,
    split_point_metric,
    volume_margin,
)
from pytest_slmperf.measuring.context import Settings
from pytest_slmperf.measuring.judge import unjudged_record, verdict_record
from pytest_slmperf.measuring.studies.sweep_record import WHOLE
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.charts import BoundOnMetric, SweepCharts
from pytest_slmperf.model.result import MetricValue, Result
from pytest_slmperf.model.verdict import Gate, Judgement, Verdict, VerdictRecord
from pytest_slmperf.scenarios.sweep import Sweep

BATCHES = ("batch", "requests", "max_num_seqs")  # settings that determine the engine's batch limit


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The pick, measured again. ``met``: whether every SLO holds by the new readings, ``values``. Without a reading, because
    the session's time was over or the machine too disturbed, ``met`` is None and ``values`` is empty."""

    key: Key
    met: bool | None
    values: dict[str, float]
    slos: tuple[MetricBound, ...]


class MeasuredSweep:
    """A measured sweep. ``sweep["hypervolume"]``: metric of the whole sweep; ``sweep.at(64, "itl_mean")``: of one point."""

    def __init__(
        self,
        scenario: Sweep,
        result: Result,
        measure: Callable[[Sweep, str], Result],
        record_advice: Callable[[Advice], None] = lambda advice: None,
    ) -> None:
        """``measure`` measures a sweep again under a label; ``record_advice`` writes the advice into its record."""
        self.scenario = scenario
        self.result = result
        self._measure = measure
        self._record_advice = record_advice

    @property
    def metrics(self) -> dict[str, MetricValue]:
        return self.result.metrics

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by metric."""
        return {verdict.metric: verdict.verdict for verdict in self.result.verdicts}

    @property
    def points(self) -> list[Point]:
        """The points that count: measured, without preemptions."""
        return points_of(self.result.points, self.scenario.objectives)

    @property
    def keys(self) -> list[Key]:
        """Keys of the points that count."""
        return [point.key for point in self.points]

    @property
    def complete(self) -> bool:
        """Whether at least two points have clean readings. If not, on a disturbed machine, the verdict is inconclusive and
        a test cannot assert the shape of the frontier."""
        return len(self.points) > 1

    def __getitem__(self, name: str) -> float:
        """A metric of the whole sweep; LookupError with the reason if there is none."""
        self.result.need(self.complete)
        value = self.result.metrics.get(name)
        if value is None:
            raise LookupError(
                f"{self.result.id} has no metric {name!r}; it has {', '.join(sorted(self.result.metrics))}"
            )
        if value.value is None:
            raise LookupError(f"{self.result.id}: {name} was not measured: {value.reason}")
        return value.value

    def at(self, key: Key, name: str) -> float:
        """A metric of one point; LookupError if the point or its reading is absent."""
        self.result.need(self.complete)
        for row in self.result.points:
            if row["key"] == key:
                if row.get(name) is None:
                    reason = (
                        row.get("failure") or row.get("missing", {}).get(name) or "not a metric of this sweep's points"
                    )
                    raise LookupError(f"{self.result.id}: {name} at {key!r} was not measured: {reason}")
                return float(row[name])
        raise LookupError(
            f"{self.result.id} has no point {key!r}; measured are {[row['key'] for row in self.result.points]}"
            f"{self._left_out(key)}"
        )

    def _left_out(self, key: Key) -> str:
        if not self.scenario.adaptive or key not in self.scenario.candidates:
            return ""
        return f". The sweep is adaptive and did not measure {key!r}; adaptive=False measures every value"

    def frontier(self, *objectives: str) -> list[Key]:
        """Keys of the non-dominated points, by the given metrics or by the sweep's objectives."""
        from pytest_slmperf.frontier.points import Objective

        goals = self.scenario.goals
        if objectives:
            directions = {name: metric(name).better for name in objectives}
            goals = tuple(Objective(name, better) for name, better in directions.items() if better != "none")
        return [point.key for point in frontier(self.points, goals)]

    def knee(self, *, cost: str | None = None) -> Knee:
        """The least key (or the least ``cost``, a metric of the points) with ≥ 95 % of the peak throughput.

        LookupError without a point, and for keys without an order unless ``cost`` is given.
        """
        self.result.need(self.complete)
        if cost is None:
            self._need_order()
        knee = share_knee(self.points, self.scenario.objectives[0], cost=cost)
        if knee is None:
            raise LookupError(f"{self.result.id}: no point to find a knee among")
        return knee

    def kneedle(self) -> Knee | None:
        """The knee by Kneedle; None if the curve has no knee, LookupError for keys without an order."""
        self._need_order()
        return kneedle(self.points, self.scenario.objectives[0])

    def knee_uncertainty(self) -> KneeUncertainty | None:
        """Uncertainty of ``knee``, by a bootstrap over launches and rounds; LookupError for keys without an order."""
        self._need_order()
        return knee_uncertainty(self.points, self.scenario.objectives[0])

    def _need_order(self) -> None:
        if not numeric_keys(self.points):
            raise LookupError(
                f"{self.result.id}: a sweep over {self._varied} has no knee, since its keys are no numbers and have no "
                "order; knee(cost='kv_cache_peak') takes the point with the least of a metric instead"
            )

    @property
    def _varied(self) -> str:
        return " and ".join(name for name, _ in self.scenario.varied)

    def slo(self, times: float, at: Key) -> MetricBound:
        """The SLO of the batching advisor: the latency metric at most ``times`` its value at point ``at``."""
        if not times > 0:
            raise InvalidInput(f"slmperf.sweep: slo() is a multiple of a latency, so it must be above 0, not {times!r}")
        latency = self.scenario.objectives[1]
        return MetricBound(latency, times * self.at(at, latency))

    def advise(self, *slos: MetricBound, epsilon: float = EPSILON, memory: Memory | None = None) -> Advice | None:
        """The largest key that keeps the SLOs and scales (arXiv 2503.08311), with engine flags and, if ``memory`` is given,
        the memory that it frees; None if no point does.  InvalidInput for keys that are not batch sizes."""
        if self.scenario.key_name not in BATCHES:
            raise InvalidInput(
                f"slmperf.sweep: advise() picks a batch, and the points of this sweep are values of {self._varied}; sweep "
                f"one of {', '.join(BATCHES)} alone, or pick by energy with least_energy()"
            )
        for slo in slos:
            if not isinstance(slo, MetricBound):
                raise InvalidInput(f"slmperf.sweep: advise() takes SLOs as slo() makes them, not {slo!r}")
        limit = dict(self.scenario.fixed).get("max_num_seqs")
        if limit is not None and any(point.number > limit for point in self.points):
            raise InvalidInput(
                f"slmperf.sweep: advise() picks a batch, and an engine with max_num_seqs={limit} runs no more than that of "
                f"the {self.scenario.key_name} sent; sweep max_num_seqs=[…] instead"
            )
        advice = largest_batch(
            self.points,
            self.scenario.objectives[0],
            slos,
            epsilon=epsilon,
            objectives=goals_of(self.scenario.objectives),
        )
        if advice is None:
            return None
        share = next(row.get("kv_cache_peak") for row in self.result.points if row["key"] == advice.key)
        if memory is not None and share is not None:
            advice = with_memory(advice, memory, share)
        else:
            advice = replace(advice, flags=engine_flags(advice.key))
        advice = replace(advice, detail={**advice.detail, "slos": [asdict(slo) for slo in slos]})
        self._record_advice(advice)
        return advice

    def least_energy(self, *slos: MetricBound) -> Advice | None:
        """The point of least energy per output token that keeps the SLOs; None if no measured point does."""
        return least_energy(self.points, ENERGY, slos)

    def confirm(self, advice: Advice | None, *slos: MetricBound) -> Confirmation:
        """Measure the pick again, as a result of its own, and check the SLOs on the new readings.

        InvalidInput for ``advice`` None, which means that no point keeps the SLOs.
        """
        if advice is None:
            bounds = " and ".join(str(slo) for slo in slos)
            raise InvalidInput(
                f"slmperf.sweep: confirm() was given no advice: no point of the sweep keeps {bounds or 'what was asked'} "
                "and scales; loosen the SLO or sweep smaller values; where that is no failure, test for None first"
            )
        again = self._measure(self.scenario.only(advice.key), f"confirm {advice.key}")
        points = points_of(again.points, self.scenario.objectives)
        if not points:  # the new record is inconclusive and has the reason
            return Confirmation(advice.key, None, {}, slos)
        values: Mapping[str, Any] = points[0].values
        return Confirmation(advice.key, all(slo.met(points[0]) for slo in slos), dict(values), slos)


def mark_advice(result: Result, advice: Advice) -> None:
    """Write the advisor's pick into a sweep's record: a mark in the frontier charts, and a note with the flags."""
    charts = result.charts.sweep = result.charts.sweep or SweepCharts()
    for chart in charts.frontiers:
        chart.advice = advice.key
    charts.slos = [BoundOnMetric(**bound) for bound in advice.detail.get("slos", [])]
    freed = "" if advice.memory_freed_bytes is None else f", frees {advice.memory_freed_bytes / 2**30:.3g} GiB"
    note = (
        f"advised: {advice.key} ({advice.reason}){'; run with ' if advice.flags else ''}{' '.join(advice.flags)}{freed}"
    )
    if note not in result.notes:
        result.notes.append(note)


# The gates of a sweep, and its single verdict from the judgements of its points.


@dataclass(frozen=True, slots=True)
class Margins:
    """Tolerances and limits of all comparisons of one sweep."""

    scenario: Sweep
    settings: Settings

    @property
    def may_fail(self) -> bool:
        return bool(self.settings.gate) and self.settings.quarantined is None

    def of(self, name: str) -> Gate:
        """Tolerance and limit of one metric; the hypervolume's follow from the points' unless the user gave them."""
        gate = replace(self.settings, gate=frozenset({name})).gates(())[0]
        if name != VOLUME or name in self.settings.tolerance or name in self.settings.limit:
            return gate
        count = len(self.scenario.objectives)
        tolerance, limit = volume_margin(gate.tolerance, count), volume_margin(gate.limit, count)
        return replace(gate, tolerance=tolerance, limit=limit) if tolerance < limit else gate

    def whole(self) -> dict[str, Gate]:
        """The gates of the whole sweep: the hypervolume's and those of the requested metrics."""
        chosen = self.settings.gate if isinstance(self.settings.gate, frozenset) else frozenset()
        names = [VOLUME, *sorted(chosen & set(WHOLE) - {VOLUME})]
        return {name: replace(self.of(name), gate=self.may_fail) for name in names}

    def gates(self, keys: Sequence[Key], metered: Collection[str]) -> list[Gate]:
        """The gates of the whole sweep, then those of each point. ``metered``: energy metrics of points to compare."""
        gates = [*self.whole().values()]
        for key in keys:
            names = [*self.scenario.objectives, *([ENERGY] if point_metric(ENERGY, key) in metered else [])]
            gates += [replace(self.of(name), metric=point_metric(name, key), gate=self.may_fail) for name in names]
        return gates

    def at_points(self) -> dict[str, dict[str, float]]:
        """Tolerance and limit of the metrics at each point, which a later comparison of stored results needs."""
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
    """Write the verdicts into the record: the sweep's, those of the requested metrics, and each point's own.

    ``standings``: of the baseline's points. ``unlike``: energy metrics of another meter, with the reason.
    """
    # The frontier is judged without energy of another meter.
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
        name, key = split_point_metric(judgement.metric)
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
    """Coverage of the judgement's interval; empty without an interval."""
    level = None if judgement is None else judgement.detail.get("interval_level")
    return {} if level is None else {"interval_level": level}


def mark_knee(result: Result, scenario: Sweep, baseline_points: Sequence[Mapping[str, Any]]) -> None:
    """Add the baseline's knee to the frontier chart, in addition to the candidate's."""
    points = points_of(baseline_points, scenario.objectives)
    knee = share_knee(points, scenario.objectives[0]) if points and numeric_keys(points) else None
    for chart in result.charts.sweep.frontiers if result.charts.sweep else ():
        chart.baseline_knee = None if knee is None else knee.key


def unjudged(result: Result, settings: Settings, verdict: Verdict, reason: str) -> VerdictRecord:
    """The single verdict of a sweep without a comparable baseline."""
    gate = settings.gates((VOLUME,))[0] if isinstance(settings.gate, bool) else settings.gates((VOLUME,))[-1]
    missing = result.metrics[VOLUME].reason or ""
    if result.metrics[VOLUME].value is None:
        verdict, reason = Verdict.INCOMPARABLE, f"not measured: {missing}"
        if missing.startswith("environment"):
            verdict, reason = Verdict.INCONCLUSIVE, missing
    return unjudged_record(replace(gate, metric=VOLUME), verdict, reason)
