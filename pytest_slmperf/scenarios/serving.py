"""Serving under load: requests by a schedule, latency from the time at which each was due, goodput under an SLO."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from pytest_slmperf.engines.base import Engine, EngineAdapter
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.arrivals import Arrivals, Recorded
from pytest_slmperf.load.latencies import LoadMetrics, Slo, measure, peak_rate
from pytest_slmperf.load.plan import LoadPlan, ignore_eos_mend
from pytest_slmperf.load.requests import Item, Own, Workload
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.load.samples import Outcome
from pytest_slmperf.load.settings import (
    ABOVE_ZERO,
    COUNT,
    LoadSettings,
    Rule,
    first_wrong,
    is_number,
    setting,
    values_of,
    work_of,
)
from pytest_slmperf.metrics.registry import engine_start_time
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import OpenEngine, RoundOutcome, Scenario, first_fills_caches
from pytest_slmperf.scenarios.offline import grow
from pytest_slmperf.scenarios.transport import EngineSide, longest_request, send

UNAUTHORIZED = {"http_401", "http_403"}
DRAIN_S = 30.0  # after a window
SHARE = Rule("a share from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)


@dataclass(frozen=True, kw_only=True)
class Serving(LoadSettings, Scenario):
    """One load. Times in seconds; ``LoadSettings`` declares what is chosen of how it is played.

    ``arrivals`` (open loop) or ``concurrency`` (closed loop).  ``duration_s`` is the measured window after ``warmup_s`` of
    the same load; or ``num_requests`` requests, all measured.  Every round plays the same schedule, drawn from ``seed``.
    ``drain_s``: how long after the last request was due answers are waited for; 30 s behind a window, else ``limit_s``.
    ``tolerated_failures``: the share of requests that may fail before the test does; from a half on there is no median
    latency. Where nothing succeeds, or every failure is a refused key (401, 403), the test fails whatever the share.
    ``cold``: each launch is a fresh process with one round, so that the load meets an engine that has served nothing yet;
    on a GPU an uncounted launch under the same load goes before, because that load compiles kernels of its own.
    ``prefix_caching``: off by default, as a warm cache lifts throughput by up to 2.3 times.
    """

    kind: ClassVar[str] = "serving"
    gates: ClassVar[tuple[str, ...]] = ("output_throughput", "ttft_p50", "tpot_p50", "energy_per_output_token")
    needs_warmup: ClassVar[bool] = False  # the load of each round includes a warm-up

    workload: Workload = field(kw_only=False)
    arrivals: Arrivals | None = field(default=None, kw_only=False)
    duration_s: float | None = setting(None, ABOVE_ZERO, work=True)
    num_requests: int | None = setting(None, COUNT, work=True)
    drain_s: float | None = setting(None, ABOVE_ZERO, work=True)
    slo: Slo | None = None
    prefix_caching: bool = setting(False, work=True)
    rounds: int | None = setting(2, COUNT)
    clients: int | None = setting(None, COUNT)
    cold: bool = setting(False, work=True)
    tolerated_failures: float = setting(0.49, SHARE)

    def __post_init__(self) -> None:
        if (self.arrivals is None) == (self.concurrency is None):
            raise InvalidInput("slmperf.serving: give either a rate (or arrivals) or a concurrency")
        if (self.duration_s is None) == (self.num_requests is None):
            raise InvalidInput("slmperf.serving: give either duration_s or num_requests")
        if wrong := first_wrong(self):
            raise InvalidInput(f"slmperf.serving: {wrong}")
        if self.ramp_s and self.concurrency is None:
            raise InvalidInput("slmperf.serving: ramp_s is the time in which users enter; with a rate use rate_to")
        if self.duration_s is None and self.warmup_s:
            raise InvalidInput("slmperf.serving: warmup_s needs duration_s; with num_requests everything is measured")

    @property
    def rounds_per_launch(self) -> int | None:  # type: ignore[override]
        return 1 if self.cold else self.rounds

    def prepare(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> None:
        if self.cold and first_fills_caches(spec, launch):
            with self.engine(spec, launch, open_engine) as engine:
                self.play(engine, None)

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        return open_engine(spec, -1 if self.cold else launch)

    def parameters(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"kind": self.kind, "loop": "open" if self.arrivals else "closed"}
        if self.arrivals is not None:
            shape |= self.arrivals.describe()
        else:
            shape["concurrency"] = self.concurrency
        shape |= self.workload.describe()
        shape |= work_of(self)
        if self.slo is not None:
            shape["slo"] = self.slo.as_dict()
        return shape | {"seed": self.seed}

    def spec(self, base: EngineSpec, adapter: EngineAdapter) -> EngineSpec:
        longest = max(((item.n_in or 1) + item.n_out for item in self.items(None)), default=2)
        changes: dict[str, Any] = {"max_model_len": grow(base.max_model_len, longest)}
        if self.concurrency is not None:
            changes["max_num_seqs"] = grow(base.max_num_seqs, self.concurrency)
        grown = base.with_settings(**changes)
        return adapter.with_prefix_caching(grown) if self.prefix_caching else grown

    def longest_request(self) -> str | None:
        return self.workload.longest() if isinstance(self.workload, Own) else None

    def due(self) -> list[float] | None:
        """Times at which the requests are due, in seconds after the start; None in closed loop."""
        if self.arrivals is None:
            return None
        if self.duration_s is not None:
            return self.arrivals.times(self.warmup_s + self.duration_s, self.seed)
        assert self.num_requests is not None
        seconds = 1.0
        while len(times := self.arrivals.times(seconds, self.seed)) < self.num_requests:
            seconds *= 2
            if seconds > 1e7:
                raise InvalidInput(f"slmperf.serving: the arrivals give {len(times)} requests, not {self.num_requests}")
        return times[: self.num_requests]

    def items(self, limit: int | None) -> list[Item]:
        """The requests of a round."""
        due = self.due()
        if due is not None:
            count = len(due)
        elif self.num_requests is not None:
            count = self.num_requests
        else:
            # A closed loop repeats a short list (with a note in the result); a longer list would cost memory.
            count = max(64, 8 * (self.concurrency or 1))
        return self.workload.items(count, self.seed, limit)

    def load(self, items: Sequence[Item], timeout_s: float | None = None) -> LoadPlan:
        """The plan of a round whose requests have ``items`` as their prompts, in their order.

        Of a conversation, the first turn is due by the schedule, later ones after the answer.
        """
        due = self.due()
        limit_s = min(self.limit_s, timeout_s) if timeout_s else self.limit_s
        speed = (
            self.arrivals.speed if isinstance(self.arrivals, Recorded) else 1.0
        )  # the speed applies to pauses in a trace too
        requests = [
            PlannedRequest(
                index,
                due=None if due is None or item.after is not None else due[index],
                after=item.after,
                pause=item.pause / speed,
                n_in=item.n_in,
                n_out=item.n_out,
            )
            for index, item in enumerate(items)
        ]
        return LoadPlan(
            requests,
            loop="closed" if due is None else "open",
            cycle=due is None and self.num_requests is None,
            window_s=self.duration_s,
            drain_s=self.drain_s or (DRAIN_S if self.duration_s is not None else limit_s),
            clients=self.clients,
            **{**values_of(LoadSettings, self), "limit_s": limit_s},
        )

    def play(self, engine: Engine, timeout_s: float | None) -> tuple[Outcome, EngineSide]:
        """Play the load on an engine once. EngineError if the engine fails; failed requests are in the outcome."""
        items = self.items(longest_request(engine))
        return send(self.load(items, timeout_s), items, engine)

    def round(self, engine: Engine, timeout_s: float | None) -> RoundOutcome:
        engine.reset_caches()
        outcome, side = self.play(engine, timeout_s)
        if not engine.facts.virtual_clock:
            _stay_until(outcome.window_ns[1])
        metrics = measure(outcome, self.slo)
        self._check(engine, metrics)
        measured = round_outcome(outcome, metrics, side, self._scheduled(outcome))
        if self.cold and engine.start_time_s is not None:
            measured.values[engine_start_time.name] = engine.start_time_s
        return measured

    def notes(self, outcomes: Sequence[RoundOutcome]) -> list[str]:
        loads = [outcome.evidence["load"] for outcome in outcomes if "load" in outcome.evidence]
        failures: Counter[str] = Counter()
        for load in loads:
            failures.update(load["failures"])
        notes = [self._cut(loads)] if any(load["cut"] for load in loads) else []
        notes += self.workload.notes if isinstance(self.workload, Own) else ()
        if not failures:
            return notes
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items()))
        return [*notes, f"{failures.total()} of {sum(load['due'] for load in loads)} requests failed ({listed})"]

    def _scheduled(self, outcome: Outcome) -> int | None:
        """Number of requests in the whole schedule; None if users of a closed loop repeat them."""
        if outcome.load.cycle:
            return None
        recorded = len(self.arrivals.at) if isinstance(self.arrivals, Recorded) and self.num_requests is None else 0
        return max(len(outcome.load.requests), recorded)

    def _cut(self, loads: Sequence[Mapping[str, Any]]) -> str:
        """The note about a schedule that did not end in time, with the numbers of its shortest round."""
        shortest = min((load for load in loads if load["cut"]), key=lambda load: load["were_due"])
        ends = [f"limit_s={self.limit_s:g}"]
        if self.duration_s is not None:
            ends.insert(0, f"duration_s={self.duration_s:g}")
        return (
            f"{shortest['were_due']} of {shortest['scheduled']} requests of the schedule were due before the load ended "
            f"({' or '.join(ends)})"
        )

    def _check(self, engine: Engine, metrics: LoadMetrics) -> None:
        due, failed = metrics.counts["due"], metrics.counts["failed"]
        if due == 0:
            raise EngineError("no request was due in the measured window; raise the rate or duration_s")
        unauthorized = 0 < len(metrics.failures) == len(UNAUTHORIZED & metrics.failures.keys())
        if metrics.counts["completed"] == 0 or unauthorized or failed / due > self.tolerated_failures:
            listed = ", ".join(
                f"{count} {kind}" + (f" ({metrics.examples[kind]})" if kind in metrics.examples else "")
                for kind, count in sorted(metrics.failures.items())
            )
            raise EngineError(
                f"{failed} of {due} requests failed: {listed}{self._mend(engine, metrics, unauthorized)}",
                engine.log_tail(),
            )

    def _mend(self, engine: Engine, metrics: LoadMetrics, unauthorized: bool) -> str:
        target = None if engine.http is None else engine.http.target
        if unauthorized and target is not None:
            return f"; {target.key_mend()}"
        if {"refused", "unreachable"} & metrics.failures.keys() and target is not None:
            return f"; is the server at {target.url} still up?"
        if "http_429" in metrics.failures:
            return "; the endpoint limits requests: lower the rate or the concurrency"
        if mend := ignore_eos_mend(metrics.examples.values()):
            return mend
        if metrics.counts["completed"]:
            return f"; more than tolerated_failures={self.tolerated_failures:g} allows"
        return ""


def _stay_until(end_ns: int) -> None:
    """Wait for the end of the window, which an open loop's last answer may precede: energy covers the whole window."""
    time.sleep(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))


