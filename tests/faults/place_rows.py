"""Rows: odd places to run in: locales, terminals, users and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faults.table import TIMEOUT_S, Bench, Ended, Fault, only

ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"


def session(
    *words: str, without: tuple[str, ...] = (), python: tuple[str, ...] = (), **environment: str
) -> Callable[[Bench], Ended]:
    """A session in a process of its own, with another environment."""

    def act(bench: Bench) -> Ended:
        bench.write("test_perf.py", ONE)
        bench.prefix = [
            "env",
            *(f"--unset={name}" for name in without),
            *(f"{name}={text}" for name, text in environment.items()),
        ]
        command = [*bench.prefix, sys.executable, *python, "-m", "pytest", "-p", "no:cacheprovider", "--slmperf",
                   "--slmperf-engine", "simulated", *words]  # fmt: skip
        with (bench.folder / "output.txt").open("wb") as output:
            done = subprocess.run(
                command, cwd=bench.folder, stdout=output, stderr=output, timeout=TIMEOUT_S, check=False
            )
        return Ended(done.returncode, (bench.folder / "output.txt").read_bytes().decode(errors="surrogateescape"))

    return act


def closed(*words: str, reads: int) -> Callable[[Bench], Ended]:
    """Nobody reads the output to its end."""

    def act(bench: Bench) -> Ended:
        assert bench.pytest(suite=ONE).code == 0
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_slmperf.cli", *words],
            cwd=bench.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(reads)
        process.stdout.close()
        said = process.stderr.read().decode()
        process.stderr.close()
        return Ended(process.wait(TIMEOUT_S), f"ended\n{said}")

    return act


def another_user(bench: Bench) -> Ended:
    """Where the tests run as root, a user who owns nothing here but the folder, and has no home."""
    bench.write("test_perf.py", ONE)
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "test_perf.py",
        "--slmperf",
        "--slmperf-engine",
        "simulated",
    ]
    if os.getuid() == 0:
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *words]
    words = ["env", f"HOME={bench.folder / 'nobodys'}", *words]
    (bench.folder / "nobodys").mkdir(mode=0)
    done = subprocess.run(words, cwd=bench.folder, capture_output=True, timeout=TIMEOUT_S, check=False)
    return Ended(done.returncode, (done.stdout + done.stderr).decode(errors="surrogateescape"))


def taken_folder(bench: Bench) -> Ended:
    """The name of the temporary models' folder is another's, who links a file of ours there."""
    ours = bench.write("precious", "precious")
    name = bench.folder / "tmp" / f"pytest-slmperf-{os.getuid()}"
    name.parent.mkdir(exist_ok=True)
    name.symlink_to(bench.folder / "elsewhere")
    (bench.folder / "elsewhere/models").mkdir(parents=True)
    bench.environment["OURS"] = str(ours)
    code = (
        "from pytest_slmperf.engines.presets import config_folder, resolve_model\n"
        "folder = config_folder(resolve_model('opt-125m'))\n"
        "print('written below', folder.parent.parent.name, oct(folder.parent.parent.stat().st_mode & 0o777))\n"
    )
    words = ["env", f"HOME={bench.folder}/nobodys", "XDG_CACHE_HOME=/proc/nowhere", sys.executable, "-c", code]
    done = subprocess.run(words, cwd=bench.folder, capture_output=True, timeout=TIMEOUT_S, check=False)
    return Ended(done.returncode, (done.stdout + done.stderr).decode())


def nothing_elsewhere(bench: Bench) -> str | None:
    written = [path for path in Path(bench.folder / "elsewhere").rglob("*") if path.is_file()]
    return f"written through another's link: {written}" if written else None


ROWS = [
    Fault(
        "odd-home", "HOME names no folder", session(HOME="/proc/nowhere"), 0, "1 new", "the results", only("test_first")
    ),
    Fault(
        "odd-tmpdir",
        "TMPDIR names no folder",
        session(TMPDIR="/proc/nowhere"),
        0,
        "1 new",
        "the results",
        only("test_first"),
    ),
    Fault(
        "not-root",
        "a user without rights, whose home may not be entered",
        another_user,
        0,
        "1 new",
        "the results",
        only("test_first"),
    ),
    Fault(
        "pipe-closed",
        "nobody reads the output",
        closed("compare", ".slmperf/results.json", ".slmperf/results.json", reads=0),
        141,
        "ended",
    ),
    Fault(
        "temporary-folder-taken",
        "the name of the temporary folder is another's link",
        taken_folder,
        0,
        "0o700",
        "what the link leads to",
        nothing_elsewhere,
    ),
]
