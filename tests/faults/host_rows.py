"""Rows: a launch host, or a launch forked from it, that fails."""

from __future__ import annotations

import sys

from faults.engine_rows import second_measured
from faults.table import Bench, Ended, Fault

FORKED = ("--slmperf-set", "forked=1")
NO_PYTHON = '#!/bin/sh\ncase "$*" in *host.py*) exit 9;; esac\nexec {python} "$@"\n'


def fresh_ones(bench: Bench) -> str | None:
    """Every test is measured, in launches that are processes of their own."""
    for result in bench.results()["results"]:
        if not result["metrics"]["output_throughput"]["value"]:
            return f"{result['id']} has no figure"
        if any(launch.get("host") for launch in result["launches"]):
            return f"{result['id']} has launches of a host that cannot fork"
    return None


def fork_that(id: str, injected: str, how: str) -> Fault:
    def act(bench: Bench) -> Ended:
        return bench.pytest(*FORKED, "--slmperf-set", f"fail=fork-{how}")

    return Fault(id, injected, act, 0, "launches are not forked, each starts in a process of its own",
                 "every result, from fresh starts", fresh_ones)  # fmt: skip


def no_host(bench: Bench) -> Ended:
    python = bench.write("python", NO_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    return bench.pytest(*FORKED, "--slmperf-python", str(python))


def host_killed(bench: Bench) -> Ended:
    once = ("--slmperf-set", "fail=round-host", "--slmperf-set", "fail_once=failed-once")
    return bench.pytest(*FORKED, *once)


ROWS = [
    fork_that("fork-killed", "a forked launch killed before it is ready", "kill"),
    fork_that("fork-exits", "a forked launch exits before it is ready", "exit"),
    fork_that("fork-error", "a forked launch raises before it is ready", "error"),
    fork_that("fork-leaves-child", "a forked launch killed; its child has a session of its own", "child"),
    Fault("no-host", "an interpreter in which no launch host starts", no_host, 0, "ended with exit status 9",
          "every result, from fresh starts", fresh_ones),
    Fault("host-killed", "a launch host killed while a launch of it runs a round", host_killed, 1,
          "ended with its launch host, which was killed by SIGKILL", "the other test's result", second_measured),
]  # fmt: skip
