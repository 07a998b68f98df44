"""Open and closed loops on transformers' continuous batching, inside its process. Standard library only, Python 3.10.

The generation loop runs in a thread of this process and stamps every token itself; the tokens of a request are read when
the request is finished.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.worker import player, tools
    from pytest_slmperf.load import rows
else:
    import slmperf_worker_tools as tools

    player = tools.load_own("engines/worker/player")
    rows = tools.load_own("load/rows")

NS = 1_000_000_000
NAP_S = 0.02


def play(engine: Any, plan: dict[str, Any]) -> rows.PlayReport:
    """Play ``plan`` on the engine's manager; the report of the load."""
    load = player.Player.of(plan, engine.vocabulary)
    load.check_lengths(engine.spec["max_model_len"])
    manager, prefix = engine.manager, f"{engine.rounds}-"
    eos = -1 if load.ignore_eos else engine.model.config.eos_token_id
    engine.log.clear()
    usage = tools.Usage()
    running_s = 0.0
    start = checked = time.monotonic_ns()
    load.begin(start)
    while not load.over():
        now = time.monotonic_ns()
        # The running loop holds the interpreter, so that requests wait for the engine, not for the sender.
        for prompt in load.take(now, busy=load.running):
            manager.add_request(
                prompt.ids,
                request_id=f"{prefix}{prompt.serial}",
                max_new_tokens=prompt.n_out,
                record_timestamps=True,
                eos_token_id=eos,
            )
        if now - checked > NS // 10:
            checked = now
            for serial in load.expired(now):
                manager.cancel_request(f"{prefix}{serial}")
        due = load.next_due()
        wait = NAP_S if due is None else min(NAP_S, max(0.0, (due - time.monotonic_ns()) / NS))
        if not load.running:
            time.sleep(wait)
            continue
        output = manager.get_result(timeout=max(1e-4, wait))
        if output is None:
            if not manager.is_running():
                raise tools.WorkerFault("error", "transformers' generation loop ended; its error stands in the log")
        elif output.request_id.startswith(prefix) and (output.error or output.is_finished()):
            running_s += _finish(load, int(output.request_id.rpartition("-")[2]), output)
    evidence = usage.delta() | {"steps": engine.log.steps}
    seconds = (time.monotonic_ns() - start) / NS
    statistics = rows.EngineStatistics(
        preemptions=(engine.log.preemptions or 0) if engine.log.counts_preemptions else None,
        kv_cache_peak=None if engine.log.kv_peak is None else 100.0 * engine.log.kv_peak,
        mean_running=running_s / seconds if running_s else None,
        steps=engine.log.steps,
    )
    return load.report(statistics, evidence)


def _finish(load: player.Player, serial: int, output: Any) -> float:
    """Record a finished request; returns its duration in seconds."""
    for stamp in output.timestamps or ():
        load.tokens(serial, round(stamp * NS), 1)
    load.finish(serial, time.monotonic_ns(), "engine_error" if output.error else None, str(output.error or ""))
    begun, ended = output.lifespan
    return max(0.0, ended - begun) if begun > 0 else 0.0
