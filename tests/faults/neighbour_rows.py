"""Rows: pytest itself and its neighbours, and the surroundings that a session is started in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from faults.table import Bench, Ended, Fault, only
from support.hostile_server import MODEL, HostileServer

ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"
OPTIONS = ("--slmperf", "--slmperf-engine", "simulated")


def environment(suite: str = ONE, *arguments: str, **variables: str | None) -> Callable[[Bench], Ended]:
    """A session in a process of its own with these variables; None takes one away."""

    def act(bench: Bench) -> Ended:
        bench.write("test_perf.py", suite)
        bench.environment |= {name: value for name, value in variables.items() if value is not None}
        bench.without |= {name for name, value in variables.items() if value is None}
        return bench.ended(bench.start(*OPTIONS, *arguments))

    return act


def other_project(ini: str, *, own: str = "") -> Callable[[Bench], Ended]:
    """Project ``a`` names an interpreter that lies in project ``b``, which has an ini file."""

    def act(bench: Bench) -> Ended:
        bench.write("b/pytest.ini", ini)
        bench.write("b/venv/bin/python", "").chmod(0o755)
        if own:
            bench.write("a/pytest.ini", own)
        bench.write("a/test_perf.py", ONE)
        bench.work = bench.folder / "a"
        return bench.ended(bench.start(*OPTIONS, "--slmperf-python", str(bench.folder / "b/venv/bin/python"), "-rN"))

    return act


def nothing_in_b(bench: Bench) -> str | None:
    written = [path.name for path in (bench.folder / "b").iterdir() if path.name not in ("pytest.ini", "venv")]
    return f"the other project has {written}" if written else None


# Faults of the machine that a library puts before the system's own calls, in every process of the session.
LEAPS = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return EVERY_MS && (t.tv_sec * 1000 + t.tv_nsec / 1000000) / EVERY_MS % 2 ? 0 : BY_S;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += off();
    return failed;
}

time_t time(time_t *at) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return at ? (*at = t.tv_sec) : t.tv_sec;
}
"""
LEAP = LEAPS.replace("EVERY_MS", "0")
NO_NAMES = """
#include <unistd.h>
int getaddrinfo(void *name, void *service, void *hints, void *found) { sleep(600); return -3; }
"""


def preloaded(bench: Bench, source: str) -> None:
    """Compile the library, and have what the bench starts from now on load it."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here")
    made = bench.folder / "fault.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", made, bench.write("fault.c", source)], check=True, capture_output=True
    )
    bench.environment["LD_PRELOAD"] = str(made)


def clock(source: str, by_s: int, every_ms: int = 300) -> Callable[[Bench], Ended]:
    """A session whose wall clock is off by that; the second of two, of which the first had a right one."""

    def act(bench: Bench) -> Ended:
        assert environment()(bench).code == 0
        preloaded(bench, source.replace("BY_S", str(by_s)).replace("EVERY_MS", str(every_ms)))
        return environment(ONE.replace("first", "second"))(bench)

    return act


def both_journals(bench: Bench) -> str | None:
    """Nothing is removed as too old; the later session has its result."""
    journals = list(bench.folder.glob(".slmperf/journal/*.jsonl"))
    kept = list(bench.folder.rglob("provisional/**/*.json"))
    if len(journals) != 2 or len(kept) != 2:
        return f"{len(journals)} journals and {len(kept)} provisional baselines are left"
    return only("test_second")(bench)


LOADED = """
def test_load(slmperf):
    slmperf.serving(num_requests=20, rate=40, input_len=8, output_len=2, rounds=1)
"""


def clock_in_a_load(bench: Bench) -> Ended:
    preloaded(bench, LEAPS.replace("BY_S", "86400").replace("EVERY_MS", "300"))
    bench.write("test_perf.py", LOADED)
    # what else runs on the machine must not discard the rounds
    bench.write("conftest.py", "from pytest_slmperf.measuring import launch\n"
                "launch.judge_rounds = lambda evidence, limits: [None] * len(evidence)\n")  # fmt: skip
    with HostileServer({}) as server:
        return bench.ended(bench.start("--slmperf", "--slmperf-engine", "openai", "--slmperf-endpoint", server.url,
                                       "--slmperf-model", MODEL, "--slmperf-launches", "1"))  # fmt: skip


def latencies_that_can_be(bench: Bench) -> str | None:
    (result,) = bench.results()["results"]
    ttft = result["metrics"]["ttft_p50"]["value"]
    return None if 0 < ttft < 10_000 else f"a TTFT of {ttft} ms"


def no_name_server(bench: Bench) -> Ended:
    preloaded(bench, NO_NAMES)
    return environment(LOADED, "--slmperf-engine", "openai", "--slmperf-endpoint", "http://far.example:1/v1",
                       "--slmperf-model", "m", "--slmperf-start-timeout", "1s")(bench)  # fmt: skip


# A load client that is stopped while it waits for an answer that never comes.
STOPS = """
import os, signal, threading, time, pytest
from pytest_slmperf.load.http import run_clients

run_clients.SILENT_S = 1.0

@pytest.fixture(autouse=True)
def stop_the_client():
    send = run_clients.LoadClient.send
    def send_and_stop(self, message):
        send(self, message)
        if "start_ns" in message:
            os.kill(self.process.pid, signal.SIGSTOP)
    run_clients.LoadClient.send = send_and_stop
    yield
    run_clients.LoadClient.send = send
