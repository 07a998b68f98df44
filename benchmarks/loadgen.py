"""The accuracy and speed of the load generator, and of others, against a server that records the truth.

    python benchmarks/loadgen.py                                  # ours alone
    python benchmarks/loadgen.py --vllm PYTHON --vllm-rs PATH --guidellm PATH --aiperf PATH   # beside what is installed

A mock server (TTFT 50 ms, ITL 10 ms, 64 tokens) has one core, the client another.  The truth is the server's own record:
the kernel's receive time of each request, and the time just before each event was handed to the kernel.  Three tables:

1. closed loop of 10, 100 and 1,000 streams: error of each tool's TTFT and ITL against the truth of *its own* run, requests
   per second, and requests per second of client processor time. A run of a few requests gives the start-up, which is
   subtracted; a rest of less than half a second or a tenth of the start-up would be noise, and the figure is a dash. This
   project's client reads answers after the load: "under load" is without that part and limits what a core can sustain,
   "in all" includes it;
2. short answers: requests per second that one client core sustains;
3. open loop at rising rates (this client): delay of the requests, and the highest rate at which its p99 stays below 1 ms.

Needs two free cores. The load average is printed too, since figures from a busy machine are not reliable.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from load_peers import Figures, Peer, Work, aiperf, as_hub, guidellm, tokenizer, vllm, vllm_command
from tabulate import tabulate

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.load.arrivals import poisson
from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.util.quantiles import percentile

NAMES = ("ttft_mean", "ttft_p99", "itl_mean", "itl_p50", "itl_p99")


def body(n_in: int, n_out: int) -> str:
    return json.dumps({"model": "mock", "prompt": list(range(n_in)), "max_tokens": n_out, "stream": True,
                       "stream_options": {"include_usage": True}})  # fmt: skip


def used_cpu() -> float:
    """CPU seconds of this process, which is part of this project's client, and of the tools that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def ours(work: Work, pin: list[str], folder: Path) -> Figures:
    requests = [
        PlannedRequest(k, body(work.n_in, work.n_out), n_in=work.n_in, n_out=work.n_out) for k in range(work.count)
    ]
    load = LoadPlan(requests, loop="closed", concurrency=work.streams, cpus=(int(pin[-1]),))
    outcome = drive(Target(work.url, key_env=None), load)
    result = measure(outcome)
    assert result.counts["failed"] == 0, result.failures
    return Figures(*(result.values[name] for name in NAMES), sum(client.cpu_s for client in outcome.clients))


def true_figures(truth: list[dict]) -> tuple[Figures, float]:
    """The truth of a run and its requests per second."""
    ttft = sorted((row["times_ns"][0] - row["received_ns"]) / 1e6 for row in truth)
    gaps = sorted((b - a) / 1e6 for row in truth for a, b in zip(row["times_ns"], row["times_ns"][1:], strict=False))
    seconds = (max(row["times_ns"][-1] for row in truth) - min(row["received_ns"] for row in truth)) / 1e9
    figures = Figures(sum(ttft) / len(ttft), percentile(ttft, 0.99), sum(gaps) / len(gaps), percentile(gaps, 0.5),
                      percentile(gaps, 0.99))  # fmt: skip
    return figures, len(truth) / seconds


def per_cpu_second(count: int, cpu: float, start_up: float) -> str:
    """Requests per second of processor time; a dash if the time after the start-up is too short to measure."""
    return f"{count / cpu:.0f}" if cpu >= max(0.5, 0.1 * start_up) else "–"


def failed(error: Exception) -> str:
    return f"did not run: {str(error).strip().splitlines()[-1][:90]}"


