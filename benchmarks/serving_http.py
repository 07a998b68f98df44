"""The cost of HTTP, and agreement with ``vllm bench serve``: one model and one load, measured in several ways.

    python benchmarks/serving_http.py truth                     # a mock server: both tools against what it really did
    python benchmarks/serving_http.py agreement [--vllm-rs PATH]    # one real server, the tools in turn
    python benchmarks/serving_http.py cost                      # AsyncLLM and a server, launched in turn

Every comparison is paired, in alternating order, so that a drift of the machine affects both sides; the table shows the mean
ratio (or difference) with its 95 % interval by Student's t over the pairs.  All requests are greedy and end at their last
token.  ``vllm bench serve`` needs ``--temperature 0`` for that: by default the server samples from its whole vocabulary,
which costs several per cent of a small model's step on a CPU (see ``--their-temperature``).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from load_peers import Work, tokenizer, vllm_command, vllm_says
from loadgen import body
from scipy.stats import t as student
from tabulate import tabulate

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.engines.presets import resolve_model
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.serving_options import scenario

NAMES = ("ttft_mean", "tpot_mean", "itl_mean", "e2el_mean", "output_throughput", "request_throughput")
THEIRS = ("mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms", "mean_e2el_ms", "output_throughput", "request_throughput")
Run = dict[str, float]
Tool = Callable[[str], Run]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval by Student's t, which is infinite for a single value."""
    if len(values) < 2:
        return mean(values), math.inf
    return mean(values), float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def ratio(ours: list[Run], theirs: list[Run], name: str) -> str:
    """Geometric mean of the paired ratios with its interval."""
    middle, half = interval([math.log(a[name] / b[name]) for a, b in zip(ours, theirs, strict=True)])
    return f"{math.exp(middle):.4f} ({math.exp(middle - half):.4f} … {math.exp(middle + half):.4f})"


def table(columns: dict[str, list[Run]], base: str) -> None:
    """Print the means of each tool, and the ratios of ``base`` to each other tool."""
    others = [tool for tool in columns if tool != base]
    rows = [
        [name, *(f"{mean(run[name] for run in runs):.2f}" for runs in columns.values()),
         *(ratio(columns[base], columns[other], name) for other in others)]
        for name in NAMES
    ]  # fmt: skip
    print(
        tabulate(rows, headers=["metric", *columns, *(f"{base} ÷ {other}" for other in others)], disable_numparse=True)
    )


