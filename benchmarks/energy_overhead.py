"""The cost of watching the energy for the run that is watched.

    python benchmarks/energy_overhead.py [--turns 6] [--call-us 40] [--limit 0.01]
    python benchmarks/energy_overhead.py --turns 0        CPU time only, which is valid on a busy machine too

Two figures: the CPU time of the watching thread as a share of one core, and the work of busy processes on every core with
a watch ÷ without (turns in ABBA order; the median ratio).  Calls of the fake NVML are cheaper than a real driver's:
--call-us is added to every poll.  Exit code 1 if the watching thread takes more than --limit of a core at 1 GPU; the ratio,
which includes the machine's own noise, has no limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

WORK = """
import sys, time
end, done = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    for _ in range(1000):
        pass
    done += 1
print(done)
"""


def work(seconds: float) -> int:
    """Rounds of work done by one busy process per core."""
    cores = len(os.sched_getaffinity(0))
    running = [
        subprocess.Popen([sys.executable, "-c", WORK, str(seconds)], stdout=subprocess.PIPE, text=True)
        for _ in range(cores)
    ]
    return sum(int(process.communicate()[0]) for process in running)


def cpu_share(seconds: float, call_s: float) -> float:
    """CPU seconds per second of a watch over every GPU, as a share of one core."""
    with open_watch(call_s):
        time.sleep(0.5)
        cpu, begun = time.process_time(), time.monotonic()
        time.sleep(seconds)
        return (time.process_time() - cpu) / (time.monotonic() - begun)


def open_watch(call_s: float):
    from pytest_slmperf.energy.meters.nvml import NvmlMeter

    meter = NvmlMeter()
    meter.calibrate()
    watch = meter.watch()
    if call_s:
        for probe in watch.probes:
            probe.poll = slowed(probe.poll, call_s)
    return watch


def slowed(poll, call_s: float):
    """A poll that also spends the time of a real driver."""

    def both() -> None:
        poll()
        end = time.thread_time() + call_s
        while time.thread_time() < end:
            pass

    return both


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--limit", type=float, default=0.01)
    parser.add_argument("--call-us", type=float, default=0.0)
    args = parser.parse_args()
    from support.fake_nvml import FakeGpu, FakeNvml, library
    from tabulate import tabulate

    if os.environ.get("LD_LIBRARY_PATH", "").split(":")[0] != str(library().parent):
        path = f"{library().parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_LIBRARY_PATH": path})
    lines, shares = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for cards, tick in ((1, 0.1), (1, 0.02), (8, 0.1), (8, 0.02)):
            fake = FakeNvml(Path(folder), [FakeGpu(tick=tick, phase=0.007 * k) for k in range(cards)])
            os.environ["SLMPERF_FAKE_NVML"] = str(fake.path)
            shares[cards, tick] = cpu_share(args.seconds * 2, args.call_us / 1e6)
            ratios = []
            for turn in range(args.turns):
                counts = {}
                for watched in (True, False) if turn % 2 else (False, True):
                    if watched:
                        with open_watch(args.call_us / 1e6):
                            counts[True] = work(args.seconds)
                    else:
                        counts[False] = work(args.seconds)
                ratios.append(counts[True] / counts[False])
            spread = f"{min(ratios):.3f} … {max(ratios):.3f}" if ratios else "–"
            lines.append(
                [
                    cards,
                    f"{tick * 1e3:.0f} ms",
                    f"{shares[cards, tick]:.2%}",
                    f"{statistics.median(ratios):.4f}" if ratios else "–",
                    spread,
                ]
            )
    heads = ["GPUs", "tick", "CPU of the watch, share of one core", "work with ÷ without, median", "least … most"]
    print(tabulate(lines, heads, tablefmt="github"))
    return 1 if shares[1, 0.1] > args.limit else 0


if __name__ == "__main__":
    sys.exit(main())
