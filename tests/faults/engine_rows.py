"""Rows: an engine that dies, hangs, runs out of memory or lies, in every phase of its life."""

from __future__ import annotations

from collections.abc import Callable

from faults.table import Bench, Ended, Fault


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


ROWS = [
    engine("engine-killed-at-start", "engine killed (SIGKILL) while it starts", "start-kill", "killed by SIGKILL"),
    engine("engine-exits-at-start", "engine exits while it starts", "start-exit", "exit status 3 while it started"),
    engine("engine-error-at-start", "engine raises while it starts", "start-error", "simulated error"),
    engine("engine-memory-at-start", "engine out of memory while it starts", "start-memory", "out of memory"),
    engine("engine-hangs-at-start", "engine hangs while it starts", "start-hang", "hung and was killed",
           "--slmperf-start-timeout", "1s"),
    engine("engine-killed-in-round", "engine killed in a round", "round-kill", "killed by SIGKILL"),
    engine("engine-exits-in-round", "engine exits in a round", "round-exit", "ended with exit status 3 in 'generate'"),
    engine("engine-error-in-round", "engine raises in a round", "round-error", "simulated error"),
    engine("engine-memory-in-round", "engine out of memory in a round", "round-memory", "out of memory"),
    engine("engine-hangs-in-round", "engine hangs in a round", "round-hang", "hung and was killed",
           "--slmperf-round-timeout", "1s"),
    engine("engine-killed-later-round", "engine killed in its fourth round", "round-kill", "killed by SIGKILL",
           "--slmperf-set", "fail_round=4"),
    engine("engine-leaves-child", "engine killed; its child has a session of its own", "round-child",
           "killed by SIGKILL"),
]  # fmt: skip
