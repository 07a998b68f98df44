"""From the timings of one round to metric values, by the formulas of the registry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pytest_slmperf.engines.base import RoundReading
from pytest_slmperf.scenarios.base import RoundOutcome

MAX_SAMPLES = 512  # latency samples kept from one round, for the ECDF of the report


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between closest ranks (numpy's default) of an ascending, non-empty sequence."""
    position = (len(ordered) - 1) * share
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def thin(ordered: Sequence[float], most: int = MAX_SAMPLES) -> list[float]:
    """At most so many of the ascending values, evenly by rank and with both ends, to six significant digits."""
    if len(ordered) > most:
        ordered = [ordered[round(index * (len(ordered) - 1) / (most - 1))] for index in range(most)]
    return [float(f"{value:.6g}") for value in ordered]


def latency(
    base: str, milliseconds: Sequence[float], reason: str, into: dict[str, float], missing: dict[str, str]
) -> None:
    """Mean and percentiles of one latency under the names ``base_mean``, ``base_p50``, …; or why there are none."""
    names = {f"{base}_p{percent}": percent / 100 for percent in (50, 90, 95, 99)}
    if not milliseconds:
        missing.update(dict.fromkeys([f"{base}_mean", *names], reason))
        return
    ordered = sorted(milliseconds)
    into[f"{base}_mean"] = math.fsum(ordered) / len(ordered)
    into.update({name: percentile(ordered, share) for name, share in names.items()})


def outcome(reading: RoundReading) -> RoundOutcome:
    """Metric values of an offline round: everything is sent at once, so latencies count from ``t_sent``."""
    window = reading.t_end - reading.t_start
    if window <= 0:
        raise ValueError(f"the engine reported a round of {window} s; its clock does not run forward")
    values: dict[str, float] = {
        "output_throughput": reading.n_out / window,
        "total_token_throughput": (reading.n_in + reading.n_out) / window,
        "request_throughput": reading.completed / window,
    }
    missing: dict[str, str] = {}
    samples: dict[str, Any] = {}
    silent = "the engine gave no time stamps per request"
    ttft = [(r.t_first - r.t_sent) * 1e3 for r in reading.requests if r.t_first is not None]
    e2el = [(r.t_last - r.t_sent) * 1e3 for r in reading.requests if r.t_last is not None]
    tpot = [
        (r.t_last - r.t_first) / (r.n_out - 1) * 1e3
        for r in reading.requests
        if r.t_first is not None and r.t_last is not None and r.n_out > 1
    ]
    itl = [gap * 1e3 for gap in reading.itl_s]
    short = "every request had fewer than two output tokens" if reading.requests else silent
    for base, series, reason in (
        ("ttft", ttft, silent),
        ("tpot", tpot, short),
        ("itl", itl, "the engine gave no time stamps per token"),
        ("e2el", e2el, silent),
    ):
        latency(base, series, reason, values, missing)
        if series:
            samples[base] = thin(sorted(series))
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
