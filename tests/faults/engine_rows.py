"""Rows: an engine that dies, hangs, runs out of memory or lies, in every phase of its life."""

from __future__ import annotations

from collections.abc import Callable

from faults.table import Bench, Ended, Fault, only


def failing(how: str, *more: str) -> Callable[[Bench], Ended]:
    """The first test's engine fails once in that way; the second test starts it again."""

    def act(bench: Bench) -> Ended:
        return bench.pytest("--slmperf-set", f"fail={how}", "--slmperf-set", "fail_once=failed-once", *more)

    return act


def second_measured(bench: Bench) -> str | None:
    """The failed test's line has no figure, the other test has its own."""
    first, second = bench.results()["results"]
    if first["metrics"] or not first["failure"]:
        return "the failed test has figures, or no reason"
    return None if second["metrics"]["output_throughput"]["value"] > 0 else "the second test has no figure"


def engine(id: str, injected: str, how: str, says: str, *more: str) -> Fault:
    return Fault(id, injected, failing(how, *more), 1, says, "the other test's result", second_measured)


# Engines that stop while nothing is asked of them: between two rounds, and before the session ends.
MEASURED = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"
HALF = """
import os, signal
def test_first(slmperf, slm_engine):
    slmperf.offline(batch=1, input_len=16, output_len=16)
    os.kill(slm_engine.facts["pid"], signal.SIGSTOP)
"""
BETWEEN = (
    HALF
    + """    slmperf.offline(batch=4, input_len=16, output_len=16)

def test_second(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""
)


def stopped_between(bench: Bench) -> Ended:
    bench.write("conftest.py", "from pytest_slmperf.engines import process\nprocess.CONTROL_S = 1.0\n")
    return bench.pytest("--slmperf-round-timeout", "1s", suite=BETWEEN)


def both_measured(bench: Bench) -> str | None:
    """The test has the result from before; the next test, whose engine is a new one, has its own."""
    kept = [result["id"].partition("::")[2] for result in bench.results()["results"] if result["metrics"]]
    return None if kept == ["test_first", "test_second"] else f"figures of {kept}"


def suspended(bench: Bench) -> Ended:
    """pytest is suspended while the engine works, and goes on after the engine's time is over."""
    bench.write(
        "conftest.py",
        """
import os, signal, subprocess, threading
from pytest_slmperf.engines.process import EngineProcess

send = EngineProcess._send

def send_and_be_suspended(self, method, params):
    send(self, method, params)
    if method == "generate" and not os.path.exists("suspended"):
        open("suspended", "w").close()
        subprocess.Popen(["sh", "-c", f"sleep 2; kill -CONT {os.getpid()}"])
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGSTOP)).start()

EngineProcess._send = send_and_be_suspended
""",
    )
    bench.write("test_perf.py", MEASURED)
    return bench.ended(bench.start("--slmperf", "--slmperf-engine", "simulated", "--slmperf-set", "clock=real",
                                   "--slmperf-set", "step_ms=60", "--slmperf-round-timeout", "1.2s",
                                   "--slmperf-launches", "1", "--slmperf-rounds", "1"))  # fmt: skip


def flooding(*more: str) -> Callable[[Bench], Ended]:
    once = ("--slmperf-set", "fail=round-flood", "--slmperf-launches", "1")
    return lambda bench: bench.pytest(*once, *more, suite=MEASURED)


def short_log(bench: Bench) -> str | None:
    (log,) = bench.folder.glob(".slmperf/logs/*launch0.log")
    text = log.read_bytes()
    if (
        not text.startswith(b"simulated failure")
        or b"bytes of this log were left out]\n" not in text
        or len(text) > 2**22
    ):
        return f"the log has {len(text)} bytes and begins {text[:80]!r}"
    return only("test_first")(bench)


ROWS = [
    engine("engine-killed-at-start", "engine killed (SIGKILL) while it starts", "start-kill", "killed by SIGKILL"),
    engine("engine-exits-at-start", "engine exits while it starts", "start-exit", "exit status 3 while it started"),
    engine("engine-error-at-start", "engine raises while it starts", "start-error", "simulated error"),
    engine("engine-memory-at-start", "engine out of memory while it starts", "start-memory", "out of memory"),
    engine("engine-hangs-at-start", "engine hangs while it starts", "start-hang", "hung and was killed",
           "--slmperf-start-timeout", "1s"),
    engine("engine-stopped-at-start", "engine stopped (SIGSTOP) while it starts", "start-stop",
           "it was stopped (SIGSTOP) and was killed", "--slmperf-start-timeout", "1s"),
    engine("guardian-killed-at-start", "the engine's guardian killed (SIGKILL) while the engine starts", "start-guardian",
           "killed by SIGKILL"),
    engine("engine-killed-in-round", "engine killed in a round", "round-kill", "killed by SIGKILL"),
    engine("engine-exits-in-round", "engine exits in a round", "round-exit", "ended with exit status 3 in 'generate'"),
    engine("engine-error-in-round", "engine raises in a round", "round-error", "simulated error"),
    engine("engine-memory-in-round", "engine out of memory in a round", "round-memory", "out of memory"),
    engine("engine-hangs-in-round", "engine hangs in a round", "round-hang", "hung and was killed",
           "--slmperf-round-timeout", "1s"),
    engine("engine-stopped-in-round", "engine stopped (SIGSTOP) in a round", "round-stop",
           "it was stopped (SIGSTOP) and was killed", "--slmperf-round-timeout", "1s"),
    engine("guardian-killed-in-round", "the engine's guardian killed (SIGKILL) in a round", "round-guardian",
           "killed by SIGKILL"),
    engine("engine-killed-later-round", "engine killed in its fourth round", "round-kill", "killed by SIGKILL",
           "--slmperf-set", "fail_round=4"),
    engine("engine-leaves-child", "engine killed; its child has a session of its own", "round-child",
           "killed by SIGKILL"),
    Fault("engine-stopped-between", "engine stopped (SIGSTOP) between two scenarios of a test",
          stopped_between, 1,
          "it was stopped (SIGSTOP) and was killed", "what was measured before, and the other test's result", both_measured),
    Fault("engine-floods-log", "an engine that writes 25 MiB into its log in a round", flooding(), 0, "1 new",
          "the log's head and tail, 2 MiB of them", short_log),
    Fault("fork-floods-log", "a forked launch that writes 25 MiB into its log in a round",
          flooding("--slmperf-set", "forked=1"), 0, "1 new", "the log's head and tail", short_log),
    Fault("engine-stopped-at-end", "engine stopped (SIGSTOP) before the session ends",
          lambda bench: bench.pytest(suite=HALF), 0, "1 new", "the result", only("test_first")),
    Fault("pytest-suspended", "pytest suspended (Ctrl-Z, a laptop's lid) for longer than a round may take", suspended, 0,
          "results: .slmperf/results.json", "the result", only("test_first")),
]  # fmt: skip
