"""Joules against the truth: this meter, Zeus and CodeCarbon over the same fake GPU (table of docs/explanation/energy.md).

    python benchmarks/energy_peers.py --peers PYTHON     PYTHON: an interpreter with zeus and codecarbon installed
    python benchmarks/energy_peers.py                    this meter alone

The GPU draws a steady 100 W and its counter ticks every 100 ms: the truth of a window is 100 W × its length, and every error
is the meter's.  Windows are not multiples of the tick, over which every meter's error would vanish.  Each tool runs in a
process of its own, in real time (about three minutes); windows begin at random phases.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WATTS = 100.0
WINDOWS = {0.13: 40, 0.37: 30, 1.07: 16, 3.33: 8, 9.97: 3, 29.9: 1}  # seconds: number of windows
TOOLS = ("slmperf", "matched", "zeus", "codecarbon")  # matched: this meter from tick to tick, as for rounds
OURS = ("slmperf", "matched")

Rows = list[tuple[float, float, float, float | None]]  # asked, true joules, joules, bound


def pauses() -> Callable[[], None]:
    draw = random.Random(20)
    return lambda: time.sleep(0.05 + 0.2 * draw.random())


def slmperf() -> Rows:
    from pytest_slmperf.energy.meters.nvml import NvmlMeter

    rows, pause = [], pauses()
    with NvmlMeter().watch() as watch:
        for seconds, times in WINDOWS.items():
            for _ in range(times):
                pause()
                begun = time.monotonic()
                time.sleep(seconds)
                ended = time.monotonic()
                reading = watch.reading(begun, ended)
                rows.append((seconds, WATTS * (ended - begun), reading.joules, reading.bound_j))
    return rows


def matched() -> Rows:
    """Windows that shrink to the counter's ticks by at most a fifth; the truth is that of the shrunk window."""
    from pytest_slmperf.energy.meters.nvml import NvmlMeter

    rows, pause = [], pauses()
    with NvmlMeter().watch() as watch:
        for seconds, times in WINDOWS.items():
            for _ in range(times):
                pause()
                begun = time.monotonic()
                time.sleep(seconds)
                reading = watch.matched([(begun, time.monotonic())])
                if reading is not None:
                    rows.append((seconds, WATTS * reading.window_s, reading.joules, reading.bound_j))
    return rows


def zeus() -> Rows:
    from zeus.monitor import ZeusMonitor

    rows, pause = [], pauses()
    monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])
    for seconds, times in WINDOWS.items():
        for _ in range(times):
            pause()
            monitor.begin_window("w", sync_execution=False)
            time.sleep(seconds)
            found = monitor.end_window("w", sync_execution=False)
            rows.append((seconds, WATTS * found.time, found.gpu_energy[0], None))
    return rows


def codecarbon() -> Rows:
    from codecarbon import OfflineEmissionsTracker

    rows, pause = [], pauses()
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="error", allow_multiple_runs=True
    )
    for seconds, times in WINDOWS.items():
        for number in range(times):
            pause()
            tracker.start_task(f"{seconds}-{number}")
            begun = time.monotonic()
            time.sleep(seconds)
            ended = time.monotonic()
            found = tracker.stop_task(f"{seconds}-{number}")
            rows.append((seconds, WATTS * (ended - begun), found.gpu_energy * 3.6e6, None))
    return rows


def launch(tool: str, python: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, __file__, "--tool", tool], env=os.environ | env, text=True, stdout=subprocess.PIPE, cwd="/"
    )


def version(tool: str, python: str) -> str | None:
    code = f"from importlib.metadata import version; print(version({'pytest-slmperf' if tool in OURS else tool!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def table(rows: dict[str, Rows]) -> str:
    from tabulate import tabulate

    lines = []
    for seconds in WINDOWS:
        for tool, found in rows.items():
            here = [row for row in found if row[0] == seconds]
            if not here:
                continue
            errors = [100 * (joules / true - 1) for _, true, joules, _ in here]
            rms = (sum(error * error for error in errors) / len(errors)) ** 0.5
            held = [abs(joules - true) <= bound for _, true, joules, bound in here if bound is not None]
            bounds = sorted(100 * bound / true for _, true, _, bound in here if bound is not None)
            lines.append(
                [
                    f"{seconds} s",
                    tool,
                    f"{min(errors):+.2f} … {max(errors):+.2f} %",
                    f"{rms:.2f} %",
                    f"±{bounds[len(bounds) // 2]:.1f} %" if bounds else "none stated",
                    f"{sum(held)} of {len(held)}" if held else "–",
                ]
            )
    heads = ["window", "meter", "error, worst both ways", "rms", "stated bound (median)", "inside it"]
    return tabulate(lines, heads, tablefmt="github")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter in which zeus and codecarbon are installed")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tool:
        with suppress(KeyboardInterrupt):
            rows = {"slmperf": slmperf, "matched": matched, "zeus": zeus, "codecarbon": codecarbon}[args.tool]()
            print(json.dumps(rows))
        return 0
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root), str(root / "tests")]
    from support.fake_nvml import FakeGpu, FakeNvml

    with tempfile.TemporaryDirectory() as folder:
        fake = FakeNvml(Path(folder), [FakeGpu([(0.0, WATTS)], tick=0.1, phase=0.033)])
        # CodeCarbon looks for GPUs only where a command nvidia-smi exists; it reads them through NVML.
        command = Path(folder, "nvidia-smi")
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        env = fake.env | {"PATH": f"{folder}:{os.environ['PATH']}"}
        running = {}
        for tool in TOOLS:
            python = sys.executable if tool in OURS else args.peers
            found = version(tool, python) if python else None
            if found is None:
                print(f"{tool}: not installed in {python}" if python else f"{tool}: needs --peers PYTHON")
                continue
            name = f"slmperf {found}, tick to tick" if tool == "matched" else f"{tool} {found}"
            running[name] = launch(tool, python, env | ({"PYTHONPATH": str(root)} if tool in OURS else {}))
        rows = {}
        for name, process in running.items():
            out, _ = process.communicate()
            if process.returncode == 0 and out.strip():
                rows[name] = [tuple(row) for row in json.loads(out.strip().splitlines()[-1])]
            else:
                print(f"{name}: failed with exit code {process.returncode}")
    print(table(rows))
    ours = [row for name, found in rows.items() if name.startswith("slmperf") for row in found]
    outside = [row for row in ours if row[3] is None or abs(row[2] - row[1]) > row[3]]
    print(f"\nslmperf: {len(ours) - len(outside)} of {len(ours)} readings inside their bound")
    return 1 if outside or not ours else 0


if __name__ == "__main__":
    sys.exit(main())
