"""The base class of scenarios, and the metric values of a round from its timings, by the formulas of the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pytest_slmperf.engines.base import EngineAdapter, EngineLaunch, RoundReading
from pytest_slmperf.engines.pool import EngineSource
from pytest_slmperf.errors import EngineError
from pytest_slmperf.load.latencies import AnswerLengths
from pytest_slmperf.metrics.base import Latency
from pytest_slmperf.metrics.registry import (
    e2el,
    itl,
    output_throughput,
    request_throughput,
    total_token_throughput,
    tpot,
    ttft,
)
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.util.quantiles import thin

OpenEngine = EngineSource


def first_fills_caches(spec: EngineSpec, launch: int) -> bool:
    """Whether this launch compiles kernels that later launches of this specification read from caches on the disk.

    On a GPU the first launch does (torch.compile, Triton; vLLM took 17 s to load a model without the caches, 9 s with them).
    A scenario that measures fresh processes starts with a launch that does not count, so that the first counted launch has
    the caches too, as on a machine that keeps them.
    """
    return launch == 0 and (spec.device or "cpu").startswith("cuda")


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """The readings of one round. Times are CLOCK_MONOTONIC seconds.

    values:  metric name → value, in the metric's unit
    missing: metric name → why it could not be read; it is then absent from ``values``, never 0
    seconds: length of the window by the engine's clock, which differs from the time stamps if the clock is virtual
    """

    t_start: float
    t_end: float
    n_out: int
    completed: int
    values: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    preemptions: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)  # bounded; by base name of the metric, for ECDFs
    contaminated: str | None = None  # the scenario's own evidence, for instance a late load generator
    lengths: AnswerLengths | None = None  # of its answers; None where they are not known


class Scenario(ABC):
    """One thing to measure. Subclasses are frozen dataclasses; their fields are the scenario's parameters."""

    kind: ClassVar[str]
    gates: ClassVar[tuple[str, ...]] = ("output_throughput", "energy_per_output_token")
    measures_energy: ClassVar[bool] = True
    needs_warmup: ClassVar[bool] = True
    starts_engine: ClassVar[bool] = False  # True: it measures the start of the engine
    rounds_per_launch: ClassVar[int | None] = None  # None: by the settings

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """All that defines the work, JSON-ready. Two results are comparable only if their parameters are equal."""

    def spec(self, base: EngineSpec, adapter: EngineAdapter) -> EngineSpec:
        """The engine that this scenario needs: the given engine, enlarged if it is too small for the work."""
        return base

    def longest_request(self) -> str | None:
        """File and line of the request that needs the longest window; None if the work does not come from a file."""
        return None

    def prepare(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> None:  # noqa: B027 (most need nothing)
        """Called before the engine of a launch is acquired; its time and disturbances do not count."""

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        """The engine of one launch; by default the resident engine of the pool."""
        return open_engine(spec, launch)

    @abstractmethod
    def round(self, engine: Any, timeout_s: float | None) -> RoundOutcome:
        """Do the work once. Raises EngineError if the engine fails."""

    def notes(self, outcomes: Sequence[RoundOutcome]) -> list[str]:
        """Notes for the reader about the rounds that count, the most important first."""
        return []


# Metric values of a round.

NO_REQUESTS = "the engine gave no time stamps per request"
NO_TOKENS = "the engine gave no time stamps per token"
SHORT = "every request had fewer than two output tokens"


def batch_outcome(reading: RoundReading, requests: int, output_len: int, engine: EngineLaunch) -> RoundOutcome:
    """The outcome of ``requests`` answers of ``output_len`` tokens.

    Answers may be shorter: that is other work, which the result says. EngineError where requests are missing, nothing came
    at all, or more than was asked for.
    """
    asked, came = requests * output_len, reading.n_out
    if reading.completed != requests or not 0 < came <= asked:
        raise EngineError(
            f"the engine completed {reading.completed} of {requests} requests with {came} of {asked} output tokens; "
            "a throughput of unfinished work would mean nothing",
            engine.log_tail(),
        )
    other = sum(request.n_out != output_len for request in reading.requests) or int(came != asked)
    return replace(outcome(reading), lengths=AnswerLengths(requests, asked, came, other))


def outcome(reading: RoundReading) -> RoundOutcome:
    """Metric values of an offline round: all requests are sent at once, so that latencies count from ``t_sent``."""
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
    """Each latency with its ascending values in ms, and the reason if there are none."""
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
