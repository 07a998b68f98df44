"""From times to metrics: the formulas of the metrics registry, for one load. Pure functions.

A request that failed or ran out of time counts as +∞ in every percentile and against goodput.  A percentile of +∞ becomes
None, with the number of failures as its reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.evidence import RunningCurve, SenderReport, contamination, running_curve, sender_report
from pytest_slmperf.load.samples import NONE, Outcome
from pytest_slmperf.load.sketch import Sketch
from pytest_slmperf.metrics.base import SHARES, Latency, mean
from pytest_slmperf.metrics.registry import (
    e2el,
    goodput,
    itl,
    mean_running_requests,
    output_throughput,
    request_throughput,
    slo_attainment,
    total_token_throughput,
    tpot,
    ttft,
)
from pytest_slmperf.util.quantiles import MOST_SAMPLES, thin

SLO_NAMES = ("ttft", "tpot", "e2el")


@dataclass(frozen=True, slots=True)
class Slo:
    """Upper bounds in ms; None: no bound. A request meets it when it is complete and within every bound."""

    ttft: float | None = None
    tpot: float | None = None
    e2el: float | None = None

    def __post_init__(self) -> None:
        for name in SLO_NAMES:
            bound = getattr(self, name)
            if bound is not None and (isinstance(bound, bool) or not bound > 0):
                raise InvalidInput(f"the SLO on {name} must be above 0 ms, not {bound!r}")

    @staticmethod
    def of(bounds: dict[str, float] | Slo | None) -> Slo | None:
        """From a table such as ``{"ttft": 200, "tpot": 50}`` (ms)."""
        if bounds is None or isinstance(bounds, Slo):
            return bounds
        wrong = sorted(set(bounds) - set(SLO_NAMES))
        if wrong or not bounds:
            raise InvalidInput(f"an SLO bounds {', '.join(SLO_NAMES)} (ms); {', '.join(wrong) or 'none'} was given")
        return Slo(**bounds)

    def met(self, ttft: float, tpot: float | None, e2el: float) -> bool:
        """Whether a complete request (in ms) keeps every bound. A request of one token has no TPOT and keeps its bound."""
        return (
            (self.ttft is None or ttft <= self.ttft)
            and (self.tpot is None or tpot is None or tpot <= self.tpot)
            and (self.e2el is None or e2el <= self.e2el)
        )

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in SLO_NAMES if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """Output tokens of complete requests: of how many ``requests``, how many were ``asked`` for, how many ``came``, and how
    many requests brought another number than was asked for (``other``)."""

    requests: int = 0
    asked: int = 0
    came: int = 0
    other: int = 0

    def __add__(self, more: AnswerLengths) -> AnswerLengths:
        return AnswerLengths(
            self.requests + more.requests, self.asked + more.asked, self.came + more.came, self.other + more.other
        )


@dataclass(slots=True)
class LoadMetrics:
    """Metrics of one load. ``values``: in the registry's units; the reason for each None is in ``reasons``.

    ``samples``: sketches as JSON; ``drawn``: at most ``MOST_SAMPLES`` finite values of each latency (ms), evenly by rank.
    ``lengths``: None if the server reports no usage, so that events are counted as tokens.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    counts: dict[str, int]
    failures: dict[str, int]
    examples: dict[str, str]
    samples: dict[str, Any]
    drawn: dict[str, list[float]]
    running: RunningCurve
    sender: SenderReport
    contaminated: str | None = None
    notes: list[str] = field(default_factory=list)
    lengths: AnswerLengths | None = None


@dataclass(slots=True)
class _Answers:
    """The measured requests of a load, in ms; a failed request is +∞ in each latency."""

    latencies: dict[Latency, list[float]] = field(default_factory=lambda: {ttft: [], tpot: [], e2el: []})
    failures: Counter[str] = field(default_factory=Counter)
    lost_gaps: int = 0  # gaps before requested tokens that never came
    completed: int = 0
    good: int = 0
    without_tpot: int = 0
    lengths: AnswerLengths = AnswerLengths()
    other_input: int = 0
    hidden: int = 0  # tokens of reasoning that were counted and not sent

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def due(self) -> int:
        return self.completed + self.failed

    def fail(self, kind: str, n_out: int | None) -> None:
        self.failures[kind] += 1
        self.lost_gaps += max(1, (n_out or 2) - 1)
        for sample in self.latencies.values():
            sample.append(math.inf)

    def complete(self, ttft_ms: float, tpot_ms: float | None, e2el_ms: float, slo: Slo | None) -> None:
        self.completed += 1
        self.latencies[ttft].append(ttft_ms)
        self.latencies[e2el].append(e2el_ms)
        if tpot_ms is None:
            self.without_tpot += 1
        else:
            self.latencies[tpot].append(tpot_ms)
        self.good += slo is not None and slo.met(ttft_ms, tpot_ms, e2el_ms)


