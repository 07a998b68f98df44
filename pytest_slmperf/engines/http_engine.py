"""The operations of an engine over HTTP, by load clients."""

from __future__ import annotations

import time
from typing import Any

from pytest_slmperf.engines.base import Batch, Engine, RequestTiming, RoundReading
from pytest_slmperf.engines.http_calls import CounterWatch, Http
from pytest_slmperf.errors import EngineError
from pytest_slmperf.load.plan import LoadPlan, ignore_eos_mend
from pytest_slmperf.load.requests import Item
from pytest_slmperf.load.rows import PlannedRequest


class HttpEngine(Engine):
    """An engine that takes its requests over HTTP. A subclass sets ``endpoint`` before the engine is READY."""

    endpoint: Http

    @property
    def http(self) -> Http:
        """Where the requests go."""
        return self.endpoint

    def generate(self, work: Batch, timeout_s: float | None = None, start_at: float | None = None) -> RoundReading:
        """Run one offline round: all requests at once. EngineError with the cause if a request fails."""
        from pytest_slmperf.load.http.run_clients import drive

        limit = timeout_s or 600.0
        requests = []
        for index in range(work.batch):
            item = Item(n_out=work.output_len, n_in=work.input_len, parts=((f"own/{index}", work.input_len),))
            body = self.http.body(item, work.seed, work.ignore_eos)
            requests.append(PlannedRequest(index, body, due=0.0, n_in=work.input_len, n_out=work.output_len))
        load = LoadPlan(
            requests, limit_s=limit, drain_s=limit, request_timeout_s=limit, stall_timeout_s=limit,
            clients=self.http.clients, preconnect=work.batch,
        )  # fmt: skip
        if start_at is not None:
            time.sleep(max(0.0, start_at - time.monotonic() - 0.2))
        with CounterWatch(self.http.counters) as watch:
            outcome = drive(self.http.target, load)
        answered = outcome.requests
        failed = [error for error in answered.error if error is not None]
        if failed:
            example = answered.examples.get(failed[0]) or "no more is known"
            mend = ignore_eos_mend(answered.examples.values())
            raise EngineError(
                f"{len(failed)} of {work.batch} requests failed ({failed[0]}: {example}){mend}", self.log_tail()
            )
        if (
            any(sums.counted_by_events for sums in outcome.clients)
            and sum(answered.n_out) != work.batch * work.output_len
        ):
            raise EngineError(
                "the endpoint tells no usage (stream_options.include_usage), so that the tokens of its answers cannot be "
                "counted; measure it with slmperf.serving, which counts events"
            )
        rows = tuple(
            RequestTiming(
                answered.sent_ns[k] / 1e9,
                answered.first_ns[k] / 1e9,
                answered.last_ns[k] / 1e9,
                max(0, answered.n_in[k]),
                answered.n_out[k],
            )
            for k in range(len(answered))
        )
        gaps = tuple(gap for gap, times in outcome.itl.bins() for _ in range(times))
        return RoundReading(
            t_start=outcome.window_ns[0] / 1e9,
            t_end=outcome.window_ns[1] / 1e9,
            n_in=sum(row.n_in for row in rows),
            n_out=sum(row.n_out for row in rows),
            completed=len(rows),
            requests=rows,
            itl_s=gaps,
            preemptions=watch.preemptions,
            kv_cache_peak=watch.kv_peak,
            mean_running=watch.mean_running,
        )

    def reset_caches(self) -> None:
        """Empty the prefix cache of a server that offers the call (vLLM in development mode); else do nothing."""
        try:
            self.http.get("/reset_prefix_cache", 30.0, data=b"{}")
        except OSError:
            pass

    def counters(self) -> dict[str, Any]:
        """The server's counters under ``/metrics``, summed over labels."""
        return dict(self.http.counters())
