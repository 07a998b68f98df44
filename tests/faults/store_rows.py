"""Rows: stores that are broken, full, read-only, locked, gone or not ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest
from faults.file_rows import ONE
from faults.table import Bench, Ended, Fault, only
from support import postgres

PLACE = "sqlite:///b.db"
LIST = ("baselines", "list", "--baselines", PLACE)
APPROVE = ("baselines", "approve", ".slmperf/results.json", "--reason", "r", "--baselines")


def stored(bench: Bench) -> None:
    ended = bench.pytest("--slmperf-baselines", PLACE, "--slmperf-approve", suite=ONE)
    assert ended.code == 0, ended.output


def broken(spoil: Callable[[bytes], bytes], *words: str) -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        stored(bench)
        path = bench.folder / "b.db"
        path.write_bytes(spoil(path.read_bytes()))
        return bench.slmperf(*words) if words else bench.pytest("--slmperf-baselines", PLACE, suite=ONE)

    return act


def foreign(bench: Bench) -> Ended:
    with sqlite3.connect(bench.folder / "b.db") as other:
        other.execute("CREATE TABLE slmperf_baselines (x)")
        other.execute("CREATE TABLE slmperf_history (x)")
    other.close()
    return bench.slmperf(*LIST)


def full(bench: Bench) -> Ended:
    """No file may grow beyond what the database has."""
    stored(bench)
    size = (bench.folder / "b.db").stat().st_size
    bench.pytest(suite="".join(ONE.replace("first", f"more_{number}") for number in range(12)))
    bench.prefix = ["prlimit", f"--fsize={size}"]
    return bench.slmperf(*APPROVE, PLACE)


def first_kept(bench: Bench) -> str | None:
    bench.prefix = []
    return None if "test_first" in bench.slmperf(*LIST).output else "the baseline is gone"


def read_only_in_ci(bench: Bench) -> Ended:
    """The history is kept unasked: a place that may only be read is worth a note, and no failure."""
    assert bench.pytest("--slmperf-approve", suite=ONE).code == 0
    bench.environment["CI"] = "1"
    folders = [bench.folder / "baselines", *(bench.folder / "baselines").rglob("*")]
    modes = {path: path.stat().st_mode for path in folders}
    if os.getuid() == 0:
        bench.prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for path in reversed(folders):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        return bench.ended(bench.start("test_perf.py", "--slmperf", "--slmperf-engine", "simulated"))
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def password(bench: Bench) -> Ended:
    bench.pytest(suite=ONE)
    with postgres.serve("scram-sha-256") as server:
        if server is None:
            pytest.skip("no PostgreSQL server here (Debian package postgresql)")
        return bench.slmperf(*APPROVE, server.url.replace(postgres.PASSWORD, "Wr0ng-word"))


def gone(bench: Bench) -> Ended:
    """The server ends between reading and writing."""
    with postgres.serve() as server:
        if server is None:
            pytest.skip("no PostgreSQL server here (Debian package postgresql)")
        bench.write(
            "conftest.py",
            f"""
import subprocess
import pytest

@pytest.fixture(autouse=True)
def end_the_server():
    yield
    subprocess.run(["kill", "-QUIT", "{server.pid}"])
""",
        )
        ended = bench.pytest("--slmperf-baselines", server.url, "--slmperf-approve", suite=ONE)
        server.start()
        return ended


ROWS = [
    Fault(
        "sqlite-no-database",
        "the SQLite store is no database",
        broken(lambda data: b"no database " * 999, *LIST),
        4,
        "file is not a database; restore the file from a copy",
    ),
    Fault(
        "sqlite-cut",
        "the SQLite store was cut short",
        broken(lambda data: data[:5000], *LIST),
        4,
        "restore the file from a copy",
    ),
    Fault(
        "sqlite-cut-session",
        "the SQLite store was cut short, in a session",
        broken(lambda data: data[:5000]),
        1,
        "the baselines cannot be read, so nothing was measured",
    ),
    Fault("sqlite-foreign", "the SQLite file is another program's", foreign, 4, "is it a database of pytest-slmperf?"),
    Fault(
        "sqlite-full",
        "the disk is full when SQLite writes",
        full,
        4,
        "free some space",
        "the stored baselines",
        first_kept,
    ),
    Fault(
        "ci-read-only",
        "CI=1, and the baselines may only be read",
        read_only_in_ci,
        0,
        "not kept in the history",
        "the verdict, and results",
        only("test_first"),
    ),
    Fault("postgres-password", "a wrong password for PostgreSQL", password, 4, "password authentication failed"),
    Fault(
        "postgres-killed",
        "PostgreSQL is killed while a test runs",
        gone,
        1,
        "baseline not written",
        "the results",
        only("test_first"),
    ),
]