"""


def client_stopped(bench: Bench) -> Ended:
    bench.write("conftest.py", STOPS)
    with HostileServer({}) as server:
        return bench.pytest("--slmperf-endpoint", server.url, "--slmperf-model", MODEL, "--slmperf-launches", "1",
                            engine="openai", suite=LOADED)  # fmt: skip


def rerun(bench: Bench) -> Ended:
    """The engine fails once; the second try measures."""
    failing = ("--slmperf-set", "fail=round-kill", "--slmperf-set", "fail_once=failed-once")
    return environment(ONE, "-p", "rerunfailures", "--reruns", "2", *failing)(bench)


def rerun_regressed(bench: Bench) -> Ended:
    assert environment(ONE, "--slmperf-approve")(bench).code == 0
    return environment(ONE, "-p", "rerunfailures", "--reruns", "2", SLMPERF_SIMULATED_SLOWDOWN="0.3")(bench)


def regressed_once(bench: Bench) -> str | None:
    verdicts = [verdict["verdict"] for result in bench.results()["results"] for verdict in result["verdicts"]]
    return None if "regressed" in verdicts else f"verdicts are {verdicts}"


def forked(bench: Bench) -> Ended:
    # what pytest 9.2 has added to reports, pytest-forked 1.7 cannot hand over
    bench.write(
        "conftest.py",
        """
import pytest_forked

whole = pytest_forked.serialize_report

def without_id(report):
    return {name: part for name, part in whole(report).items() if name != "_id"} | {"nodeid": report.nodeid}

pytest_forked.serialize_report = without_id
""",
    )
    return environment(ONE, "-p", "pytest_forked", "--forked")(bench)


INI = "[pytest]\n"
ROWS = [
    Fault("clock-leaps", "the wall clock leaps a day ahead and back, three times a second", clock(LEAPS, 86_400), 0,
          "1 new", "every result", both_journals),
    Fault("clock-ahead", "the wall clock is ten years ahead", clock(LEAP, 315_360_000), 0, "1 new",
          "journals and provisional baselines of sessions with a right clock", both_journals),
    Fault("clock-behind", "the wall clock is a day behind", clock(LEAP, -86_400), 0, "1 new",
          "journals and provisional baselines", both_journals),
    Fault("clock-leaps-load", "the wall clock, with which the kernel stamps what arrives, leaps while a load runs",
          clock_in_a_load, 0, "results: .slmperf/results.json", "latencies that can be", latencies_that_can_be),
    Fault("no-name-server", "no name server answers", no_name_server, 1, "no name server answered within 1 s"),
    Fault("client-stopped", "the load client stopped (SIGSTOP)", client_stopped, 1, "load client 0 was stopped (SIGSTOP)"),
    Fault("reruns", "pytest-rerunfailures, and an engine killed in the first try", rerun, 0, "1 rerun",
          "the second try's result", only("test_first")),
    Fault("reruns-regressed", "pytest-rerunfailures, and a regression", rerun_regressed, 1, "not measured again",
          "the verdict", regressed_once),
    Fault("forked", "pytest-forked", forked, 1,
          "run performance tests without it"),
    Fault("xdist-worker-killed", "pytest-xdist's worker dies (`os._exit`) in a test",
          environment(ONE + "import os\ndef test_second(slmperf):\n    os._exit(7)\n", "-n", "1", "-p", "xdist"), 1,
          "crashed", "the other test's result", only("test_first")),
    Fault("timeout", "pytest-timeout ends a test whose engine hangs",
          lambda bench: bench.pytest("--slmperf-set", "fail=round-hang", "--timeout", "3", suite=ONE), 1, "Timeout"),
    Fault("optimised", "`PYTHONOPTIMIZE=2`, which takes assertions away", environment(PYTHONOPTIMIZE="2"), 0, "1 new", "",
          only("test_first")),
    Fault("c-locale", "the locale `C` with ASCII output", environment(LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"),
          0, "1 new", "", only("test_first")),
    Fault("forty-columns", "a terminal of 40 columns", environment(COLUMNS="40"), 0, "1 new", "", only("test_first")),
    Fault("no-home", "no HOME", environment(HOME=None), 0, "1 new", "", only("test_first")),
    Fault("no-tmpdir", "a TMPDIR that does not exist", environment(TMPDIR="/nonexistent"), 0, "1 new", "",
          only("test_first")),
    Fault("collect-only", "`--collect-only`: results of an earlier session stay",
          lambda bench: (bench.pytest(suite=ONE), bench.pytest("--collect-only", suite=ONE))[1], 0, "1 test collected",
          "the earlier results", only("test_first")),
    Fault("other-project", "an option names a path in another project, whose ini file pytest takes",
          other_project(INI), 1, "cannot run", "the other project: nothing is written there", nothing_in_b),
    Fault("other-project-addopts", "the same, and that ini file has `addopts`", other_project(INI + "addopts = -v\n"), 4,
          "Write --slmperf-python=", "the other project", nothing_in_b),
    Fault("other-project-own", "the same, and this project has an ini file of its own", other_project(INI, own=INI), 1,
          "cannot run", "the other project", nothing_in_b),
]  # fmt: skip
