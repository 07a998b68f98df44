"""Open and closed loops on vLLM inside its process, no HTTP: step by step, or through ``AsyncLLM``.

Standard library and vLLM only, Python 3.10.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import schedule as plays
else:
    import slmperf_worker_tools as tools

    plays = tools.load_own("load/schedule")

NAP_S = 0.02


def sampling_of(engine: Any, plan: dict[str, Any]) -> Any:
    """A function from output tokens to sampling parameters; one object per length, made once."""
    from vllm.sampling_params import RequestOutputKind

    made: dict[int, Any] = {}

    def sampling(n_out: int) -> Any:
        if n_out not in made:
            made[n_out] = engine._sampling(
                max_tokens=n_out,
                ignore_eos=plan["ignore_eos"],
                detokenize=False,
                temperature=0.0,
                output_kind=RequestOutputKind.DELTA,
            )
        return made[n_out]

    return sampling


def statistics(engine: Any, start_ns: int) -> dict[str, Any]:
    """What the scheduler said of the steps since ``start_ns``."""
    steps = engine.steps
    told = bool(steps.times)
    return {
        "preemptions": steps.preemptions if told else None,
        "kv_cache_peak": 100.0 * steps.kv_peak if steps.kv_seen else None,
        "mean_running": steps.mean_running(start_ns / 1e9, time.monotonic()),
        "steps": len(steps.times),
    }


def play_steps(engine: Any, plan: dict[str, Any]) -> dict[str, Any]:
    """Play a plan on the resident in-process engine: requests that are due are handed over between two steps.

    That is when vLLM's own core loop takes new requests too; what is absent is the hop between its processes.
    """
    play = plays.Play(plan, engine.vocabulary)
    plays.check_lengths(play, engine.spec["max_model_len"])
    core = engine.llm.llm_engine
    sampling = sampling_of(engine, plan)
    engine.steps.clear()
    usage = tools.Usage()
    cpu = time.process_time()
    start = time.monotonic_ns()
    play.begin(start)
    busy = False
    checked = start
    while not play.over():
        now = time.monotonic_ns()
        for serial, prompt, n_out in play.take(now, busy):
            core.add_request(str(serial), {"prompt_token_ids": prompt}, sampling(n_out))
        if now - checked > 100_000_000:
            checked = now
            gone = play.expired(now)
            if gone:
                core.abort_request([str(serial) for serial in gone])
        busy = core.has_unfinished_requests()
        if not busy:
            due = play.next_due()
            time.sleep(max(0.0, min(NAP_S, ((due or now) - time.monotonic_ns()) / 1e9)))
            continue
        outputs = core.step()
        at = time.monotonic_ns()
        for output in outputs:
            serial = external(output.request_id)
            play.tokens(serial, at, sum(len(one.token_ids) for one in output.outputs))
            if output.finished:
                play.finish(serial, at)
    evidence = usage.delta()
    return play.report(time.process_time() - cpu) | {"engine": statistics(engine, start), "evidence": evidence}


def external(request_id: str) -> int:
    """The serial in a request id; some versions append a suffix of their own to the id they were given."""
    return int(request_id.partition("-")[0])
