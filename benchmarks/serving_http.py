"""What HTTP costs, and whether we agree with ``vllm bench serve``: one model, one load, three ways.

    python benchmarks/serving_http.py --model opt-125m --concurrency 4 --requests 64

1. vLLM's ``AsyncLLM`` in the worker, no HTTP; 2. a server of ours over HTTP, measured by our clients; 3. the same server,
measured by ``vllm bench serve``.  2 and 3 take turns, ``--turns`` times, so that a machine that slows down hits both.
Difference of 1 and 2: the HTTP cost.  Ratio of 2 and 3: should be within 2 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from load_peers import Work, tokenizer, vllm_command, vllm_says
from tabulate import tabulate

from pytest_slmperf.engines.presets import resolve_model
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.spec import EngineSpec
from pytest_slmperf.loadgen.measure import measure
from pytest_slmperf.scenarios.serving_options import scenario
from pytest_slmperf.scenarios.transport import send

NAMES = ("ttft_mean", "ttft_p99", "tpot_mean", "itl_mean", "e2el_mean", "output_throughput", "request_throughput")
THEIRS = (
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "mean_itl_ms",
    "mean_e2el_ms",
    "output_throughput",
    "request_throughput",
)


def launch(name: str, spec: EngineSpec, log: Path):
    adapter = Registry(builtin_adapters()).get(name)
    print(f"starting {name}", file=sys.stderr, flush=True)
    return adapter.launch(adapter.resolve(spec), log_path=log, progress=lambda text: None)


def by_vllm(engine, args, words: Path, folder: Path) -> dict[str, float]:
    work = Work(engine.http.target.url, args.concurrency, args.requests, args.input_len, args.output_len, args.model)
    said = vllm_says(vllm_command(args.python), work, words, folder)
    return dict(zip(NAMES, (said[name] for name in THEIRS), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="opt-125m")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--input-len", type=int, default=32)
    parser.add_argument("--output-len", type=int, default=32)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has vllm.benchmarks")
    args = parser.parse_args()
    load = scenario(concurrency=args.concurrency, input_len=args.input_len, output_len=args.output_len,
                    num_requests=args.requests)  # fmt: skip
    base = load.spec(EngineSpec("vllm", args.model, max_model_len=512, max_num_seqs=max(16, args.concurrency)))
    found: dict[str, list[dict[str, float]]] = {"AsyncLLM": [], "HTTP, slmperf": [], "HTTP, vllm bench serve": []}

    def ours(engine) -> dict[str, float]:
        result = measure(send(load, engine, 600)[0])
        assert result.counts["failed"] == 0, result.failures
        return {name: result.values[name] for name in NAMES}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer(folder, int(resolve_model(args.model, None).config["vocab_size"]))
        engine = launch("vllm-async", base, folder / "async.log")
        try:
            ours(engine)  # warm-up
            found["AsyncLLM"] += [ours(engine) for _ in range(args.turns)]
        finally:
            engine.stop()
        engine = launch("vllm-server", base.with_settings(tokenizer=str(folder)), folder / "server.log")
        try:
            ours(engine)
            for turn in range(args.turns):
                print(f"turn {turn + 1}", file=sys.stderr, flush=True)
                found["HTTP, slmperf"].append(ours(engine))
                found["HTTP, vllm bench serve"].append(by_vllm(engine, args, folder, folder))
        finally:
            engine.stop()
    medians = {way: {n: statistics.median(run[n] for run in runs) for n in NAMES} for way, runs in found.items()}
    bare, http, peer = medians.values()
    rows = [
        [
            n,
            *(f"{values[n]:.2f}" for values in medians.values()),
            f"{http[n] - bare[n]:+.2f}",
            f"{http[n] / peer[n]:.3f}",
        ]
        for n in NAMES
    ]
    print(
        tabulate(rows, headers=["metric", *medians, "HTTP − AsyncLLM", "slmperf ÷ vllm bench"], disable_numparse=True)
    )
    print(f"{args.model}, {args.requests} requests {args.input_len}/{args.output_len}, {args.concurrency} at a time, "
          f"median of {args.turns} turns; load average {os.getloadavg()[0]:.1f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
