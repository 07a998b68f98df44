"""From times to metrics: the formulas of the metrics registry, for one load. Pure functions.

A request that failed or ran out of time counts as +∞ in every percentile and against goodput.  A percentile that
falls on +∞ is no number: its value is None and the reason says how many failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.samples import NONE, Outcome, Requests
from pytest_slmperf.load.sketch import Sketch
from pytest_slmperf.metrics.base import SHARES, Latency, mean
from pytest_slmperf.metrics.latency import e2el, itl, tpot, ttft
from pytest_slmperf.metrics.throughput import (
    goodput,
    mean_running_requests,
    output_throughput,
    request_throughput,
    slo_attainment,
    total_token_throughput,
)
from pytest_slmperf.util.formatting import portion
from pytest_slmperf.util.quantiles import MOST_SAMPLES, percentile, thin

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
        """Of one complete request, in ms. A request of one token has no TPOT and so cannot miss it."""
        return (
            (self.ttft is None or ttft <= self.ttft)
            and (self.tpot is None or tpot is None or tpot <= self.tpot)
            and (self.e2el is None or e2el <= self.e2el)
        )

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in SLO_NAMES if getattr(self, name) is not None}


@dataclass(slots=True)
class Measured:
    """Metrics of one load. ``values`` in the registry's units; a None has its reason in ``reasons``.

    ``samples`` are sketches as JSON; ``drawn`` at most ``MOST_SAMPLES`` finite values each (ms), evenly by rank.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    counts: dict[str, int]
    failures: dict[str, int]
    examples: dict[str, str]
    samples: dict[str, Any]
    drawn: dict[str, list[float]]
    running: dict[str, Any]
    sender: dict[str, Any]
    contaminated: str | None = None
    notes: list[str] = field(default_factory=list)


