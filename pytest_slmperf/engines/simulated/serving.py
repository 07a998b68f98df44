"""Open and closed loops on the cost model, step by step on its clock. Standard library only and Python 3.10."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.simulated import cost_model as model
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import schedule as plays
else:
    import slmperf_worker_tools as tools

    model = tools.load_own("engines/simulated/cost_model")
    plays = tools.load_own("load/schedule")

NS = 1_000_000_000
VOCABULARY = 1000  # of prompts that nobody reads


def play(plan: dict[str, Any], cost: model.Cost, start: float, real: bool) -> tuple[dict[str, Any], model.Outcome]:
    """Play ``plan`` from ``start`` (seconds) on; the report of the load, and what the engine made in it.

    ``real``: the clock is the machine's, and each step takes as long as it costs.  CannotServe as ``simulate`` raises it.
    """
    load, engine = plays.Play(plan, VOCABULARY), model.Stepwise(cost)
    start_ns = round(start * NS)
    load.begin(start_ns)
    while not load.over():
        now_ns = start_ns + round(engine.now * NS)
        for serial, prompt, n_out in load.take(now_ns, busy=True):
            engine.add(serial, len(prompt), n_out)
        for serial in load.expired(now_ns):
            engine.drop(serial)
        if engine.idle:
            due = load.next_due()
            if due is None:
                continue  # nothing is left but to see that it is over
            engine.now = max(engine.now, (due - start_ns) / NS)
        else:
            served = engine.step()
            now_ns = start_ns + round(engine.now * NS)
            for one in served:
                load.tokens(one.index, now_ns, 1)
                if one.done >= one.n_out:
                    load.finish(one.index, now_ns)
        if real:
            time.sleep(max(0.0, start + engine.now - time.monotonic()))
    return load.report(0.0), engine.ended()
