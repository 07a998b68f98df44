"""One pair of launches for ``overhead.py``: a perf test whose body runs the same work in a bare ``LLM.generate`` loop
between its own measurements. Both engines are resident, with the same arguments and cores; blocks of rounds take turns.

The first engine of a session is slower than later ones for its whole life (3.3 % here, see
docs/explanation/verdicts.md); therefore an engine that is never measured starts before both.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.engines.worker.tools import draw_prompts

WORK: dict[str, Any] = json.loads(os.environ.get("OVERHEAD_WORK", "{}"))

BARE = """
import json, os, sys, time
work = json.loads(sys.argv[1])
os.sched_setaffinity(0, work["cpus"])
from vllm import LLM, SamplingParams
llm = LLM(**work["arguments"])
prompts = [{"prompt_token_ids": ids} for ids in work["prompts"]]
sampling = SamplingParams(max_tokens=work["tokens"], ignore_eos=True, detokenize=False, temperature=0.0)
out = os.fdopen(work["out"], "w")
for line in sys.stdin:
    seconds, used = [], []
    for number in range(int(line) + 1):  # the first is a warm-up
        start, cpu = time.monotonic(), time.thread_time()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds.append(time.monotonic() - start)
        used.append(time.thread_time() - cpu)
        assert sum(len(one.token_ids) for output in outputs for one in output.outputs) == work["made"]
    print(json.dumps({"seconds": seconds[1:], "cpu": used[1:]}), file=out, flush=True)
"""


class Bare:
    """The bare loop in a process of its own, with vLLM's own default for statistics (none).

    It is stopped (SIGSTOP) between its blocks, like the plugin's idle engines: an idle vLLM wakes up every few milliseconds,
    which takes more than 1 % of a core from the measured side.
    """

    def __init__(self, facts: dict[str, Any], environment: dict[str, str]) -> None:
        reader, writer = os.pipe()
        arguments = {name: value for name, value in facts["arguments"].items() if name != "disable_log_stats"}
        prompts = draw_prompts(WORK["batch"], WORK["tokens"], 50_000, 0)
        made = WORK["batch"] * WORK["tokens"]
        work = {"arguments": arguments, "cpus": facts["cpus"], "prompts": prompts, "out": writer, "made": made,
                "tokens": WORK["tokens"]}  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", BARE, json.dumps(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
            env=os.environ | environment,
            text=True,
        )
        os.close(writer)
        self._out = os.fdopen(reader)

    def block(self) -> dict[str, list[float]]:
        """Wall-clock seconds and thread CPU seconds of each round."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        print(WORK["rounds"], file=self._process.stdin, flush=True)
        line = self._out.readline()
        assert line, "the bare loop ended; does vLLM run here?"
        self._process.send_signal(signal.SIGSTOP)
        found: dict[str, list[float]] = json.loads(line)
        return found

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait()
        self._out.close()


@pytest.mark.slmperf(gate=False, launches=1, max_launches=1)
def test_work(slmperf, request):
    facts = WORK[
        "facts"
    ]  # None in the first turn of all, which is not counted and only asks the plugin's engine for them
    if facts is None:
        engine = request.getfixturevalue("slm_engine")
        answer = engine.facts | {"environment": VllmAdapter().environment(engine.engine.spec)}
        slmperf.offline(batch=1, input_len=8, output_len=2)
        Path(WORK["answer"]).write_text(json.dumps({"blocks": [], "facts": answer}))
        return

    def started() -> Bare:
        bare = Bare(facts, facts["environment"])
        bare.block()  # waits until the engine has loaded
        return bare

    def plugin() -> dict[str, list[float]]:
        measured = slmperf.offline(batch=WORK["batch"], input_len=WORK["tokens"], output_len=WORK["tokens"])
        (launch,) = measured.result.launches
        kept = launch.rounds[
            max(1, launch.warmup_rounds) :
        ]  # as for the bare loop: after the other side's block, caches are cold
        clean = [one for one in kept if one.contaminated is None]
        return {
            "seconds": [one.t_end - one.t_start for one in clean],
            "cpu": [one.evidence["thread_cpu_s"] for one in clean if "thread_cpu_s" in one.evidence],
        }

    blocks = []
    settled = started()
    early = started() if WORK["bare_first"] else None
    engine = request.getfixturevalue("slm_engine")
    engine.engine.pause()  # until its next block, as the plugin does with every idle engine
    bare = early or started()
    try:
        for number in range(WORK["blocks"]):
            order = [("plugin", plugin), ("bare", bare.block)]
            blocks.append({name: side() for name, side in (order if number % 2 == 0 else order[::-1])})
    finally:
        bare.stop()
        settled.stop()
    assert engine.facts["arguments"] == facts["arguments"], "the two engines were not started alike"
    Path(WORK["answer"]).write_text(json.dumps({"blocks": blocks, "facts": facts}))
