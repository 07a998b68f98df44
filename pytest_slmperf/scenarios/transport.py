"""How a load reaches an engine: over HTTP by client processes, or as a plan that its worker plays."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_slmperf.engines.base import Engine
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.plan import Load, Planned
from pytest_slmperf.load.requests import Item
from pytest_slmperf.load.samples import Outcome, Requests

if TYPE_CHECKING:
    from pytest_slmperf.engines.openai.http import HttpOperations
    from pytest_slmperf.scenarios.serving import Serving

DRAIN_S = 30.0
SLACK_S = 60.0  # beyond a load's own time limit, until its engine counts as hung


@dataclass(slots=True)
class EngineSide:
    """What the engine itself said of a load; None where it tells nothing."""

    preemptions: int | None = None
    kv_cache_peak: float | None = None
    mean_running: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def send(scenario: Serving, engine: Engine, timeout_s: float | None) -> tuple[Outcome, EngineSide]:
    """Play a scenario's load on an engine. EngineError when the engine fails; failed requests are in the outcome."""
    limit = getattr(engine, "facts", {}).get("max_model_len") or engine.spec.max_model_len
    items = scenario.items(limit)
    due = scenario.due()
    limit_s = min(scenario.limit_s, timeout_s) if timeout_s else scenario.limit_s
    if hasattr(engine, "http"):
        return _over_http(scenario, engine, items, due, limit_s)
    if engine.facts.get("weights") == "simulated":
        items = [_counted(index, item) for index, item in enumerate(items)]
    if any(item.text is not None or item.messages is not None for item in items):
        raise InvalidInput(
            f"engine {engine.spec.engine} takes token ids, and the workload holds text; give prompt_token_ids, or measure "
            "over HTTP (vllm-server, openai)"
        )
    return _in_worker(scenario, engine, items, due, limit_s)


def _counted(index: int, item: Item) -> Item:
    """The request for an engine that looks at lengths only: a word of text counts as a token."""
    if item.text is None and item.messages is None:
        return item
    said = [item.text or "", *(str(message.get("content", "")) for message in item.messages or ())]
    n_in = item.n_in or max(1, sum(len(text.split()) for text in said))
    return replace(item, n_in=n_in, parts=((f"own/{index}", n_in),), text=None, messages=None)


def _load(scenario: Serving, requests: list[Planned], limit_s: float, clients: int) -> Load:
    return Load(
        requests,
        loop="open" if scenario.arrivals is not None else "closed",
        concurrency=scenario.concurrency,
        ramp_s=scenario.ramp_s,
        cycle=scenario.arrivals is None and scenario.num_requests is None,
        warmup_s=scenario.warmup_s,
        window_s=scenario.duration_s,
        drain_s=scenario.drain_s or (DRAIN_S if scenario.duration_s is not None else limit_s),
        limit_s=limit_s,
        request_timeout_s=scenario.request_timeout_s,
        stall_timeout_s=scenario.stall_timeout_s,
        clients=clients,
        about=scenario.parameters(),
    )


def planned(items: list[Item], due: list[float] | None, bodies: list[str]) -> list[Planned]:
    """Items with their times. Of a conversation, the first turn is due by the schedule, later ones after the answer."""
    requests = []
    for index, item in enumerate(items):
        at = None if due is None or item.after is not None else due[index]
        requests.append(Planned(index, bodies[index], due=at, after=item.after, n_in=item.n_in, n_out=item.n_out))
    return requests


def _over_http(
    scenario: Serving, engine: Any, items: list[Item], due: list[float] | None, limit_s: float
) -> tuple[Outcome, EngineSide]:
    from pytest_slmperf.engines.openai.http import CounterWatch
    from pytest_slmperf.load.http.run_clients import drive

    over: HttpOperations = engine
    http = over.http
    bodies = [http.body(item, scenario.seed, scenario.ignore_eos) for item in items]
    clients = scenario.clients or http.clients or default_clients()
    load = _load(scenario, planned(items, due, bodies), limit_s, clients)
    with CounterWatch(http.counters) as watch:
        outcome = drive(http.target, load)
    if not engine.alive():
        raise EngineError(f"engine {engine.spec.engine} ended while it was under load", engine.log_tail())
    evidence = {"transport": "http", "clients": clients}
    return outcome, EngineSide(watch.preemptions, watch.kv_peak, watch.mean_running, evidence)


def default_clients() -> int:
    """Client processes where nothing else is said: one for each eight cores, since one moves 100,000 tokens a second."""
    return max(1, len(os.sched_getaffinity(0)) // 8)


def _in_worker(
    scenario: Serving, engine: Any, items: list[Item], due: list[float] | None, limit_s: float
) -> tuple[Outcome, EngineSide]:
    load = _load(scenario, planned(items, due, [""] * len(items)), limit_s, 1)
    plan = {
        "loop": load.loop,
        "requests": [
            [
                request.index,
                request.due,
                item.n_in,
                item.n_out,
                request.after,
                request.pause,
                item.parts,
                None if item.ids is None else list(item.ids),
            ]
            for request, item in zip(load.requests, items, strict=True)
        ],
        "seed": scenario.seed,
        "ignore_eos": scenario.ignore_eos,
        "concurrency": load.concurrency,
        "ramp_s": load.ramp_s,
        "cycle": load.cycle,
        "warmup_s": load.warmup_s,
        "window_s": load.window_s,
        "drain_s": load.drain_s,
        "limit_s": load.limit_s,
        "request_timeout_s": load.request_timeout_s,
    }
    report = engine.call("play", {"plan": plan}, limit_s + SLACK_S)
    requests = Requests()
    for row in report["rows"]:
        requests.add(row)
    # the loop and the engine share a process, so its processor share says nothing of a client
    report["done"]["cpu_s"] = 0.0
    outcome = Outcome.merge(load, report["start_ns"], requests, [report["done"]])
    told = report["engine"]
    side = EngineSide(
        told["preemptions"], told["kv_cache_peak"], told["mean_running"],
        {"transport": "in the worker", "steps": told["steps"], **report["evidence"]},
    )  # fmt: skip
    return outcome, side