def in_turn(tools: dict[str, Tool], turns: int, url: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {name: [] for name in tools}
    for turn in range(turns):
        for name in list(tools)[:: -1 if turn % 2 else 1]:
            found[name].append(tools[name](url))
            say(f"turn {turn + 1} {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in found[name][-1].items()))
    return found


def peers(args: argparse.Namespace, folder: Path) -> dict[str, Tool]:
    commands = {"vllm bench serve": vllm_command(args.python)}
    if args.vllm_rs:
        commands["vllm-rs bench serve"] = [args.vllm_rs, "bench", "serve"]

    def tool(command: list[str]) -> Tool:
        def run(url: str) -> Run:
            work = Work(url, args.concurrency, args.requests, args.input_len, args.output_len, args.model)
            said = vllm_says(command, work, folder, folder, args.their_temperature)
            return dict(zip(NAMES, (said[name] for name in THEIRS), strict=True))

        return run

    return {name: tool(command) for name, command in commands.items()}


def truth(args: argparse.Namespace, folder: Path) -> None:
    """Compare every run of each tool with the server's record of that run."""
    tokenizer(folder, 2003)

    def ours(url: str) -> Run:
        requests = [PlannedRequest(k, body(args.input_len, args.output_len), n_in=args.input_len, n_out=args.output_len)
                    for k in range(args.requests)]  # fmt: skip
        result = measure(
            drive(Target(url, key_env=None), LoadPlan(requests, loop="closed", concurrency=args.concurrency))
        )
        assert result.counts["failed"] == 0, result.failures
        return {name: result.values[name] for name in NAMES}

    said: dict[str, list[Run]] = {}
    real: dict[str, list[Run]] = {}
    with MockServer(MockPlan(ttft_s=args.ttft_ms / 1e3, itl_s=args.itl_ms / 1e3), cpus=[args.server_cpu]) as server:

        def recorded(name: str, tool: Tool) -> Tool:
            def run(url: str) -> Run:
                server.truth(clear=True)
                found = tool(url)
                real.setdefault(name, []).append(record(server.truth(clear=True), args.output_len))
                return found

            return run

        tools = {name: recorded(name, tool) for name, tool in ({"slmperf": ours} | peers(args, folder)).items()}
        said = in_turn(tools, args.turns, server.url)
    print(f"\nAgainst a mock server (TTFT {args.ttft_ms:g} ms, ITL {args.itl_ms:g} ms): figure ÷ the server's record")
    rows = [[name, f"{mean(run[name] for run in real['slmperf']):.2f}",
             *(ratio(said[tool], real[tool], name) for tool in said)] for name in NAMES]  # fmt: skip
    print(tabulate(rows, headers=["metric", "recorded", *said], disable_numparse=True))


def record(rows: list[dict], n_out: int) -> Run:
    """The same figures from the server's record: arrival of the request, and hand-over of each event to the kernel."""
    rows = [row for row in rows if len(row["times_ns"]) == n_out]
    ttft = [(row["times_ns"][0] - row["received_ns"]) / 1e6 for row in rows]
    span = [(row["times_ns"][-1] - row["times_ns"][0]) / 1e6 for row in rows]
    seconds = (max(row["times_ns"][-1] for row in rows) - min(row["received_ns"] for row in rows)) / 1e9
    return dict(zip(NAMES, (
        mean(ttft), mean(span) / (n_out - 1), mean(span) / (n_out - 1), mean(map(sum, zip(ttft, span, strict=True))),
        len(rows) * n_out / seconds, len(rows) / seconds), strict=True))  # fmt: skip


class Engines:
    """Launches engines of one model for one load."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        self.load = scenario(concurrency=args.concurrency, input_len=args.input_len, output_len=args.output_len,
                             num_requests=args.requests)  # fmt: skip
        self.spec = self.load.spec(
            EngineSpec("vllm", args.model, max_model_len=512, max_num_seqs=max(16, args.concurrency)),
            Registry(builtin_adapters()).get("vllm"),
        )
        tokenizer(folder, int(resolve_model(args.model, None).config["vocab_size"]))

    def launch(self, name: str):
        spec = self.spec.with_settings(tokenizer=str(self.folder)) if name == "vllm-server" else self.spec
        adapter = Registry(builtin_adapters()).get(name)
        say(f"starting {name}")
        return adapter.launch(adapter.resolve(spec), log_path=self.folder / f"{name}.log", progress=lambda text: None)

    def measure(self, engine) -> Run:
        result = measure(self.load.play(engine, 600)[0])
        assert result.counts["failed"] == 0, result.failures
        return {name: result.values[name] for name in NAMES}


def agreement(args: argparse.Namespace, folder: Path) -> None:
    engines = Engines(args, folder)
    engine = engines.launch("vllm-server")
    try:
        engines.measure(engine)  # warm-up
        tools = {"slmperf": lambda url: engines.measure(engine)} | peers(args, folder)
        found = in_turn(tools, args.turns, engine.http.target.url)
    finally:
        engine.stop()
    print(f"\nOne vLLM server, {args.model}, the tools in turn, {args.turns} turns")
    table(found, "slmperf")


def cost(args: argparse.Namespace, folder: Path) -> None:
    """Compare in pairs of launches; without pairing, differences between launches would look like the cost of HTTP."""
    engines = Engines(args, folder)
    found: dict[str, list[Run]] = {"vllm-server": [], "vllm-async": []}
    for pair in range(args.launches):
        for name in list(found)[:: -1 if pair % 2 else 1]:
            engine = engines.launch(name)
            try:
                engines.measure(engine)  # warm-up
                runs = [engines.measure(engine) for _ in range(args.loads)]
            finally:
                engine.stop()
            found[name].append({key: mean(run[key] for run in runs) for key in NAMES})
            say(f"pair {pair + 1} {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in found[name][-1].items()))
    http, bare = found.values()
    rows = []
    for name in NAMES:
        middle, half = interval([a[name] - b[name] for a, b in zip(http, bare, strict=True)])
        rows.append([name, f"{mean(run[name] for run in bare):.2f}", f"{mean(run[name] for run in http):.2f}",
                     f"{middle:+.2f} ({middle - half:+.2f} … {middle + half:+.2f})", ratio(http, bare, name)])  # fmt: skip
    print(f"\n{args.model} through AsyncLLM and through a server's HTTP, {args.launches} pairs of launches, "
          f"{args.loads} loads each")  # fmt: skip
    print(tabulate(rows, headers=["metric", "AsyncLLM", "HTTP", "difference: the cost of HTTP", "HTTP ÷ AsyncLLM"],
                   disable_numparse=True))  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("truth", "agreement", "cost"))
    parser.add_argument("--model", default="opt-125m")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--input-len", type=int, default=32)
    parser.add_argument("--output-len", type=int, default=32)
    parser.add_argument("--turns", type=int, default=8, help="of truth and agreement (default 8)")
    parser.add_argument("--launches", type=int, default=4, help="pairs of launches of cost (default 4)")
    parser.add_argument("--loads", type=int, default=3, help="measured loads of each launch (default 3)")
    parser.add_argument("--ttft-ms", type=float, default=50.0, help="of the mock server")
    parser.add_argument("--itl-ms", type=float, default=10.0, help="of the mock server")
    parser.add_argument("--server-cpu", type=int, default=0, help="of the mock server")
    parser.add_argument(
        "--their-temperature", type=float, default=0.0, help="below 0: what vllm bench serve does unasked"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter that has vllm.benchmarks")
    parser.add_argument("--vllm-rs", metavar="PATH", help="vLLM's client in Rust")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        {"truth": truth, "agreement": agreement, "cost": cost}[args.part](args, Path(name))
    print(f"{args.requests} requests of {args.input_len}/{args.output_len} tokens, {args.concurrency} at a time; "
          f"load average {os.getloadavg()[0]:.1f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
