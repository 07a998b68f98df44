"""How good is the load generator? Measured against a server that knows the truth, beside other load generators.

    python benchmarks/loadgen.py                                  # ours alone
    python benchmarks/loadgen.py --vllm PYTHON --guidellm PATH --aiperf PATH   # beside those that are installed

A mock server (TTFT 50 ms, ITL 10 ms, 64 tokens) has one core, the client another.  The truth is the server's own record:
the kernel's receive time of each request, and the time just before each event was handed to the kernel.  Three tables:

1. closed loop of 10, 100 and 1,000 streams: error of each tool's TTFT and ITL against the truth of *its own* run, requests
   per second, and requests per second of client processor time (start-up taken off by a run of a few requests);
2. short answers: requests per second that one client core keeps up;
3. open loop at rising rates (ours): how late requests were sent, and the highest rate at which p99 stays below 1 ms.

Needs two free cores. Figures from a busy machine say little; the load average is printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from pytest_slmperf.loadgen.drive import drive
from pytest_slmperf.loadgen.load import Load, Planned, Target
from pytest_slmperf.loadgen.measure import measure
from pytest_slmperf.loadgen.sketch import percentile
from pytest_slmperf.mockserver.plan import MockPlan
from pytest_slmperf.mockserver.process import MockServer
from pytest_slmperf.workloads.arrivals import poisson

TOKENS, INPUT = 64, 8
VLLM = (
    "import argparse, sys; from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


@dataclass
class Figures:
    """What a tool says (ms), None where it does not tell."""

    ttft_mean: float | None = None
    ttft_p99: float | None = None
    itl_mean: float | None = None
    itl_p50: float | None = None
    itl_p99: float | None = None
    cpu_s: float = 0.0
    truth: list[dict] = field(default_factory=list)


def body(n_out: int) -> str:
    return json.dumps({"model": "mock", "prompt": list(range(INPUT)), "max_tokens": n_out, "stream": True,
                       "stream_options": {"include_usage": True}})  # fmt: skip


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(url: str, streams: int, count: int, cpu: int, folder: Path) -> Figures:
    load = Load([Planned(k, body(TOKENS), n_in=INPUT, n_out=TOKENS) for k in range(count)],
                loop="closed", concurrency=streams, cpus=(cpu,))  # fmt: skip
    result = measure(drive(Target(url, key_env=None), load))
    assert result.counts["failed"] == 0, result.failures
    return Figures(*(result.values[f"{name}"] for name in ("ttft_mean", "ttft_p99", "itl_mean", "itl_p50", "itl_p99")))


def shell(command: list[str], cpu: int, folder: Path, timeout: float = 400) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "PYTHONWARNINGS": "ignore"}
    with (folder / "tool.log").open("w") as log:
        done = subprocess.run(
            ["taskset", "-c", str(cpu), *command], cwd=folder, env=env, stdout=log, stderr=log, timeout=timeout
        )
    if done.returncode:
        lines = [line for line in (folder / "tool.log").read_text().splitlines() if "rror" in line]
        raise RuntimeError(f"exit status {done.returncode}; {lines[-1] if lines else 'no error was printed'}")


def vllm(python: str):
    def run(url: str, streams: int, count: int, cpu: int, folder: Path) -> Figures:
        shell([python, "-c", VLLM, "--backend", "openai", "--base-url", url.removesuffix("/v1"), "--endpoint",
               "/v1/completions", "--model", "mock", "--tokenizer", str(folder / "tok"), "--dataset-name", "random",
               "--random-input-len", str(INPUT), "--random-output-len", str(TOKENS), "--num-prompts", str(count),
               "--max-concurrency", str(streams), "--ignore-eos", "--save-result", "--result-filename", "vllm.json",
               "--disable-tqdm"], cpu, folder)  # fmt: skip
        data = json.loads((folder / "vllm.json").read_text())
        return Figures(
            data["mean_ttft_ms"], data["p99_ttft_ms"], data["mean_itl_ms"], data["median_itl_ms"], data["p99_itl_ms"]
        )

    return run


def guidellm(path: str):
    def run(url: str, streams: int, count: int, cpu: int, folder: Path) -> Figures:
        shell([path, "run", "--backend", f"kind=openai_http,target={url.removesuffix('/v1')},model=mock", "--profile",
               f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={count}", "--tokenizer",
               f"kind=hf_auto,model={folder / 'tok'}", "--data",
               f"kind=synthetic_text,prompt_tokens={INPUT},output_tokens={TOKENS}", "--output",
               f"kind=json,path={folder / 'guide.json'}", "--disable-console"], cpu, folder)  # fmt: skip
        metrics = json.loads((folder / "guide.json").read_text())["benchmarks"][0]["metrics"]
        ttft = metrics["time_to_first_token_ms"]["successful"]
        itl = metrics["inter_token_latency_ms"]["successful"]
        p = "percentiles"
        return Figures(ttft["mean"], ttft[p]["p99"], itl["mean"], itl[p]["p50"], itl[p]["p99"])

    return run


def aiperf(path: str):
    def run(url: str, streams: int, count: int, cpu: int, folder: Path) -> Figures:
        shell([path, "profile", "--model", "mock", "--url", url.removesuffix("/v1"), "--endpoint-type", "completions",
               "--streaming", "--tokenizer", "slmperf/words", "--concurrency", str(streams), "--request-count", str(count),
               "--use-server-token-count", "--use-legacy-max-tokens", "--prompt-input-tokens-mean", str(INPUT),
               "--prompt-output-tokens-mean", str(TOKENS), "--output-artifact-dir", str(folder / "aiperf"), "--ui",
               "none"], cpu, folder)  # fmt: skip
        found = next((folder / "aiperf").rglob("profile_export_aiperf.json"))
        data = json.loads(found.read_text())
        ttft, itl = data["time_to_first_token"], data["inter_token_latency"]
        return Figures(ttft["avg"], ttft["p99"], itl["avg"], itl["p50"], itl["p99"])

    return run


def tokenizer(folder: Path) -> None:
    """A toy tokenizer for the tools that want one: a word is a token."""
    vocabulary = {"<unk>": 0, "</s>": 1, "a": 2} | {f"w{k}": k + 3 for k in range(2000)}
    tok = folder / "tok"
    tok.mkdir()
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    (tok / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model}))  # fmt: skip
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "eos_token": "</s>",
        "pad_token": "</s>",
    }
    (tok / "tokenizer_config.json").write_text(json.dumps(config))
    (tok / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(vocabulary)}))
    # the same as a hub's cache, for a tool that takes no folder when it is offline
    cached = folder / "hub" / "models--slmperf--words"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tok, cached / "snapshots" / ("0" * 40))


def true_figures(truth: list[dict]) -> tuple[Figures, float]:
    """The truth of a run and its requests per second."""
    ttft = sorted((row["times_ns"][0] - row["received_ns"]) / 1e6 for row in truth)
    gaps = sorted((b - a) / 1e6 for row in truth for a, b in zip(row["times_ns"], row["times_ns"][1:], strict=False))
    seconds = (max(row["times_ns"][-1] for row in truth) - min(row["received_ns"] for row in truth)) / 1e9
    figures = Figures(sum(ttft) / len(ttft), percentile(ttft, 0.99), sum(gaps) / len(gaps), percentile(gaps, 0.5),
                      percentile(gaps, 0.99))  # fmt: skip
    return figures, len(truth) / seconds


def against_truth(tools: dict, streams: list[int], per_stream: int, server_cpu: int, client_cpu: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name, MockServer(MockPlan(), cpus=[server_cpu]) as server:
        folder = Path(name)
        tokenizer(folder)
        for tool, run in tools.items():
            try:
                before = children_cpu()
                run(server.url, 2, 4, client_cpu, folder)
                idle_cpu = children_cpu() - before
            except Exception as error:
                rows.append([tool, "", "", f"did not run: {str(error).strip().splitlines()[-1][:90]}"])
                continue
            for count in streams:
                server.truth(clear=True)
                before = children_cpu()
                try:
                    said = run(server.url, count, count * per_stream, client_cpu, folder)
                except Exception as error:
                    rows.append([tool, count, "", f"did not run: {str(error).strip().splitlines()[-1][:90]}"])
                    continue
                cpu = children_cpu() - before - idle_cpu
                # a tool may send one request of its own first, to see that the server is there
                true, rate = true_figures([row for row in server.truth(clear=True) if len(row["times_ns"]) == TOKENS])
                cells = [tool, count, f"{rate:.0f}", f"{count * per_stream / max(cpu, 1e-9):.0f}"]
                for key in ("ttft_mean", "ttft_p99", "itl_mean", "itl_p50", "itl_p99"):
                    told, real = getattr(said, key), getattr(true, key)
                    cells.append("–" if told is None else f"{told:.2f} ({told - real:+.2f})")
                rows.append([*cells, f"{os.getloadavg()[0]:.1f}"])
                print("  ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    print(
        f"\nClosed loop, {per_stream} requests a stream, {TOKENS} tokens each. "
        "In brackets: error against the server's record, ms."
    )
    print(tabulate(rows, headers=["tool", "streams", "req/s", "req per client CPU s", "TTFT mean", "TTFT p99",
                                  "ITL mean", "ITL p50", "ITL p99", "load avg"], disable_numparse=True))  # fmt: skip


def fastest(tools: dict, streams: int, count: int, server_cpu: int, client_cpu: int) -> None:
    """Requests per second that one client core keeps up, with answers so short that the server is not the bound."""
    global TOKENS
    rows, before = [], TOKENS
    TOKENS = 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer(folder)
        with MockServer(MockPlan(ttft_s=0.01, itl_s=0.002), cpus=[server_cpu]) as server:
            for tool, run in tools.items():
                server.truth(clear=True)
                try:
                    run(server.url, streams, count, client_cpu, folder)
                except Exception as error:
                    rows.append([tool, f"did not run: {str(error).strip().splitlines()[-1][:90]}"])
                    continue
                truth = [row for row in server.truth(clear=True) if len(row["times_ns"]) == TOKENS]
                rows.append([tool, f"{true_figures(truth)[1]:.0f}", f"{os.getloadavg()[0]:.1f}"])
                print("  ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    print(
        f"\nClosed loop, {streams} streams, {count} requests of {TOKENS} tokens: requests per second of one client core."
    )
    print(tabulate(rows, headers=["tool", "req/s", "load avg"], disable_numparse=True))
    TOKENS = before


def rising_rates(rates: list[float], seconds: float, server_cpu: int, client_cpu: int) -> None:
    rows, held = [], 0.0
    with MockServer(MockPlan(ttft_s=0.02, itl_s=0.005), cpus=[server_cpu]) as server:
        for rate in rates:
            due = poisson(rate).times(seconds, seed=1)
            requests = [Planned(k, body(8), due=at, n_in=INPUT, n_out=8) for k, at in enumerate(due)]
            load = Load(requests, cpus=(client_cpu,), preconnect=min(len(due), int(rate * 0.2) + 16))
            result = measure(drive(Target(server.url, key_env=None), load))
            server.truth(clear=True)
            late = result.sender["lateness_ms"]
            if late["p99"] < 1.0 and result.counts["failed"] == 0:
                held = max(held, rate)
            rows.append([f"{rate:.0f}", f"{len(due) / seconds:.0f}", f"{late['p50']:.3f}", f"{late['p99']:.3f}",
                         f"{late['max']:.2f}", f"{result.sender['cpu_share']:.0%}", result.counts["failed"],
                         (result.contaminated or "").partition(":")[0], f"{os.getloadavg()[0]:.1f}"])  # fmt: skip
            time.sleep(0.5)
    print(f"\nOpen loop, Poisson, {seconds:.0f} s a rate, 8 tokens a request, one client process.")
    print(tabulate(rows, headers=["asked req/s", "drawn req/s", "late p50 ms", "late p99 ms", "late max ms", "client CPU",
                                  "failed", "says", "load avg"], disable_numparse=True))  # fmt: skip
    print(f"Highest rate held with p99 lateness below 1 ms: {held:.0f} req/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="10,100,1000", help="numbers of streams, comma separated")
    parser.add_argument("--per-stream", type=int, default=10, help="requests of each stream (default 10)")
    parser.add_argument("--short", type=int, default=8000, help="requests of the fastest-rate table; 0: none")
    parser.add_argument("--rates", default="100,250,500,1000,1500,2000,3000,4000", help="open-loop rates; empty: none")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate (default 5)")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter that has vllm.benchmarks")
    parser.add_argument("--guidellm", metavar="PATH", help="the guidellm command")
    parser.add_argument("--aiperf", metavar="PATH", help="the aiperf command")
    args = parser.parse_args()
    tools = {"slmperf": ours}
    for name, make in (("vllm", vllm), ("guidellm", guidellm), ("aiperf", aiperf)):
        if getattr(args, name):
            tools[{"vllm": "vllm bench serve"}.get(name, name)] = make(getattr(args, name))
    streams = [int(part) for part in args.streams.split(",") if part]
    if streams:
        against_truth(tools, streams, args.per_stream, args.server_cpu, args.client_cpu)
    if args.short:
        fastest(tools, 200, args.short, args.server_cpu, args.client_cpu)
    rates = [float(part) for part in args.rates.split(",") if part]
    if rates:
        rising_rates(rates, args.seconds, args.server_cpu, args.client_cpu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
