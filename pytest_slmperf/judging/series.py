"""One metric of one test: its samples, its estimate at each look, and the state of its verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging.launch_planning import beyond_reach, launches_needed, next_look
from pytest_slmperf.judging.rule import OPEN, VERDICTS, Rule, Standing
from pytest_slmperf.model.verdict import Gate, LaunchSample, Verdict
from pytest_slmperf.statistics.crossover import order_of_pairs
from pytest_slmperf.statistics.estimate import Estimate, Hosts, against_stored, paired
from pytest_slmperf.statistics.launch_centre import centre_of
from pytest_slmperf.statistics.rank_test import judge_zeros, may_be_zero
from pytest_slmperf.statistics.variance import VariancePrior

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Centres:
    """The launches of one side as columns: log centres and their standard errors from the rounds, shape (launches,).
    ``outlying``: number of rounds, in all launches, that are too far out to count."""

    log_centres: Array = field(default_factory=lambda: np.empty(0))
    round_ses: Array = field(default_factory=lambda: np.empty(0))
    outlying: int = 0

    @classmethod
    def of(cls, samples: Sequence[LaunchSample], where: str) -> Centres:
        """From samples. InvalidInput, which names ``where`` and the launch, for readings without a logarithm."""
        columns = [centre_of(sample.rounds, f"{where} launch {i + 1}") for i, sample in enumerate(samples)]
        centres, ses, outlying = zip(*columns, strict=True)
        return cls(np.array(centres), np.array(ses), sum(outlying))

    def __len__(self) -> int:
        return len(self.log_centres)


class Series:
    """The state of one gated metric. ``settled``: (verdict, reason) of a case that needs no statistics."""

    def __init__(
        self,
        gate: Gate,
        *,
        alpha: float,
        interval_alpha: float,
        mode: Literal["stored", "duet"],
        prior: VariancePrior,
        max_launches: int,
        confirm: bool,
    ) -> None:
        self.gate = gate
        self.alpha = alpha
        self.interval_alpha = interval_alpha
        self.mode = mode
        self.turn: Array | None = None  # per pair, which side went first
        self.prior = prior
        self.max_launches = max_launches
        self.sign = -1.0 if gate.better == "higher" else 1.0
        self.tau, self.lam = math.log1p(gate.tolerance), math.log1p(gate.limit)
        self.rule = Rule(1, self.tau, self.lam, alpha, interval_alpha, max_launches, confirm)
        self.estimate: Estimate | None = None
        self.confirmation: Estimate | None = None
        self.candidate = Centres()
        self.baseline = Centres()
        self.settled: tuple[Verdict, str] | None = None
        self.more: int | None = None
        self.sessions = 0  # number of sessions of a stored baseline
        self.final = False
        self.hosts_suffice = True

    @property
    def open(self) -> bool:
        return self.settled is None and int(self.rule.verdict[0]) == OPEN and not self.final

    @property
    def verdict(self) -> Standing:
        return self.settled[0] if self.settled else VERDICTS[int(self.rule.verdict[0])]

    @property
    def suspected_at(self) -> int:
        """Number of launches when the suspicion arose; 0: no suspicion."""
        return int(self.rule.suspected_at[0])

    @property
    def confirming(self) -> bool:
        return self.open and self.suspected_at > 0

    @property
    def launches_ahead(self) -> int:
        return next_look(len(self.candidate), self.max_launches) - len(self.candidate)

    @property
    def hopeless(self) -> bool:
        """Whether no number of further launches can reach a verdict."""
        return self.estimate is not None and beyond_reach(self.rule, self.estimate, len(self.candidate))

    def look(self, candidate: Sequence[LaunchSample], baseline: Sequence[LaunchSample], *, final: bool) -> None:
        """Judge all samples so far, unless a verdict has been reached already."""
        if not self.open:
            return
        metric = self.gate.metric
        if self.mode == "duet" and candidate and baseline:
            candidate, baseline = _complete_pairs(candidate, baseline, metric)
            if not candidate:
                self.settled = (
                    (Verdict.INCOMPARABLE, "no launch pair has clean readings on both sides") if final else None
                )
                return
        if not candidate or not baseline:
            self._unmeasured(bool(candidate), bool(baseline), final)
            return
        if may_be_zero(metric) and (zeros := judge_zeros(self.gate, candidate, baseline, self.alpha)):
            verdict, why = zeros
            if verdict is not None:
                self.settled = (verdict, why)
            elif final or len(candidate) >= self.max_launches:
                self.settled = (Verdict.INCONCLUSIVE, why)
            return
        self.candidate = Centres.of(candidate, f"{metric}, candidate")
        self.baseline = Centres.of(baseline, f"{metric}, baseline")
        for side, samples in (("candidate", candidate), ("baseline", baseline)):
            for sample in samples:
                if not (math.isfinite(sample.bound) and 0 <= sample.bound < 1):
                    raise InvalidInput(f"{metric}, {side}: error bound {sample.bound!r} must be a share in [0, 1)")
        count = len(self.candidate)
        if count < 2:
            self.final = final
            return  # a single launch never decides
        self.estimate = self._estimate(candidate, baseline, None)
        chosen = np.arange(count)[None, :] >= (self.suspected_at or count)
        self.confirmation = self._estimate(candidate, baseline, chosen)
        self.hosts_suffice = enough_hosts(candidate, baseline, self.suspected_at)
        self.rule.look(count, self.estimate, self.confirmation, final=final, hosts_suffice=self.hosts_suffice)
        undecided = self.verdict in ("open", Verdict.INCONCLUSIVE)
        self.more = launches_needed(self.rule, self.estimate, count) if undecided else None

    def _unmeasured(self, candidate: bool, baseline: bool, final: bool) -> None:
        if not baseline and self.mode == "stored":
            self.settled = (Verdict.NEW, "no baseline for this metric yet; approve one to gate it")
        elif not candidate:
            self.settled = (Verdict.INCOMPARABLE, "the candidate has no clean reading of this metric")
        elif final or not baseline:
            self.settled = (Verdict.INCOMPARABLE, "the baseline side has no clean reading of this metric")

    def _estimate(
        self, candidate: Sequence[LaunchSample], baseline: Sequence[LaunchSample], chosen: NDArray[np.bool_] | None
    ) -> Estimate:
        cand, base = self.sign * self.candidate.log_centres, self.sign * self.baseline.log_centres
        floors = [float(np.mean(side.round_ses**2)) for side in (self.candidate, self.baseline)]
        # An error that is uniform in ±b has the variance b²/3.
        bounds = [float(np.mean([s.bound**2 for s in side])) / 3 for side in (candidate, baseline)]
        if self.mode == "duet":
            floor, bound = np.array([sum(floors)]), np.array([sum(bounds)])
            self.turn = order_of_pairs([sample.pair for sample in candidate])
            # If both sides of a pair come from the same host, its deviation cancels.
            apart = any(own.host != other.host for own, other in zip(candidate, baseline, strict=True))
            hosts = Hosts(_numbers(candidate)) if apart else None
            return paired((cand - base)[None, :], self.prior, floor, bound, chosen, self.turn, hosts)
        by_session: dict[str, list[int]] = {}
        for number, sample in enumerate(baseline):
            by_session.setdefault(sample.session, []).append(number)
        sessions = [base[numbers][None, :] for numbers in by_session.values()]
        self.sessions = len(sessions)
        forked = any(sample.host is not None for sample in (*candidate, *baseline))
        of_sessions = [_numbers([baseline[number] for number in numbers]) for numbers in by_session.values()]
        hosts = Hosts(_numbers(candidate), of_sessions) if forked else None
        return against_stored(
            cand[None, :], sessions, self.prior, np.array([max(floors)]), np.array([max(bounds)]), chosen, hosts
        )


def _numbers(samples: Sequence[LaunchSample]) -> NDArray[np.int_]:
    """The launches' hosts as numbers; −1 for a process of its own."""
    known = list(dict.fromkeys(sample.host for sample in samples if sample.host is not None))
    return np.array([-1 if sample.host is None else known.index(sample.host) for sample in samples])


