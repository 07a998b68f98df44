"""Evidence about a load: the number of running requests, and the quality of its own client."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pytest_slmperf.load.samples import NONE, Outcome, Requests
from pytest_slmperf.metrics.registry import mean_running_requests
from pytest_slmperf.util.formatting import portion
from pytest_slmperf.util.quantiles import percentile

# The number of running requests, by the client.


@dataclass(frozen=True, slots=True)
class RunningCurve:
    """Time-mean and peak over the window, both exact; ``running``: the time-means of equal parts of the window."""

    mean: float
    peak: int
    running: list[float]


def running_curve(requests: Requests, window_ns: tuple[int, int], points: int = 120) -> RunningCurve:
    """Requests sent and not yet answered, over the window: exact time-mean and peak, and a curve of time-means.

    It sweeps over the events, since counts per bucket would count successive short requests as simultaneous.  Requests in
    the server's queue count as running.
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
    events.sort()  # at the same instant, ends sort before begins: such requests do not overlap
    area = [0.0] * points
    peak = level = 0
    at = start
    for moment, step in [*events, (end, 0)]:
        if level:
            _spread_area(area, at - start, moment - start, width, level)
        at = moment
        level += step
        peak = max(peak, level)
    return RunningCurve(
        mean=mean_running_requests(sum(area), end - start),
        peak=peak,
        running=[round(value / width, 4) for value in area],
    )


def _spread_area(area: list[float], begin: int, end: int, width: float, level: int) -> None:
    k = min(len(area) - 1, int(begin / width))
    while begin < end and k < len(area):
        edge = end if k == len(area) - 1 else min(end, (k + 1) * width)
        area[k] += (edge - begin) * level
        begin = edge  # type: ignore[assignment]
        k += 1


# The quality of the load's own client, and whether its delays may affect the result.

LEAST_BOUND_MS = 1.0
SHARE_OF_MEDIAN = 0.05  # largest delay, as a share of the median of the latency that includes it
BUSIEST = 0.9  # of a core


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The client's delays.

    lateness_ms:     p50, p99 and max of the delay in sending requests
    read_lag_p99_ms: p99 of the time that bytes waited to be read
    cpu_share:       of the busiest client process, as a share of one core
    """

    lateness_ms: dict[str, float | None]
    read_lag_p99_ms: float
    cpu_share: float
    clients: int
    open_loop: bool
    stale_reconnects: int
    repeats: int
    received_bytes: int
    max_rss_bytes: int


def sender_report(outcome: Outcome) -> SenderReport:
    """The client's own figures over the measured requests of ``outcome``."""
    requests, clients = outcome.requests, outcome.clients
    late = sorted(
        (requests.sent_ns[k] - requests.due_ns[k]) / 1e6
        for k in range(len(requests))
        if requests.measured[k] and requests.error[k] != "earlier_turn_failed"
    )
    return SenderReport(
        lateness_ms={"p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "max": late[-1] if late else None},
        read_lag_p99_ms=_p99(outcome.read_lag) / 1e6,
        cpu_share=max((sums.cpu_s / max(1e-9, sums.wall_s) for sums in clients), default=0.0),
        clients=len(clients),
        open_loop=outcome.load.loop == "open",
        stale_reconnects=sum(sums.stale_reconnects for sums in clients),
        repeats=sum(sums.repeats for sums in clients),
        received_bytes=sum(sums.received_bytes for sums in clients),
        max_rss_bytes=max((sums.max_rss_bytes for sums in clients), default=0),
    )


def _p99(counts: Counter[int]) -> int:
    """The least value that at least 99 % of the counted values do not exceed; 0 without values."""
    total, seen = counts.total(), 0
    for value, times in sorted(counts.items()):
        seen += times
        if seen >= 0.99 * total:
            return value
    return 0


def contamination(sender: SenderReport, ttft_p50_ms: float | None, itl_p50_ms: float | None) -> str | None:
    """Why the client's own delays may affect the result, or None.

    Limits: for the p99 of the sender's lateness, 1 ms or 5 % of the median TTFT, whichever is larger; for the p99 of the
    time that bytes waited to be read, 1 ms or 5 % of the median ITL; 90 % of a core.
    """
    late = (
        sender.lateness_ms["p99"] if sender.open_loop else None
    )  # in closed loop, requests are due when they are sent
    bound = max(LEAST_BOUND_MS, SHARE_OF_MEDIAN * (ttft_p50_ms or 0.0))
    if late is not None and late > bound:
        return f"sender_lateness: requests were sent {late:.2f} ms late at p99, the bound is {bound:.2f} ms"
    bound = max(LEAST_BOUND_MS, SHARE_OF_MEDIAN * (itl_p50_ms or 0.0))
    if sender.read_lag_p99_ms > bound:
        return (
            f"read_lag: answers waited {sender.read_lag_p99_ms:.2f} ms at p99 to be read, the bound is {bound:.2f} ms"
        )
    if sender.cpu_share > BUSIEST:
        share = portion(sender.cpu_share, 2)
        return f"client_saturated: a client process used {share} of a core, the bound is 90 %; use more clients"
    return None
