"""Open and closed loops on vLLM inside its process, without HTTP: step by step, or through ``AsyncLLM``.

Standard library and vLLM only, Python 3.10.
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

NAP_S = 0.02
CHECK_NS = 100_000_000  # between two checks for requests that ran out of time


def sampling_of(engine: Any, ignore_eos: bool) -> Any:
    """A function from a number of output tokens to sampling parameters, which it creates once per number."""
    from vllm.sampling_params import RequestOutputKind

    made: dict[int, Any] = {}

    def sampling(n_out: int) -> Any:
        if n_out not in made:
            made[n_out] = engine.sampling_params(
                max_tokens=n_out,
                ignore_eos=ignore_eos,
                detokenize=False,
                temperature=0.0,
                output_kind=RequestOutputKind.DELTA,
            )
        return made[n_out]

    return sampling


def statistics(engine: Any, start_ns: int) -> rows.EngineStatistics:
    """The scheduler's statistics of the steps since ``start_ns``."""
    steps = engine.steps
    return rows.EngineStatistics(
        preemptions=steps.preemptions if steps.times else None,
        kv_cache_peak=100.0 * steps.kv_peak if steps.kv_seen else None,
        mean_running=steps.mean_running(start_ns / 1e9, time.monotonic()),
        steps=len(steps.times),
    )


def play_steps(engine: Any, plan: dict[str, Any]) -> rows.PlayReport:
    """Play a plan on the resident in-process engine, which receives the due requests between two steps.

    vLLM's own core loop accepts new requests at the same moment; only the hop between its processes is absent.
    """
    load = player.Player.of(plan, engine.vocabulary)
    load.check_lengths(engine.spec["max_model_len"])
    core = engine.llm.llm_engine
    sampling = sampling_of(engine, load.ignore_eos)
    engine.steps.clear()
    usage = tools.Usage()
    cpu = time.process_time()
    start = time.monotonic_ns()
    load.begin(start)
    busy = False
    checked = start
    while not load.over():
        now = time.monotonic_ns()
        for prompt in load.take(now, busy):
            core.add_request(str(prompt.serial), {"prompt_token_ids": prompt.ids}, sampling(prompt.n_out))
        if now - checked > CHECK_NS:
            checked = now
            given_up = load.expired(now)
            if given_up:
                core.abort_request([str(serial) for serial in given_up])
        busy = core.has_unfinished_requests()
        if not busy:
            due = load.next_due()
            time.sleep(max(0.0, min(NAP_S, ((due or now) - time.monotonic_ns()) / 1e9)))
            continue
        outputs = core.step()
        at = time.monotonic_ns()
        for output in outputs:
            serial = external(output.request_id)
            load.tokens(serial, at, sum(len(part.token_ids) for part in output.outputs))
            if output.finished:
                load.finish(serial, at)
    return load.report(statistics(engine, start), usage.delta(), time.process_time() - cpu)


def external(request_id: str) -> int:
    """The serial in a request id, to which some versions append a suffix of their own."""
    return int(request_id.partition("-")[0])
