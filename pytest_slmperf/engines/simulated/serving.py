"""Open and closed loops on the cost model, step by step on its clock. Standard library only and Python 3.10."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.simulated import cost_model as model
    from pytest_slmperf.engines.worker import player, tools
    from pytest_slmperf.load import rows
else:
    import slmperf_worker_tools as tools

    model = tools.load_own("engines/simulated/cost_model")
    player = tools.load_own("engines/worker/player")
    rows = tools.load_own("load/rows")

NS = 1_000_000_000
VOCABULARY = 1000  # token ids; no model reads the prompts


def play(
    plan: dict[str, Any],
    cost: model.Cost,
    start: float,
    real: bool,
    evidence: dict[str, Any],
    answered: Callable[[int], int],
) -> tuple[rows.PlayReport, model.Outcome]:
    """Play ``plan`` from ``start`` (seconds); the report of the load and the outcome of the engine.

    ``answered``: from the requested to the actual number of output tokens.
    ``real``: on the machine's clock, where each step takes the time that it costs.  CannotServe as in ``simulate``.
    """
    load, engine = player.Player.of(plan, VOCABULARY), model.Stepwise(cost)
    start_ns = round(start * NS)
    load.begin(start_ns)
    while not load.over():
        now_ns = start_ns + round(engine.now * NS)
        for prompt in load.take(now_ns, busy=True):
            engine.add(prompt.serial, len(prompt.ids), answered(prompt.n_out))
        for serial in load.expired(now_ns):
            engine.drop(serial)
        if engine.idle:
            due = load.next_due()
            if due is None:
                continue  # the load is over at the next check
            engine.now = max(engine.now, (due - start_ns) / NS)
        else:
            served = engine.step()
            now_ns = start_ns + round(engine.now * NS)
            for request in served:
                load.tokens(request.index, now_ns, 1)
                if request.done >= request.n_out:
                    load.finish(request.index, now_ns)
        if real:
            time.sleep(max(0.0, start + engine.now - time.monotonic()))
    made = engine.ended()
    statistics = rows.EngineStatistics(
        preemptions=made.preemptions,
        kv_cache_peak=100.0 * made.kv_peak,
        mean_running=made.running_seconds / made.end if made.end else 0.0,
        steps=made.steps,
    )
    return load.report(statistics, evidence), made