def _answers(outcome: Outcome, slo: Slo | None) -> _Answers:
    requests, answers = outcome.requests, _Answers()
    begun = requests.due_ns if outcome.load.loop == "open" else requests.sent_ns
    planned = {request.number: request for request in outcome.load.requests}
    for k in range(len(requests)):
        if not requests.measured[k]:
            continue
        request, error = planned[requests.number[k]], requests.error[k]
        if error is not None or requests.first_ns[k] == NONE:
            answers.fail(error or "no_tokens", request.n_out)
            continue
        n_in, n_out = requests.n_in[k], requests.n_out[k]
        asked = n_out if request.n_out is None else request.n_out
        answers.lengths += AnswerLengths(1, asked, n_out, int(asked != n_out))
        answers.hidden += requests.hidden[k]
        answers.other_input += n_in > 0 and request.n_in not in (None, n_in)
        first, last = requests.first_ns[k], requests.last_ns[k]
        seen = n_out - requests.hidden[k]
        tpot_ms = tpot(last, first, seen) / 1e6 if seen >= 2 else None
        answers.complete(ttft(first, begun[k]) / 1e6, tpot_ms, e2el(last, begun[k]) / 1e6, slo)
    for sample in answers.latencies.values():
        sample.sort()
    return answers


def measure(outcome: Outcome, slo: Slo | None = None) -> LoadMetrics:
    """Every serving metric of the registry that a client can measure, over the measured requests of ``outcome``."""
    answers, gaps = _answers(outcome, slo), Sketch()
    gaps.merge(outcome.itl)
    gaps.add(math.inf, answers.lost_gaps)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    failed = f"{answers.failed} of {answers.due} requests failed ({_listed(answers.failures)})"
    for kind, sample in answers.latencies.items():
        _statistics(values, reasons, kind, sample, failed)
    _pooled(values, reasons, gaps, failed)
    _throughput(values, outcome)
    if slo is not None:
        values[goodput.name] = goodput(answers.good, outcome.window_s)
        values[slo_attainment.name] = slo_attainment(answers.good, answers.due) if answers.due else None
        if not answers.due:
            reasons[slo_attainment.name] = "no request was due in the window"
    running = running_curve(outcome.requests, outcome.window_ns)
    values[mean_running_requests.name] = running.mean
    sender = sender_report(outcome)
    drawn = {kind.base: thin(sample) for kind, sample in answers.latencies.items()} | {itl.base: ranks(gaps)}
    return LoadMetrics(
        values=values,
        reasons=reasons,
        counts={
            "due": answers.due,
            "completed": answers.completed,
            "failed": answers.failed,
            "tpot_excluded": answers.without_tpot,
            "warmup_or_after": len(outcome.requests) - answers.due,
            "good": answers.good,
        },
        failures=dict(answers.failures),
        examples={kind: text for kind, text in outcome.requests.examples.items() if text},
        samples={kind.base: Sketch().extend(sample).to_json() for kind, sample in answers.latencies.items()}
        | {itl.base: _in_ms(gaps).to_json()},
        drawn={base: sample for base, sample in drawn.items() if sample},
        running=running,
        sender=sender,
        contaminated=contamination(sender, values[ttft.metrics["p50"].name], values[itl.metrics["p50"].name]),
        notes=_notes(outcome, answers),
        lengths=None if any(sums.counted_by_events for sums in outcome.clients) else answers.lengths,
    )


def ranks(gaps: Sketch, most: int = MOST_SAMPLES) -> list[float]:
    """At most ``most`` values of a sketch of seconds, evenly by rank, in ms."""
    drawn: list[float] = []
    seen, step = 0, max(1.0, gaps.count / most)
    for value, weight in gaps.bins():
        seen += weight
        while len(drawn) < most and len(drawn) * step < seen:
            drawn.append(float(f"{value * 1e3:.6g}"))
    return drawn


def _listed(failures: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items())) or "none"