def measure(outcome: Outcome, slo: Slo | None = None) -> Measured:
    """Every serving metric of the registry that a client can see, over the measured requests of ``outcome``."""
    requests, window_s = outcome.requests, outcome.window_s
    begun = requests.due_ns if outcome.load.loop == "open" else requests.sent_ns
    planned = {request.number: request.n_out for request in outcome.load.requests}
    asked = {request.number: request.n_in for request in outcome.load.requests}
    to_first: list[float] = []
    per_token: list[float] = []
    to_last: list[float] = []
    failures: Counter[str] = Counter()
    gaps = outcome.itl
    excluded = good = completed = mismatched = other_input = 0
    for k in range(len(requests)):
        if not requests.measured[k]:
            continue
        error = requests.error[k]
        if error is not None or requests.first_ns[k] == NONE:
            failures[error or "no_tokens"] += 1
            for sample in (to_first, per_token, to_last):
                sample.append(math.inf)
            # the gaps between the tokens that were asked for and never came
            gaps.add(math.inf, max(1, (planned.get(requests.number[k]) or 2) - 1))
            continue
        completed += 1
        n_out = requests.n_out[k]
        if planned.get(requests.number[k]) not in (None, n_out):
            mismatched += 1
        if requests.n_in[k] > 0 and asked.get(requests.number[k]) not in (None, requests.n_in[k]):
            other_input += 1
        first, last = requests.first_ns[k], requests.last_ns[k]
        ttft_ms, e2el_ms = ttft(first, begun[k]) / 1e6, e2el(last, begun[k]) / 1e6
        tpot_ms = tpot(last, first, n_out) / 1e6 if n_out >= 2 else None
        to_first.append(ttft_ms)
        to_last.append(e2el_ms)
        if tpot_ms is None:
            excluded += 1
        else:
            per_token.append(tpot_ms)
        good += slo is not None and slo.met(ttft_ms, tpot_ms, e2el_ms)
    due = completed + sum(failures.values())
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    failed = f"{due - completed} of {due} requests failed ({_listed(failures)})"
    latencies: dict[Latency, list[float]] = {ttft: to_first, tpot: per_token, e2el: to_last}
    for kind, sample in latencies.items():
        sample.sort()
        _statistics(values, reasons, kind, sample, failed)
    _pooled(values, reasons, gaps, failed)
    inside, entered, finished = _throughput(outcome)
    values[output_throughput.name] = output_throughput(inside, window_s)
    values[total_token_throughput.name] = total_token_throughput(entered, inside, window_s)
    values[request_throughput.name] = request_throughput(finished, window_s)
    if slo is not None:
        values[goodput.name] = goodput(good, window_s)
        values[slo_attainment.name] = slo_attainment(good, due) if due else None
        if not due:
            reasons[slo_attainment.name] = "no request was due in the window"
    running = running_curve(requests, outcome.window_ns)
    values[mean_running_requests.name] = running["mean"]
    sender = sender_report(outcome)
    contaminated = contamination(sender, values)
    notes = _notes(outcome, mismatched, other_input, completed)
    return Measured(
        values=values,
        reasons=reasons,
        counts={
            "due": due,
            "completed": completed,
            "failed": due - completed,
            "tpot_excluded": excluded,
            "warmup_or_after": len(requests) - due,
            "good": good,
        },
        failures=dict(failures),
        examples={kind: text for kind, text in requests.examples.items() if text},
        samples={kind.base: Sketch().extend(sample).to_json() for kind, sample in latencies.items()}
        | {itl.base: _in_ms(gaps).to_json()},
        drawn={
            base: drawn
            for base, drawn in (
                *((kind.base, thin(sample)) for kind, sample in latencies.items()),
                (itl.base, ranks(gaps)),
            )
            if drawn
        },
        running=running,
        sender=sender,
        contaminated=contaminated,
        notes=notes,
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


def _throughput(outcome: Outcome) -> tuple[int, int, int]:
    """Output tokens that came inside the window, input tokens of requests whose first token did, requests completed in it.

    All requests count here, not only those due inside: in a steady state as much flows in as out.
    """
    requests = outcome.requests
    start, end = outcome.window_ns
    whole = outcome.load.window_s is None
    inside = entered = finished = 0
    for k in range(len(requests)):
        inside += requests.n_out[k] if whole else requests.inside[k]
        if start <= requests.first_ns[k] <= end and requests.n_in[k] > 0:
            entered += requests.n_in[k]
        if requests.error[k] is None and start <= requests.last_ns[k] <= end:
            finished += 1
    return inside, entered, finished


def running_curve(requests: Requests, window_ns: tuple[int, int], points: int = 120) -> dict[str, Any]:
    """Requests sent and not yet answered, over the window: exact time-mean and peak, and a curve of time-means.

    A sweep over the events, not a count per bucket: a bucket counts two short requests that follow each other as two
    that run together.  As seen by the client: what waits in the server's queue is in it.
    """
    start, end = window_ns
    width = (end - start) / points
    events: list[tuple[int, int]] = []
    for k in range(len(requests)):
        begin, until = requests.sent_ns[k], requests.last_ns[k]
        if until == NONE or until <= start or begin >= end:
            continue
        events.append((max(start, begin), 1))
        events.append((min(end, until), -1))
    events.sort()  # an end sorts before a begin at the same instant: they do not overlap
    area = [0.0] * points
    peak = level = 0
    at = start
    for moment, step in [*events, (end, 0)]:
        if level:
            _spread_area(area, at - start, moment - start, width, level)
        at = moment
        level += step
        peak = max(peak, level)
    return {
        "mean": mean_running_requests(sum(area), end - start),
        "peak": peak,
        "t_s": [round((k + 0.5) * width / 1e9, 6) for k in range(points)],
        "running": [round(value / width, 4) for value in area],
    }


def _spread_area(area: list[float], begin: int, end: int, width: float, level: int) -> None:
    k = min(len(area) - 1, int(begin / width))
    while begin < end and k < len(area):
        edge = end if k == len(area) - 1 else min(end, (k + 1) * width)
        area[k] += (edge - begin) * level
        begin = edge  # type: ignore[assignment]
        k += 1


def peak_rate(tiles: Sequence[int], window_s: float) -> float | None:
    """Most tokens per second over tiles that cover the window without a rest, so it is never below the mean rate."""
    return max(tiles) / (window_s / len(tiles)) if tiles else None


def sender_report(outcome: Outcome) -> dict[str, Any]:
    """How good the client itself was: lateness of sending, time that bytes waited for it, share of its core."""
    requests = outcome.requests
    late = sorted(
        (requests.sent_ns[k] - requests.due_ns[k]) / 1e6
        for k in range(len(requests))
        if requests.measured[k] and requests.error[k] != "earlier_turn_failed"
    )
    lag = sorted(outcome.read_lag.items())
    total = sum(times for _, times in lag)
    seen, lag_p99 = 0, 0.0
    for value, times in lag:
        seen += times
        lag_p99 = value / 1e6
        if seen >= 0.99 * total:
            break
    return {
        "lateness_ms": {"p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "max": late[-1] if late else None},
        "read_lag_p99_ms": lag_p99,
        "cpu_share": max((sums.cpu_s / max(1e-9, sums.wall_s) for sums in outcome.clients), default=0.0),
        "clients": len(outcome.clients),
        "open_loop": outcome.load.loop == "open",
        "stale_reconnects": sum(sums.stale_reconnects for sums in outcome.clients),
        "repeats": sum(sums.repeats for sums in outcome.clients),
        "received_bytes": sum(sums.received_bytes for sums in outcome.clients),
        "max_rss_bytes": max((sums.max_rss_bytes for sums in outcome.clients), default=0),
    }


def contamination(sender: dict[str, Any], values: dict[str, float | None]) -> str | None:
    """Why the client's own slowness may stand in the result, or None.

    Bounds: the p99 of the sender's lateness, against 1 ms or 5 % of the median TTFT, whichever is more; the p99 of the
    time that arrived bytes waited to be read, against 1 ms or 5 % of the median ITL; 90 % of a core.
    """
    late = sender["lateness_ms"]["p99"] if sender["open_loop"] else None  # closed: nothing was due before it was sent
    bound = max(1.0, 0.05 * (values.get("ttft_p50") or 0.0))
    if late is not None and late > bound:
        return f"sender_lateness: requests were sent {late:.2f} ms late at p99, the bound is {bound:.2f} ms"
    bound = max(1.0, 0.05 * (values.get("itl_p50") or 0.0))
    if sender["read_lag_p99_ms"] > bound:
        return f"read_lag: answers waited {sender['read_lag_p99_ms']:.2f} ms at p99 to be read, the bound is {bound:.2f} ms"
    if sender["cpu_share"] > 0.9:
        share = portion(sender["cpu_share"], 2)
        return f"client_saturated: a client process used {share} of a core, the bound is 90 %; use more clients"
    return None


def _notes(outcome: Outcome, mismatched: int, other_input: int, completed: int) -> list[str]:
    notes = []
    if other_input:
        notes.append(
            f"{other_input} of {completed} prompts had another number of tokens by the server's count than was asked for"
        )
    if mismatched:
        notes.append(f"{mismatched} of {completed} requests brought another number of tokens than was asked for")
    by_events = sum(sums.counted_by_events for sums in outcome.clients)
    if by_events:
        notes.append(f"{by_events} answers told no usage: their tokens were counted by events, which may be too few")
    repeats = sum(sums.repeats for sums in outcome.clients)
    if repeats:
        notes.append(
            f"the requests were sent again {repeats} times to fill the window; a prefix cache would see repeats"
        )
    if outcome.requests.retry_after:
        told = ", ".join(f"{value} ({count}×)" for value, count in sorted(outcome.requests.retry_after.items()))
        notes.append(f"the server asked to retry after: {told}; nothing was sent again")
    return notes
