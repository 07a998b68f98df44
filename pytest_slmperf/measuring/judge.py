"""The one judge: decides the comparison of two sides, and has further launches measured while a verdict is open.

A scenario's launches, the points of a sweep and two files that are only read back are judged here by the same rule;
what differs between them is where the readings come from (``Sides``).
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
    """The readings of both sides of a comparison, and the way to more of them."""

    unlike: Mapping[str, str] = {}
    """Metric -> why the two sides' readings of it are not comparable (energy of another meter)."""

    @abstractmethod
    def samples(self) -> tuple[Samples, Samples]:
        """All readings so far: the candidate's and the baseline's."""

    @abstractmethod
    def unread(self, metric: str, candidate: bool, baseline: bool) -> tuple[Verdict, str]:
        """Verdict and reason of a metric without readings on at least one side; the flags say which side has some."""

    def exhausted(self) -> bool:
        """Whether no further launch may be measured; True for sides that are only read back."""
        return True

    def measure(self, launches: int) -> None:
        """Measure up to that many further launches (pairs of launches in a duet)."""
        raise NotImplementedError(f"{type(self).__name__} are only read back")


@dataclass(frozen=True, slots=True)
class Judge:
    """``alpha``: the error share of all gates together; gates without readings on both sides take none of it.

    ``prior``: metrics that scatter alike -> what is known of their noise. ``confirm``: whether a suspicion must be
    confirmed by fresh launches.
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
            last = hopeless or sides.exhausted()
            decision = comparison.decide(candidate, baseline if duet else None, final=last)
            if decision.done or last:
                return decision.judgements
            if decision.hopeless:
                hopeless = True  # the time left belongs to other tests: say what can be said now
                continue
            sides.measure(max(1, decision.next_launches))
            candidate, baseline = sides.samples()

    def _priors(self, metrics: Sequence[str]) -> dict[str, VariancePrior]:
        """One prior per kind of metric: throughput and latency scatter unlike each other, one metric's points alike."""
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
    """The record of a judgement under its gate's margins. ``baseline``: what it was compared with, for messages."""
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
    """The record of a metric that was not compared at all."""
    return verdict_record(gate, Judgement(gate.metric, verdict, reason=reason))


# What is known of this machine's noise: from stored sessions, and from tests already measured in this session.

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
        """The prior for comparisons of these metrics, from like metrics only: start-up times scatter unlike throughputs."""
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
