"""Measure a GPU for which the project has no figures, in a given time, and collect the files for a commit in one folder.

Usage: new_gpu.py FOLDER [--minutes 20] [--model opt-1.3b] [--engine vllm] [--device cuda:0] [--only STEP ...]

Needs the project's checkout as working directory and an environment with pytest-slmperf and vLLM; no network. The most
important steps run first, each with its share of the remaining time: if a step fails or runs out of time, its results so
far are kept and the next step starts. FOLDER, without subfolders and small enough to copy anywhere, then holds:

- ``doctor.txt``, ``meter.txt``: the energy counter's tick and its agreement with the power sensor,
- ``launches.txt``: the price of a launch by phase, fresh and forked in turns,
- ``noise-MODEL.json``: eight pairs of launches of unchanged code, for a small and for the chosen model,
- ``curve.json``: the frontier of throughput, latency and energy over the batch, full profile, one launch,
- ``replication.json``: two and four replicas against a single engine of the same memory, time slices and MPS,
- ``suite.json``, ``baselines.tar.gz``: the quick suite and the baseline it makes, to be unpacked in the checkout,
- ``findings.md``: which of the published shapes hold,
- ``summary.txt``: each step with its exit status and time; ``log.txt``: everything that was printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 30.0  # after Ctrl-C, to stop engines and write results and report
SMALL = "opt-125m"  # the model of the committed figures of launches and noise
STOPPED = "stopped"  # status of a step that the user interrupted


@dataclass(frozen=True)
class Step:
    """A command, its share of the remaining time, and the file to which its output goes as well."""

    name: str
    command: list[str]
    share: float
    output: str | None = None
    results: tuple[str, ...] = ()  # files that it writes; those of an earlier run are removed first
    passes_max_time: bool = False  # the suite plans within a given time


def steps(folder: Path, engine: str, device: str, model: str, whole_suite: bool) -> Iterator[Step]:
    """All steps, the most important first. ``engine``, ``device`` and ``model`` are the plugin's options of these names."""
    target = [f"--slmperf-engine={engine}", f"--slmperf-device={device}", f"--slmperf-model={model}"]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    def measured(name: str, tests: list[str], share: float, *more: str) -> Step:
        places = {"state-dir": "state", "json": f"{name}.json", "html": f"{name}.html", "baselines": "baselines"}
        options = [f"--slmperf-{option}={folder / place}" for option, place in places.items()]
        command = [*pytest, *tests, "--slmperf", *target, *options, *more]
        return Step(name, command, share, results=(places["json"], places["html"]), passes_max_time=True)

    yield Step("doctor", [sys.executable, "-m", "pytest_slmperf.cli", "doctor"], 0.1, "doctor.txt")
    yield Step("meter", [*pytest, "-rA", "tests/engine/test_real_gpu.py"], 0.15, "meter.txt")
    price = [sys.executable, "benchmarks/launch_cost.py", "--launches=12", f"--device={device}"]
    yield Step("launches", price, 0.15, "launches.txt")
    # The same interpreter on both sides: each difference between a pair's launches is noise.
    pairs = (f"--slmperf-against=python={sys.executable}", "--slmperf-launches=8", "--slmperf-max-launches=8")
    for name in dict.fromkeys([SMALL, model]):
        test = "perf_tests/test_offline.py::test_batch[32]"
        yield measured(f"noise-{Path(name).name}", [test], 0.15, *pairs, f"--slmperf-model={name}")
    curve = ["perf_tests/test_pareto.py::test_frontier", "perf_tests/test_energy.py::test_resident_idle"]
    once = ("--slmperf-profile=full", "--slmperf-launches=1", "--slmperf-max-launches=1")
    yield measured("curve", curve, 0.4, *once)
    yield measured("replication", ["perf_tests/test_replication.py"], 0.4, *once)
    # Only part of the suite: batches are most informative about a device.
    suite = ["perf_tests/"] if whole_suite else ["perf_tests/test_offline.py"]
    yield measured("suite", suite, 1.0, "--slmperf-approve")


