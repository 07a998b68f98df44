"""The cost of a launch by phase: fresh and forked processes in turns, in one run.

    python benchmarks/launch_cost.py                      OPT-125M on vLLM, 5 launches of each kind (about 6 minutes)
    python benchmarks/launch_cost.py --launches 10 --model smollm2-135m
    python benchmarks/launch_cost.py --device cuda:0      the same on a GPU

Wall seconds are upper bounds on a busy machine; processor seconds hardly depend on other processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from pytest_slmperf.engines.base import Batch, Engine
from pytest_slmperf.engines.launch_host import LaunchHosts
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.model.engine_spec import EngineSpec

TICKS = os.sysconf("SC_CLK_TCK")
WORK = Batch(batch=16, input_len=32, output_len=16)


class Cost(NamedTuple):
    """Seconds of one launch: wall clock by phase, and the processor's."""

    import_s: float
    load_s: float
    first_request_s: float
    ready_s: float
    ready_cpu_s: float
    stop_s: float
    round_s: float
    round_cpu_s: float


def cpu_s(pid: int) -> float:
    """Processor seconds of a process since its start (a fork begins at 0)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(opened: AbstractContextManager[Engine], rounds: int) -> Cost:
    """Start one engine, run some rounds on it, stop it."""
    with opened as engine:
        assert engine.start_time_s is not None
        pid = engine.facts.pids[0]
        ready = cpu_s(pid)
        walls, cpus = [], []
        for _ in range(rounds):
            reading = engine.generate(WORK)
            walls.append(reading.t_end - reading.t_start)
            cpus.append(float(reading.evidence["cpu_s"]))
        began = time.monotonic()
        engine.stop()
        phases = [float(engine.facts.get(name, float("nan"))) for name in ("import_s", "load_s", "first_request_s")]
        return Cost(
            *phases,
            engine.start_time_s,
            ready,
            time.monotonic() - began,
            statistics.median(walls),
            statistics.median(cpus),
        )


@contextmanager
def forked(pool: EnginePool, spec: EngineSpec, launch: int):  # type: ignore[no-untyped-def]
    engine = pool.acquire(spec, launch)
    if engine.host is None:
        raise SystemExit("launch_cost: this engine's launches cannot be forked; see the lines above")
    yield engine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="opt-125m")
    parser.add_argument("--device")
    parser.add_argument("--launches", type=int, default=5, help="of each kind (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in each launch (default 5)")
    options = parser.parse_args()
    spec = EngineSpec("vllm", options.model, device=options.device, max_num_seqs=64, max_model_len=512)
    filled = spec.with_settings(load_format="dummy")
    smaller = spec.with_settings(max_num_batched_tokens=512)
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, closing(_pool(Path(folder))) as pool:
        kinds: dict[str, Callable[[int], AbstractContextManager[Engine]]] = {
            "fresh": lambda _: pool.fresh(spec),
            "forked, weights filled": lambda launch: forked(pool, filled, launch),
            "forked, weights mapped": lambda launch: forked(pool, spec, launch),
            "forked, mapped, 512 tokens profiled": lambda launch: forked(pool, smaller, launch),
        }
        for kind in kinds:
            measure(kinds[kind](0), 1)  # files come into the page cache, hosts are started, weights are written
        for number in range(options.launches):
            for kind in list(kinds) if number % 2 == 0 else list(reversed(kinds)):
                costs.setdefault(kind, []).append(measure(kinds[kind](number % 2), options.rounds))
        hosts = pool.hosts.spent() if pool.hosts is not None else []
    for kind, least in (("median", statistics.median), ("lowest", min)):
        rows = [[name, *(f"{least(column):.2f}" for column in zip(*each, strict=True))] for name, each in costs.items()]
        print(f"\nSeconds of a launch, {kind} of {options.launches}: {options.model}\n")
        print(tabulate(rows, headers=["kind", *HEAD], tablefmt="github", disable_numparse=True))
    for seconds in hosts:
        print(f"\na host's import: {seconds['import_s']:.1f} s, {seconds['import_cpu_s']:.1f} s of processor time")
    return 0


HEAD = ["import", "load", "first request", "ready", "ready, processor", "stop", "round", "round, processor"]


def _pool(folder: Path) -> EnginePool:
    pool = EnginePool(Registry(builtin_adapters()), folder)
    pool.hosts = LaunchHosts(folder, tell=lambda text: print(text, file=sys.stderr))
    return pool


if __name__ == "__main__":
    sys.exit(main())
