"""The cost of loading the plugin: ``pytest --collect-only`` on an empty folder, with and without it, and pytest-benchmark.

The three variants run in turn, so that other load on the machine affects all of them; differences are within a turn.
Prints a table; exit code 1 if the plugin costs more than the limit.

    python benchmarks/load.py [--turns 30] [--limit-ms 20]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = {
    "pytest alone": [],
    "pytest-slmperf": ["-p", "pytest_slmperf.pytest_plugin.plugin"],
    "pytest-benchmark": ["-p", "pytest_benchmark.plugin"],
}


def once(folder: Path, arguments: list[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one collection of an empty folder."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 5:  # pytest's code for "no tests collected"
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median, from order statistics (binomial, normal approximation): no distribution assumed."""
    ordered = sorted(values)
    n = len(ordered)
    half = 1.96 * n**0.5 / 2
    return ordered[max(0, int(n / 2 - half))], ordered[min(n - 1, int(n / 2 + half))]


def quick(values: list[float]) -> float:
    """Lower quartile."""
    return statistics.quantiles(values, n=4)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--limit-ms", type=float, default=20.0)
    arguments = parser.parse_args()
    wall: dict[str, list[float]] = {name: [] for name in VARIANTS}
    cpu: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        for turn in range(arguments.turns + 2):
            for variant, extra in VARIANTS.items():
                seconds = once(folder, extra)
                if turn >= 2:  # the first turns fill the caches of bytecode and disk
                    wall[variant].append(seconds[0] * 1e3)
                    cpu[variant].append(seconds[1] * 1e3)
    from tabulate import tabulate

    base = "pytest alone"
    rows = []
    for variant in VARIANTS:
        more = [a - b for a, b in zip(wall[variant], wall[base], strict=True)]
        more_cpu = [a - b for a, b in zip(cpu[variant], cpu[base], strict=True)]
        ratio = statistics.median(a / b for a, b in zip(wall[variant], wall[base], strict=True))
        low, high = interval(more)
        rows.append(
            [
                variant,
                f"{statistics.median(wall[variant]):.1f}",
                "" if variant == base else f"{statistics.median(more):+.1f}",
                "" if variant == base else f"{low:+.1f} … {high:+.1f}",
                "" if variant == base else f"{statistics.median(more_cpu):+.1f}",
                f"{ratio:.3f}",
            ]
        )
    print(f"pytest --collect-only on an empty folder, {arguments.turns} turns, Python {sys.version.split()[0]}")
    print(
        tabulate(
            rows, ["variant", "median ms", "more ms", "95 % interval", "more CPU ms", "ratio"], disable_numparse=True
        )
    )
    # Other processes can only slow a run: the lower quartile is printed for information, and the median is judged.
    calm = quick(wall["pytest-slmperf"]) - quick(wall[base])
    cost = statistics.median(a - b for a, b in zip(wall["pytest-slmperf"], wall[base], strict=True))
    print(f"median {cost:+.1f} ms, limit {arguments.limit_ms:g} ms (between lower quartiles: {calm:+.1f} ms)")
    if cost > arguments.limit_ms:
        print("loading the plugin costs more than the limit")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