def run(step: Step, folder: Path, limit_s: float) -> str:
    """Run one step; its exit status, or the cause of its end, as a word for the summary."""
    command = list(step.command)
    if step.passes_max_time:
        command.append(f"--slmperf-max-time={max(1, int(limit_s))}")
    for name in step.results:
        (folder / name).unlink(missing_ok=True)
    with open(folder / "log.txt", "ab") as log, open(folder / (step.output or "last-step.txt"), "wb") as kept:
        log.write(f"\n──── {step.name}, {limit_s:.0f} s: {' '.join(command)}\n".encode())
        log.flush()
        # A session of its own: the Ctrl-C that ``end`` sends must not reach this script.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=kept,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "140"},
        )
        try:
            word = f"exit {child.wait(limit_s + (PATIENCE_S if step.passes_max_time else 0))}"
        except subprocess.TimeoutExpired:
            word = "out of time"
            end(child)
        except KeyboardInterrupt:  # the step, in a session of its own, has not received it
            word = STOPPED
            end(child)
        log.write(Path(kept.name).read_bytes())
    return word


def end(child: subprocess.Popen[bytes]) -> None:
    """Send Ctrl-C to the step; after ``PATIENCE_S`` or a second Ctrl-C, kill it and all that it started."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 7 * 24 * 60:
        raise ValueError
    return value


def pack(folder: Path) -> None:
    """Write the findings from the results, and the new baseline as one file."""
    measured = [path for name in ("curve", "replication", "suite") if (path := folder / f"{name}.json").is_file()]
    if measured:
        page = folder / "findings.md"
        findings = [sys.executable, "-m", "pytest_slmperf.cli", "findings", *map(str, measured), "-o", str(page)]
        run(Step("findings", findings, 1.0), folder, 60)
    if (folder / "baselines").is_dir():
        with tarfile.open(folder / "baselines.tar.gz", "w:gz") as archive:
            archive.add(folder / "baselines", "baselines")
        shutil.rmtree(folder / "baselines")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where results go; made if missing")
    parser.add_argument("--minutes", type=minutes, default=20.0, help="time for all steps, more than 0 [20]")
    parser.add_argument("--model", default="opt-1.3b", help="preset, folder or hub id [opt-1.3b]")
    parser.add_argument("--engine", default="vllm", help="[vllm]")
    parser.add_argument("--device", default="cuda:0", help="[cuda:0]")
    parser.add_argument("--only", action="append", metavar="STEP", help="a step of summary.txt; repeatable")
    options = parser.parse_args()
    if not Path("perf_tests").is_dir():
        parser.error("perf_tests/ is not here: run this in the project's checkout")
    folder: Path = options.folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"folder {folder}: {error.strerror}")
    planned = steps(folder, options.engine, options.device, options.model, whole_suite=options.minutes >= 20)
    known = {step.name: step for step in planned}
    if unknown := set(options.only or ()) - known.keys():
        parser.error(f"--only: no step {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    # The steps must end with this script and must receive Ctrl-C themselves: a background job of a shell ignores it, and
    # its children inherit that. SIGHUP stays ignored under nohup, so that the terminal may be closed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    ends = time.monotonic() + 60 * options.minutes
    failed = False
    with open(folder / "summary.txt", "a", encoding="utf-8") as summary:
        for name in options.only or known:
            begun = time.monotonic()
            step = known[name]
            limit_s = (ends - begun) * step.share - (PATIENCE_S if step.passes_max_time else 0)
            word = run(step, folder, max(1.0, limit_s))
            failed |= word != "exit 0"
            line = f"{name}: {word} after {time.monotonic() - begun:.0f} s"
            print(line, file=summary, flush=True)
            print(line, flush=True)
            if word == STOPPED:
                break
    pack(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
