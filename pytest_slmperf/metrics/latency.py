"""The latencies of a request, by the vocabulary of vLLM's benchmarks, and the time an engine takes to start.

``t_begin`` is when a request's clock starts: ``t_due`` in open loop, where waiting for a late sender counts as well, and
``t_sent`` in closed loop and offline.
"""

from __future__ import annotations

from pytest_slmperf.metrics.base import Latency, computed, latency


@latency(
    "TTFT",
    "t_first − t_due (open loop) or t_first − t_sent (closed loop, offline); queueing included",
    positive=True,
)
def ttft(t_first: float, t_begin: float) -> float:
    """Time to the first token."""
    return t_first - t_begin


@latency("TPOT", "(t_last − t_first) ÷ (n_out − 1), per request with n_out ≥ 2")
def tpot(t_last: float, t_first: float, n_out: int) -> float:
    """Time per output token after the first."""
    return (t_last - t_first) / (n_out - 1)


# Counted by load.token_counter as chunks arrive, in processes that have the standard library only.
itl = Latency("itl", "ITL", "gaps between tokens pooled over requests; a chunk of k tokens gives k gaps of gap ÷ k")


@latency("end-to-end latency", "t_last − t_due (open loop) or t_last − t_sent (closed loop, offline)", positive=True)
def e2el(t_last: float, t_begin: float) -> float:
    """End-to-end latency."""
    return t_last - t_begin


LATENCIES: dict[str, Latency] = {kind.base: kind for kind in (ttft, tpot, itl, e2el)}


@computed("s", "lower", "process spawn to first request served", positive=True)
def engine_start_time(t_spawn: float, t_served: float) -> float:
    return t_served - t_spawn
