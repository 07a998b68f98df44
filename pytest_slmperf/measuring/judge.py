"""The one judge: compares two sides and measures further launches while a verdict is open; records of verdicts; noise.

The same rule judges a scenario's launches, the points of a sweep and two stored files. They differ only in the source of
their readings (``Sides``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_slmperf.frontier.regression import split_point_metric
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample, Verdict, VerdictRecord
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, estimate_prior

Samples = Mapping[str, Sequence[LaunchSample]]
"""Metric -> its launches so far, in the order of measuring."""


class Sides(ABC):
    """The readings of both sides of a comparison, and the way to further readings."""

    unlike: Mapping[str, str] = {}
    """Metric -> why the two sides' readings of it are not comparable (energy of another meter)."""

    @abstractmethod
    def samples(self) -> tuple[Samples, Samples]:
        """All readings so far: the candidate's and the baseline's."""

    @abstractmethod
    def unread(self, metric: str, candidate: bool, baseline: bool) -> tuple[Verdict, str]:
        """Verdict and reason of a metric without readings on at least one side. ``candidate`` and ``baseline``: whether
        that side has readings."""

    def further_launches(self) -> Callable[[int], None] | None:
        """A function that measures at most the given number of further launches (in a duet: pairs of launches).

        None if no further launch may be measured: always for stored sides, and once launches or time are used up.
        """
        return None


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge of one comparison.

    alpha:   error share of all gates together; gates without readings on both sides take none of it
    prior:   from metrics that scatter alike to the variance prior of their comparison
    confirm: whether fresh launches must confirm a suspicion
    """

    gates: Sequence[Gate]
    alpha: float
    mode: Literal["stored", "duet"]
    prior: Callable[[Sequence[str]], VariancePrior]
    max_launches: int
    confirm: bool = True

    def run(self, sides: Sides) -> list[Judgement]:
        """One judgement per gate, in the order of the gates."""
        candidate, baseline = sides.samples()
        gates = [gate for gate in self.gates if self._comparable(gate.metric, candidate, baseline, sides)]
        judgements = {
            gate.metric: _unread(gate.metric, candidate, baseline, sides) for gate in self.gates if gate not in gates
        }
        if gates:
            judged = self._compare(gates, candidate, baseline, sides)
            judgements |= {judgement.metric: judgement for judgement in judged}
        return [judgements[gate.metric] for gate in self.gates]

    def _comparable(self, metric: str, candidate: Samples, baseline: Samples, sides: Sides) -> bool:
        return bool(candidate.get(metric) and baseline.get(metric)) and metric not in sides.unlike

    def _compare(
        self, gates: Sequence[Gate], candidate: Samples, baseline: Samples, sides: Sides
    ) -> Sequence[Judgement]:
        duet = self.mode == "duet"
        comparison = Comparison(
            gates,
            {} if duet else baseline,
            alpha=self.alpha / len(gates),
            mode=self.mode,
            prior=self._priors([gate.metric for gate in gates]),
            max_launches=max(Comparison.first_launches, self.max_launches),
            confirm=self.confirm,
        )
        hopeless = False
        while True:
            measure = None if hopeless else sides.further_launches()
            decision = comparison.decide(candidate, baseline if duet else None, final=measure is None)
            if decision.done or measure is None:
                return decision.judgements
            if decision.hopeless:
                hopeless = True  # decide on what there is: the remaining time belongs to other tests
                continue
            measure(max(1, decision.next_launches))
            candidate, baseline = sides.samples()

    def _priors(self, metrics: Sequence[str]) -> dict[str, VariancePrior]:
        """One prior per kind of metric: throughput and latency scatter differently, the points of one metric alike."""
        alike: dict[str, list[str]] = {}
        for metric in metrics:
            alike.setdefault(split_point_metric(metric)[0], []).append(metric)
        priors = {base: self.prior([base, *points]) for base, points in alike.items()}
        return {metric: priors[split_point_metric(metric)[0]] for metric in metrics}


def _unread(metric: str, candidate: Samples, baseline: Samples, sides: Sides) -> Judgement:
    if candidate.get(metric) and metric in sides.unlike:
        return Judgement(metric, Verdict.INCOMPARABLE, reason=sides.unlike[metric])
    verdict, reason = sides.unread(metric, bool(candidate.get(metric)), bool(baseline.get(metric)))
    return Judgement(metric, verdict, reason=reason)


def verdict_record(gate: Gate, judgement: Judgement, baseline: str | None = None) -> VerdictRecord:
    """The record of a judgement with its gate's margins. ``baseline``: label of the baseline, for messages."""
    return VerdictRecord(
        metric=gate.metric,
        verdict=judgement.verdict,
        change=judgement.change,
        ci=judgement.ci,
        baseline=baseline,
        tolerance=gate.tolerance,
        limit=gate.limit,
        gate=gate.gate,
        reason=judgement.reason,
        detail=judgement.detail,
        more_launches=judgement.more_launches,
    )


def unjudged_record(gate: Gate, verdict: Verdict, reason: str) -> VerdictRecord:
    """The record of a metric that was not compared."""
    return verdict_record(gate, Judgement(gate.metric, verdict, reason=reason))


# The noise of this machine, from stored sessions and from the finished tests of this session.

History = Mapping[tuple[str, str], Sequence[LaunchSample]]
"""(test id, metric) -> all launches measured on this machine."""


@dataclass
class Noise:
    """Gives the variance prior of a comparison.

    ``stored``: reads the machine's history by result fingerprint; called once per fingerprint.
    """

    stored: Callable[[str], History]
    _known: dict[str, History] = field(default_factory=dict)
    _measured: dict[tuple[str, str], list[LaunchSample]] = field(default_factory=dict)
    pairs: dict[tuple[str, str], tuple[list[LaunchSample], list[LaunchSample]]] = field(default_factory=dict)

    def add(self, test: str, metric: str, launches: Sequence[LaunchSample]) -> None:
        """Add the launches of a finished test of this session."""
        self._measured[test, metric] = list(launches)

    def add_pair(self, test: str, metric: str, sides: tuple[Sequence[LaunchSample], Sequence[LaunchSample]]) -> None:
        """Add both sides of a finished duet of this session, tied by their pair numbers."""
        self.pairs[test, metric] = (list(sides[0]), list(sides[1]))

    def prior(self, fingerprint: str, metrics: Iterable[str]) -> VariancePrior:
        """The prior for comparisons of these metrics, from the same metrics only: start-up times and throughputs scatter
        differently."""
        wanted = set(metrics)
        if fingerprint not in self._known:
            self._known[fingerprint] = self.stored(fingerprint)
        history: dict[str, list[LaunchSample]] = {}
        # Keep today's launches apart: pooled with stored launches of the same test, a real regression would count as
        # variance between sessions and hide itself.
        for known, when in ((self._known[fingerprint], "stored"), (self._measured, "today")):
            for (test, metric), launches in known.items():
                if metric in wanted:
                    history[f"{test} {metric} {when}"] = list(launches)
        pairs = [sides for (_, metric), sides in self.pairs.items() if metric in wanted]
        return estimate_prior(history, pairs) if history or pairs else STATED_PRIOR