def enough_hosts(candidate: Sequence[LaunchSample], baseline: Sequence[LaunchSample], suspected_at: int) -> bool:
    """Whether the hosts of forked launches suffice for a regression: at least two per side, and a new one in the
    confirmation.

    A process of its own counts as a host, since it shares its address space with no other launch. ``suspected_at``: number
    of the candidate's launches before the confirmation; 0: there is no confirmation.
    """

    def names(samples: Sequence[LaunchSample]) -> set[str]:
        return {sample.host or f"own {number}" for number, sample in enumerate(samples)}

    if all(sample.host is None for sample in (*candidate, *baseline)):
        return True
    both = min(len(names(candidate)), len(names(baseline))) >= 2
    return both and (not suspected_at or bool(names(candidate) - names(candidate[:suspected_at])))


def _complete_pairs(
    candidate: Sequence[LaunchSample], baseline: Sequence[LaunchSample], metric: str
) -> tuple[list[LaunchSample], list[LaunchSample]]:
    """Both sides of the complete pairs; samples without pair numbers are paired by position."""
    if all(s.pair is None for s in (*candidate, *baseline)):
        count = min(len(candidate), len(baseline))
        return list(candidate[:count]), list(baseline[:count])
    for side, samples in (("candidate", candidate), ("baseline", baseline)):
        numbers = [s.pair for s in samples if s.pair is not None]
        if len(set(numbers)) < len(numbers):
            raise InvalidInput(f"{metric}, {side}: two launches have the same pair number; each pair has one a side")
    other = {s.pair: s for s in baseline if s.pair is not None}
    both = [(s, other[s.pair]) for s in candidate if s.pair is not None and s.pair in other]
    return [c for c, _ in both], [b for _, b in both]