def _statistics(
    values: dict[str, float | None], reasons: dict[str, str], kind: Latency, ordered: list[float], failed: str
) -> None:
    """Add one latency's statistics, of ascending values in ms in which +∞ is a failed request."""
    if not ordered:
        values |= dict.fromkeys(kind.names)
        reason = "no request with two tokens or more" if kind is tpot else "no request was due in the window"
        reasons |= dict.fromkeys(kind.names, reason)
        return
    finite = [value for value in ordered if value != math.inf]
    for statistic, metric in kind.metrics.items():
        value = metric(ordered)
        values[metric.name] = None if value == math.inf else value
        if value == math.inf and statistic == "mean":
            of_rest = f"; of the completed ones it is {mean(finite):.3f} ms" if finite else ""
            reasons[metric.name] = f"{failed}, so that the mean is infinite{of_rest}"
        elif value == math.inf:
            reasons[metric.name] = f"falls on a failed request: {failed}"


def _pooled(values: dict[str, float | None], reasons: dict[str, str], gaps: Sketch, failed: str) -> None:
    """Add the statistics of the gaps between tokens, from a sketch of seconds."""
    for statistic, metric in itl.metrics.items():
        value = gaps.mean if statistic == "mean" else gaps.quantile(SHARES[statistic])
        if statistic == "mean" and gaps.failed:
            value = math.inf
        values[metric.name] = None if value is None or value == math.inf else value * 1e3
        if value is None:
            reasons[metric.name] = "no request brought more than one chunk of tokens"
        elif value == math.inf:
            reasons[metric.name] = f"the gaps of failed requests count as infinite: {failed}"


def _in_ms(gaps: Sketch) -> Sketch:
    result = Sketch()
    for value, weight in gaps.bins():
        result.add(value * 1e3, weight)
    result.failed, result.sum = gaps.failed, gaps.sum * 1e3
    if gaps.count:
        result.min, result.max = gaps.min * 1e3, gaps.max * 1e3
    return result


def _throughput(values: dict[str, float | None], outcome: Outcome) -> None:
    """Add the rates over the window: output tokens that arrived in it, input tokens of requests whose first token did, and
    requests that completed in it.

    All requests count, not only those that were due in the window: in a steady state, inflow equals outflow.
    """
    requests, window_s = outcome.requests, outcome.window_s
    start, end = outcome.window_ns
    whole = outcome.load.window_s is None
    inside = entered = finished = 0
    for k in range(len(requests)):
        inside += requests.n_out[k] if whole else requests.inside[k]
        if start <= requests.first_ns[k] <= end and requests.n_in[k] > 0:
            entered += requests.n_in[k]
        if requests.error[k] is None and start <= requests.last_ns[k] <= end:
            finished += 1
    values[output_throughput.name] = output_throughput(inside, window_s)
    values[total_token_throughput.name] = total_token_throughput(entered, inside, window_s)
    values[request_throughput.name] = request_throughput(finished, window_s)


def peak_rate(tiles: Sequence[int], window_s: float) -> float | None:
    """Largest number of tokens per second in a tile. The tiles cover the whole window, so that it is at least the mean."""
    return max(tiles) / (window_s / len(tiles)) if tiles else None


def _notes(outcome: Outcome, answers: _Answers) -> list[str]:
    notes = []
    if answers.other_input:
        notes.append(
            f"{answers.other_input} of {answers.completed} prompts had another number of tokens by the server's count than "
            "was asked for"
        )
    if answers.lengths.other:
        notes.append(
            f"{answers.lengths.other} of {answers.completed} requests brought another number of tokens than was asked for"
        )
    if answers.hidden:
        notes.append(
            f"{answers.hidden} tokens of reasoning were counted and not sent: they came before the first token that was"
        )
    by_events = sum(sums.counted_by_events for sums in outcome.clients)
    if by_events:
        notes.append(f"{by_events} answers told no usage: their tokens were counted by events, which may be too few")
    repeats = sum(sums.repeats for sums in outcome.clients)
    if repeats:
        notes.append(
            f"the requests were sent again {repeats} times to fill the window; a prefix cache would see repeats"
        )
    if outcome.requests.retry_after:
        waits = ", ".join(f"{value} ({count}×)" for value, count in sorted(outcome.requests.retry_after.items()))
        notes.append(f"the server asked to retry after: {waits}; nothing was sent again")
    return notes