def round_outcome(
    outcome: Outcome, metrics: LoadMetrics, side: EngineSide, scheduled: int | None = None
) -> RoundOutcome:
    """The outcome of a round. Without preemption counters it has no preemption metric, instead of a 0.

    ``scheduled``: number of requests in the whole schedule; None for a schedule without end.
    """
    were_due = len(outcome.requests)
    values = {name: value for name, value in metrics.values.items() if value is not None}
    missing = dict(metrics.reasons)
    for name, value in (("kv_cache_peak", side.statistics.kv_cache_peak), ("preemptions", side.statistics.preemptions)):
        if value is None:
            missing[name] = "the engine gave no statistics"
        else:
            values[name] = float(value)
    if side.statistics.mean_running is not None:
        values["mean_running_requests"] = side.statistics.mean_running
    return RoundOutcome(
        t_start=outcome.window_ns[0] / 1e9,
        t_end=outcome.window_ns[1] / 1e9,
        n_out=round((metrics.values["output_throughput"] or 0.0) * outcome.window_s),
        completed=metrics.counts["completed"],
        values=values,
        missing=missing,
        preemptions=side.statistics.preemptions,
        evidence={
            **side.evidence,
            "load": {
                **metrics.counts,
                "scheduled": scheduled,
                "were_due": were_due,
                "cut": scheduled is not None and were_due < scheduled,
                "failures": metrics.failures,
                "examples": metrics.examples,
                "sender": asdict(metrics.sender),
                "peak_tokens_per_s": peak_rate(outcome.tiles, outcome.window_s),
                "running_peak": metrics.running.peak,
                "running": metrics.running.running,
                "window_s": outcome.window_s,
                "notes": metrics.notes,
            },
        },
        samples=metrics.drawn,
        contaminated=metrics.contaminated,
        lengths=metrics.lengths,
    )
