"""From the timings of one round to metric values, by the formulas of the registry."""

from __future__ import annotations

from typing import Any

from pytest_slmperf.engines.base import RoundReading
from pytest_slmperf.metrics.base import Latency
from pytest_slmperf.metrics.latency import e2el, itl, tpot, ttft
from pytest_slmperf.metrics.throughput import output_throughput, request_throughput, total_token_throughput
from pytest_slmperf.scenarios.base import RoundOutcome
from pytest_slmperf.util.quantiles import thin

NO_REQUESTS = "the engine gave no time stamps per request"
NO_TOKENS = "the engine gave no time stamps per token"
SHORT = "every request had fewer than two output tokens"


def outcome(reading: RoundReading) -> RoundOutcome:
    """Metric values of an offline round: everything is sent at once, so latencies count from ``t_sent``."""
    window = reading.t_end - reading.t_start
    if window <= 0:
        raise ValueError(f"the engine reported a round of {window} s; its clock does not run forward")
    values = {
        output_throughput.name: output_throughput(reading.n_out, window),
        total_token_throughput.name: total_token_throughput(reading.n_in, reading.n_out, window),
        request_throughput.name: request_throughput(reading.completed, window),
    }
    missing: dict[str, str] = {}
    samples: dict[str, Any] = {}
    for kind, milliseconds, reason in _latencies(reading):
        if milliseconds:
            values |= kind.statistics(milliseconds)
            samples[kind.base] = thin(milliseconds)
        else:
            missing |= dict.fromkeys(kind.names, reason)
    for name, value in (("kv_cache_peak", reading.kv_cache_peak), ("mean_running_requests", reading.mean_running)):
        if value is None:
            missing[name] = "the engine gave no statistics"
        else:
            values[name] = value
    if reading.preemptions is None:
        missing["preemptions"] = "the engine gave no preemption counter"
    else:
        values["preemptions"] = float(reading.preemptions)
    return RoundOutcome(
        t_start=reading.t_start,
        t_end=reading.t_end,
        n_out=reading.n_out,
        completed=reading.completed,
        values=values,
        missing=missing,
        preemptions=reading.preemptions,
        evidence=dict(reading.evidence),
        samples=samples,
    )


def _latencies(reading: RoundReading) -> list[tuple[Latency, list[float], str]]:
    """Each latency with its ascending values in ms, and the reason where there are none."""
    requests = reading.requests
    values: dict[Latency, list[float]] = {
        ttft: [ttft(r.t_first, r.t_sent) * 1e3 for r in requests if r.t_first is not None],
        tpot: [
            tpot(r.t_last, r.t_first, r.n_out) * 1e3
            for r in requests
            if r.t_first is not None and r.t_last is not None and r.n_out > 1
        ],
        itl: [gap * 1e3 for gap in reading.itl_s],
        e2el: [e2el(r.t_last, r.t_sent) * 1e3 for r in requests if r.t_last is not None],
    }
    reasons: dict[Latency, str] = {tpot: SHORT if requests else NO_REQUESTS, itl: NO_TOKENS}
    return [(kind, sorted(each), reasons.get(kind, NO_REQUESTS)) for kind, each in values.items()]
