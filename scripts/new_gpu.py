"""Measure a GPU that the project has no figures of, in a given time, and leave what a commit needs in one folder.

Usage: new_gpu.py FOLDER [--minutes 20] [--model opt-1.3b] [--engine vllm] [--device cuda:0] [--only STEP ...]

Needs the project's checkout as working directory and an environment with pytest-slmperf and vLLM; no network. The steps
run in the order of what is missed most, each for its part of the time that is left: a step that fails or runs out of
time leaves what it has measured and the next one starts. FOLDER then holds, flat and small enough to be copied anywhere:

- ``doctor.txt``, ``meter.txt``: the energy counter's tick and its agreement with the power sensor,
- ``curve.json``: the frontier of throughput, latency and energy over the batch, full profile, one launch,
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

PATIENCE_S = 30.0  # after Ctrl-C: engines stop, results and report are written
STOPPED = "stopped"  # what a step's line says where somebody ended the script


@dataclass(frozen=True)
class Step:
    """A command, the share of the time left that it may take, and the file that its output goes to as well."""

    name: str
    command: list[str]
    share: float
    output: str | None = None
    results: tuple[str, ...] = ()  # files that it writes: those of an earlier run would pass for its own
    passes_max_time: bool = False  # the suite plans within a time given to it


def steps(folder: Path, target: list[str], whole_suite: bool) -> Iterator[Step]:
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    def measured(name: str, tests: list[str], share: float, *more: str) -> Step:
        places = {"state-dir": "state", "json": f"{name}.json", "html": f"{name}.html", "baselines": "baselines"}
        options = [f"--slmperf-{option}={folder / place}" for option, place in places.items()]
        command = [*pytest, *tests, "--slmperf", *target, *options, *more]
        return Step(name, command, share, results=(places["json"], places["html"]), passes_max_time=True)

    yield Step("doctor", [sys.executable, "-m", "pytest_slmperf.cli", "doctor"], 0.15, "doctor.txt")
    yield Step("meter", [*pytest, "-rA", "tests/engine/test_real_gpu.py"], 0.25, "meter.txt")
    curve = ["perf_tests/test_pareto.py::test_frontier", "perf_tests/test_energy.py::test_resident_idle"]
    once = ("--slmperf-profile=full", "--slmperf-launches=1", "--slmperf-max-launches=1")
    yield measured("curve", curve, 0.5, *once)
    # Less than the suite asks for: its batches and its replicas say most about a device
    suite = ["perf_tests/"] if whole_suite else ["perf_tests/test_offline.py", "perf_tests/test_replication.py"]
    yield measured("suite", suite, 1.0, "--slmperf-approve")


def run(step: Step, folder: Path, limit_s: float) -> str:
    """Run one step; its exit status, or what ended it, as a word for the summary."""
    command = list(step.command)
    if step.passes_max_time:
        command.append(f"--slmperf-max-time={max(1, int(limit_s))}")
    for name in step.results:
        (folder / name).unlink(missing_ok=True)
    with open(folder / "log.txt", "ab") as log, open(folder / (step.output or "last-step.txt"), "wb") as kept:
        log.write(f"\n──── {step.name}, {limit_s:.0f} s: {' '.join(command)}\n".encode())
        log.flush()
        # a session of its own, so that Ctrl-C reaches the engines' parent and not this script
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
        except KeyboardInterrupt:  # it is in a session of its own and knows nothing of it
            word = STOPPED
            end(child)
        log.write(Path(kept.name).read_bytes())
    return word


def end(child: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and where that is not enough, or a second one comes, the end of it and of what it started."""
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
    """Findings from what was measured, and the new baseline as one file."""
    measured = [path for name in ("curve.json", "suite.json") if (path := folder / name).is_file()]
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
    parser.add_argument("--only", action="append", metavar="STEP", help="doctor, meter, curve or suite; repeatable")
    options = parser.parse_args()
    if not Path("perf_tests").is_dir():
        parser.error("perf_tests/ is not here: run this in the project's checkout")
    folder: Path = options.folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"folder {folder}: {error.strerror}")
    target = [f"--slmperf-{name}={getattr(options, name)}" for name in ("engine", "device", "model")]
    known = {step.name: step for step in steps(folder, target, whole_suite=options.minutes >= 20)}
    if unknown := set(options.only or ()) - known.keys():
        parser.error(f"--only: no step {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    # The steps are to end with this script, however it ends, and to hear Ctrl-C themselves: a shell's background job
    # ignores it, and what it starts would inherit that. With nohup the terminal may go.
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
