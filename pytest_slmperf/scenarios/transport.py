"""Sending a load to an engine: over HTTP by client processes, or as a plan that its worker plays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_slmperf.engines.base import Engine
from pytest_slmperf.engines.http_calls import CounterWatch, Http
from pytest_slmperf.engines.reading_gate import checked_report
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.requests import Item
from pytest_slmperf.load.rows import EngineStatistics
from pytest_slmperf.load.samples import Outcome, Requests

SLACK_S = 60.0  # after a load's own time limit, an engine counts as hung


@dataclass(slots=True)
class EngineSide:
    """The engine's own report of a load, and the evidence of its run."""

    statistics: EngineStatistics
    evidence: dict[str, Any] = field(default_factory=dict)


def longest_request(engine: Engine) -> int | None:
    """The largest number of tokens in a request on this engine; None without a limit."""
    return engine.facts.max_model_len or engine.spec.max_model_len


def send(load: LoadPlan, items: Sequence[Item], engine: Engine) -> tuple[Outcome, EngineSide]:
    """Play ``load``, whose requests have ``items`` as their prompts, on an engine.

    EngineError if the engine fails; failed requests are in the outcome.
    """
    if engine.http is not None:
        return _over_http(load, items, engine, engine.http)
    if engine.facts.simulated:
        items = [_by_length(index, item) for index, item in enumerate(items)]
    if any(item.text is not None or item.messages is not None for item in items):
        raise InvalidInput(
            f"engine {engine.spec.engine} takes token ids, and the workload holds text; give prompt_token_ids, or measure "
            "over HTTP (vllm-server, openai)"
        )
    return _in_worker(load, items, engine)


def _by_length(index: int, item: Item) -> Item:
    """The request for an engine that uses only its length: a word of text counts as a token."""
    if item.text is None and item.messages is None:
        return item
    texts = [item.text or "", *(str(message.get("content", "")) for message in item.messages or ())]
    n_in = item.n_in or max(1, sum(len(text.split()) for text in texts))
    return replace(item, n_in=n_in, parts=((f"own/{index}", n_in),), text=None, messages=None)


def _over_http(load: LoadPlan, items: Sequence[Item], engine: Engine, http: Http) -> tuple[Outcome, EngineSide]:
    from pytest_slmperf.load.http.run_clients import drive

    bodies = [http.body(item, load.seed, load.ignore_eos) for item in items]
    clients = load.clients or http.clients or default_clients()
    requests = [request._replace(body=body) for request, body in zip(load.requests, bodies, strict=True)]
    with CounterWatch(http.counters) as watch:
        outcome = drive(http.target, replace(load, requests=requests, clients=clients))
    if not engine.alive():
        raise EngineError(f"engine {engine.spec.engine} ended while it was under load", engine.log_tail())
    statistics = EngineStatistics(watch.preemptions, watch.kv_peak, watch.mean_running)
    return outcome, EngineSide(statistics, {"transport": "http", "clients": clients})


def default_clients() -> int:
    """Default number of client processes: one per eight cores, since a client receives 100,000 tokens per second."""
    return max(1, len(os.sched_getaffinity(0)) // 8)


def _in_worker(load: LoadPlan, items: Sequence[Item], engine: Engine) -> tuple[Outcome, EngineSide]:
    requests = [
        request._replace(parts=item.parts, ids=item.ids) for request, item in zip(load.requests, items, strict=True)
    ]
    report = checked_report(engine, replace(load, requests=requests), load.limit_s + SLACK_S)
    records = Requests()
    records.extend(report.records)
    # Load and engine share a process, so that its CPU time is not that of a client.
    report.sums.cpu_s = 0.0
    outcome = Outcome.merge(load, report.start_ns, records, [report.sums])
    evidence = {"transport": "in the worker", "steps": report.engine.steps, **report.evidence}
    return outcome, EngineSide(report.engine, evidence)