def against_truth(tools: dict[str, Peer], streams: list[int], per_stream: int, server_cpu: int, pin: list[str]) -> None:
    rows, n_in, n_out = [], 8, 64
    with tempfile.TemporaryDirectory() as name, MockServer(MockPlan(), cpus=[server_cpu]) as server:
        folder = Path(name)
        tokenizer(folder / "tok", 2003)
        as_hub(folder / "tok", folder)
        for tool, run in tools.items():
            try:
                before = used_cpu()
                run(Work(server.url, 2, 4, n_in, n_out), pin, folder)
                start_up = used_cpu() - before
            except Exception as error:
                rows.append([tool, "", "", failed(error)])
                continue
            for count in streams:
                server.truth(clear=True)
                before = used_cpu()
                try:
                    figures = run(Work(server.url, count, count * per_stream, n_in, n_out), pin, folder)
                except Exception as error:
                    rows.append([tool, count, "", failed(error)])
                    continue
                cpu = used_cpu() - before - start_up
                # A tool may first send one request of its own to check the server.
                true, rate = true_figures([row for row in server.truth(clear=True) if len(row["times_ns"]) == n_out])
                under_load = cpu if figures.window_cpu_s is None else figures.window_cpu_s
                cells = [tool, count, f"{rate:.0f}", per_cpu_second(count * per_stream, under_load, start_up),
                         per_cpu_second(count * per_stream, cpu, start_up)]  # fmt: skip
                for key in NAMES:
                    measured, real = getattr(figures, key), getattr(true, key)
                    cells.append("–" if measured is None else f"{measured:.2f} ({measured - real:+.2f})")
                rows.append([*cells, f"{os.getloadavg()[0]:.1f}"])
                print("  ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    print(
        f"\nClosed loop, {per_stream} requests a stream, {n_out} tokens each. "
        "In brackets: error against the server's record, ms."
    )
    print(tabulate(rows, headers=["tool", "streams", "req/s", "req per CPU s under load", "in all", "TTFT mean",
                                  "TTFT p99", "ITL mean", "ITL p50", "ITL p99", "load avg"],
                   disable_numparse=True))  # fmt: skip


def fastest(tools: dict[str, Peer], streams: int, count: int, server_cpu: int, pin: list[str]) -> None:
    """Requests per second that one client core sustains, with short answers, so that the server is not the limit."""
    rows, n_in, n_out = [], 8, 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer(folder / "tok", 2003)
        as_hub(folder / "tok", folder)
        with MockServer(MockPlan(ttft_s=0.01, itl_s=0.002), cpus=[server_cpu]) as server:
            for tool, run in tools.items():
                server.truth(clear=True)
                try:
                    run(Work(server.url, streams, count, n_in, n_out), pin, folder)
                except Exception as error:
                    rows.append([tool, failed(error)])
                    continue
                truth = [row for row in server.truth(clear=True) if len(row["times_ns"]) == n_out]
                rows.append([tool, f"{true_figures(truth)[1]:.0f}", f"{os.getloadavg()[0]:.1f}"])
                print("  ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    print(
        f"\nClosed loop, {streams} streams, {count} requests of {n_out} tokens: requests per second of one client core."
    )
    print(tabulate(rows, headers=["tool", "req/s", "load avg"], disable_numparse=True))


def rising_rates(rates: list[float], seconds: float, server_cpu: int, client_cpu: int) -> None:
    rows, held = [], 0.0
    with MockServer(MockPlan(ttft_s=0.02, itl_s=0.005), cpus=[server_cpu]) as server:
        for rate in rates:
            due = poisson(rate).times(seconds, seed=1)
            requests = [PlannedRequest(k, body(8, 8), due=at, n_in=8, n_out=8) for k, at in enumerate(due)]
            load = LoadPlan(requests, cpus=(client_cpu,), preconnect=min(len(due), int(rate * 0.2) + 16))
            result = measure(drive(Target(server.url, key_env=None), load))
            server.truth(clear=True)
            late = result.sender.lateness_ms
            if late["p99"] < 1.0 and result.counts["failed"] == 0:
                held = max(held, rate)
            rows.append([f"{rate:.0f}", f"{len(due) / seconds:.0f}", f"{late['p50']:.3f}", f"{late['p99']:.3f}",
                         f"{late['max']:.2f}", f"{result.sender.cpu_share:.0%}", result.counts["failed"],
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
    parser.add_argument("--vllm-rs", metavar="PATH", help="vLLM's Rust program, which the vllm wheel for CUDA holds")
    parser.add_argument("--guidellm", metavar="PATH", help="the guidellm command")
    parser.add_argument("--aiperf", metavar="PATH", help="the aiperf command")
    args = parser.parse_args()
    tools: dict[str, Peer] = {"slmperf": ours}
    if args.vllm:
        tools["vllm bench serve"] = vllm(vllm_command(args.vllm))
    if args.guidellm:
        tools["guidellm"] = guidellm(args.guidellm)
    if args.aiperf:
        tools["aiperf"] = aiperf(args.aiperf)
    if args.vllm_rs:
        tools["vllm-rs bench serve"] = vllm([args.vllm_rs, "bench", "serve"])
    pin = ["taskset", "-c", str(args.client_cpu)]
    streams = [int(part) for part in args.streams.split(",") if part]
    if streams:
        against_truth(tools, streams, args.per_stream, args.server_cpu, pin)
    if args.short:
        fastest(tools, 200, args.short, args.server_cpu, pin)
    rates = [float(part) for part in args.rates.split(",") if part]
    if rates:
        rising_rates(rates, args.seconds, args.server_cpu, args.client_cpu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
