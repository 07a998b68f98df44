"""What ``slmperf.sweep`` gives a test: frontier, knee, advice, and the advice measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from pytest_slmperf.frontier.pareto import frontier
from pytest_slmperf.frontier.points import Key, MetricBound, Point, numeric_keys
from pytest_slmperf.frontier.records import goals_of, points_of
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.charts import BoundOnMetric, SweepCharts
from pytest_slmperf.model.result import MetricValue, Result
from pytest_slmperf.scenarios.sweep import Sweep

ENERGY = "energy_per_output_token"
BATCHES = ("batch", "requests", "max_num_seqs")  # what a batch limit of the engine can be read from


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The pick measured again. ``met``: every SLO holds now too; ``values`` are the new readings. ``met`` is None, and there
    are no values, where it could not be measured: the session's time was over, or the machine too disturbed."""

    key: Key
    met: bool | None
    values: dict[str, float]
    slos: tuple[MetricBound, ...]


class MeasuredSweep:
    """A measured sweep. ``sweep["hypervolume"]`` is a metric of the whole; ``sweep.at(64, "itl_mean")`` of one point."""

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
        """Whether there is anything to look at: at least two points with clean readings. Where the machine was too
        disturbed there is not; the verdict is inconclusive then, and shapes cannot be asserted."""
        return len(self.points) > 1

    def __getitem__(self, name: str) -> float:
        """A metric of the whole sweep; LookupError with the reason when there is none."""
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
        """A metric of one point; LookupError when the point or its reading is absent."""
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
        """Keys of the non-dominated points, over the sweep's objectives or the metrics named."""
        from pytest_slmperf.frontier.points import Objective

        goals = self.scenario.goals
        if objectives:
            directions = {name: metric(name).better for name in objectives}
            goals = tuple(Objective(name, better) for name, better in directions.items() if better != "none")
        return [point.key for point in frontier(self.points, goals)]

    def knee(self, *, cost: str | None = None) -> Knee:
        """The least key (or the least ``cost``, a metric of the points) with ≥ 95 % of the peak throughput.

        LookupError where there is none: no point, or keys without an order and no ``cost``.
        """
        self.result.need(self.complete)
        if cost is None:
            self._need_order()
        knee = share_knee(self.points, self.scenario.objectives[0], cost=cost)
        if knee is None:
            raise LookupError(f"{self.result.id}: no point to find a knee among")
        return knee

    def kneedle(self) -> Knee | None:
        """The knee by Kneedle; None where the curve has none, LookupError where the keys have no order."""
        self._need_order()
        return kneedle(self.points, self.scenario.objectives[0])

    def knee_uncertainty(self) -> KneeUncertainty | None:
        """How sure ``knee`` is, by a bootstrap over launches and rounds; LookupError where the keys have no order."""
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
        """The largest key that keeps the SLOs and scales (arXiv 2503.08311), with engine flags and, given the memory, what
        it frees; None where no point does.  InvalidInput where the keys are no batch."""
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
        """The point of least energy per output token that keeps the SLOs; None where none does or none was measured."""
        return least_energy(self.points, ENERGY, slos)

    def confirm(self, advice: Advice | None, *slos: MetricBound) -> Confirmation:
        """Measure the pick again, as a result of its own, and check the SLOs on the new readings.

        InvalidInput where there is no pick: an advisor's None says that no point keeps the SLOs.
        """
        if advice is None:
            bounds = " and ".join(str(slo) for slo in slos)
            raise InvalidInput(
                f"slmperf.sweep: confirm() was given no advice: no point of the sweep keeps {bounds or 'what was asked'} "
                "and scales; loosen the SLO or sweep smaller values; where that is no failure, test for None first"
            )
        again = self._measure(self.scenario.only(advice.key), f"confirm {advice.key}")
        points = points_of(again.points, self.scenario.objectives)
        if not points:  # the record of it is inconclusive and says why
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
