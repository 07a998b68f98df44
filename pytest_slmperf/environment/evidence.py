"""Evidence of other activity on the machine during a round, read from /proc (Linux).

It is read before and after a round; ``measuring.evidence_checks`` judges the difference.  A figure that the system does not
report is absent, never 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

PROC = Path("/proc")


class Task(NamedTuple):
    """Counters of one thread since its start. ``waited_s``: runnable without a CPU, None if it is unknown."""

    involuntary: int
    voluntary: int
    cpu_s: float
    waited_s: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counters at time ``t`` (CLOCK_MONOTONIC seconds). CPU times are in seconds; None for an unreadable figure."""

    t: float
    cpu_total_s: float | None = None
    cpu_busy_s: float | None = None
    steal_s: float | None = None
    psi_cpu_some_s: float | None = None
    procs_running: int | None = None
    tasks: Mapping[int, Task] = field(default_factory=dict)  # by thread id
    harness_cpu_s: float = 0.0  # of this process, which drives the engine and is not a neighbour


def snapshot(pids: Iterable[int] = (), proc: Path = PROC) -> Snapshot:
    """The current counters. ``pids``: the engine's processes, whose descendants and threads are included."""
    total, busy, steal = _cpu(proc)
    own = os.times()
    return Snapshot(
        t=time.monotonic(),
        cpu_total_s=total,
        cpu_busy_s=busy,
        steal_s=steal,
        psi_cpu_some_s=_pressure(proc),
        procs_running=_running(proc),
        tasks=_tasks(pids, proc),
        harness_cpu_s=own.user + own.system,
    )


def delta(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """Evidence for the time between two looks, ready for a record.

    ``window_s``; ``nivcsw``, ``nvcsw``: involuntary and voluntary context switches of the engine's threads;
    ``engine_cpu_s``; ``cpu_wait_share``: share of the time that the engine's worst-off thread stood runnable without a
    CPU; ``others_cpus``: how many CPUs were busy with neither the engine nor this process;
    ``cpus``: how many the machine has; ``steal_share``: share of all CPU time that the hypervisor took;
    ``psi_cpu_some``: share of the time in which some task waited for a CPU; ``procs_running``: runnable tasks at the
    end.  A thread that began and ended in between is not seen.
    """
    window = after.t - before.t
    facts: dict[str, Any] = {"window_s": round(window, 6)}
    engine_cpu = None
    if after.tasks:
        steps = [_since(before.tasks.get(tid), task) for tid, task in after.tasks.items()]
        engine_cpu = sum(step.cpu_s for step in steps)
        facts |= {
            "nivcsw": sum(step.involuntary for step in steps),
            "nvcsw": sum(step.voluntary for step in steps),
            "engine_cpu_s": round(engine_cpu, 3),
        }
        waits = [step.waited_s for step in steps if step.waited_s is not None]
        if waits and window > 0:
            # By the thread that waited longest, since a round is as slow as its slowest thread.
            facts["cpu_wait_share"] = round(max(waits) / window, 5)
    total = _difference(before.cpu_total_s, after.cpu_total_s)
    steal = _difference(before.steal_s, after.steal_s)
    busy = _difference(before.cpu_busy_s, after.cpu_busy_s)
    if total is not None and total > 0:
        if steal is not None:
            facts["steal_share"] = round(steal / total, 5)
        if window > 0:
            facts["cpus"] = max(1, round(total / window))
    if busy is not None and window > 0 and engine_cpu is not None:
        others = busy - engine_cpu - (after.harness_cpu_s - before.harness_cpu_s)
        facts["others_cpus"] = round(max(0.0, others / window), 3)
    waited = _difference(before.psi_cpu_some_s, after.psi_cpu_some_s)
    if waited is not None and window > 0:
        facts["psi_cpu_some"] = round(min(1.0, waited / window), 4)
    if after.procs_running is not None:
        facts["procs_running"] = after.procs_running
    return facts


def with_devices(evidence: Mapping[str, Any], devices: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The evidence with the energy meter's observations of each device: (name, ``DeviceReading.detail``)."""
    keys = ("throttle_ns", "throttle_reasons", "sm_clock_mhz_min", "sm_clock_mhz_max", "temperature_c_max",
            "utilization_percent_mean", "other_gpu_processes")  # fmt: skip
    gpus = {name: {key: detail[key] for key in keys if key in detail} for name, detail in devices}
    gpus = {name: detail for name, detail in gpus.items() if detail}
    return dict(evidence) | ({"gpus": gpus} if gpus else {})


def process_tree(pids: Iterable[int], proc: Path = PROC) -> list[int]:
    """These processes and all their current descendants."""
    tree: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in tree:
            continue
        try:
            threads = [entry.name for entry in (proc / str(pid) / "task").iterdir()]
        except OSError:
            continue
        tree.append(pid)
        for tid in threads:
            text = _text(proc / str(pid) / "task" / tid / "children")
            waiting.extend(int(child) for child in (text or "").split() if child.isdigit())
    return tree


def _since(before: Task | None, after: Task) -> Task:
    if before is None or after.involuntary < before.involuntary or after.voluntary < before.voluntary:
        return after  # a new thread, perhaps with the id of an ended one
    waited = _difference(before.waited_s, after.waited_s)
    return Task(
        after.involuntary - before.involuntary,
        after.voluntary - before.voluntary,
        max(0.0, after.cpu_s - before.cpu_s),
        waited,
    )


def _tasks(pids: Iterable[int], proc: Path) -> dict[int, Task]:
    tasks: dict[int, Task] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for pid in process_tree(pids, proc):
        try:
            threads = list((proc / str(pid) / "task").iterdir())
        except OSError:
            continue
        for thread in threads:
            status, stat = _text(thread / "status"), _text(thread / "stat")
            if status is None or stat is None:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            # The command name in parentheses may contain blanks and parentheses: count from the last parenthesis.
            numbers = stat.rpartition(")")[2].split()
            scheduled = (_text(thread / "schedstat") or "").split()  # ns on a CPU, ns runnable without one, time slices
            try:
                tasks[int(thread.name)] = Task(
                    int(fields["nonvoluntary_ctxt_switches"]),
                    int(fields["voluntary_ctxt_switches"]),
                    (int(numbers[11]) + int(numbers[12])) / tick,
                    int(scheduled[1]) / 1e9 if len(scheduled) == 3 else None,
                )
            except (KeyError, IndexError, ValueError):
                continue
    return tasks


def _cpu(proc: Path) -> tuple[float | None, float | None, float | None]:
    """Total, busy and stolen CPU seconds since boot over all CPUs; user time includes guest time."""
    line = (_text(proc / "stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None, None
    tick = os.sysconf("SC_CLK_TCK")
    try:
        user, nice, system, idle, iowait, irq, softirq, steal = (int(value) / tick for value in line[1:9])
    except ValueError:
        return None, None, None
    busy = user + nice + system + irq + softirq
    return busy + idle + iowait + steal, busy, steal


def _pressure(proc: Path) -> float | None:
    """Seconds in which some task waited for a CPU; None if the kernel has no pressure figures."""
    for line in (_text(proc / "pressure" / "cpu") or "").splitlines():
        kind, *pairs = line.split()
        for pair in pairs:
            name, _, value = pair.partition("=")
            if kind == "some" and name == "total" and value.isdigit():
                return int(value) / 1e6
    return None


def _running(proc: Path) -> int | None:
    fields = (_text(proc / "loadavg") or "").split()
    running = fields[3].partition("/")[0] if len(fields) > 3 else ""
    return int(running) if running.isdigit() else None


def _difference(before: float | None, after: float | None) -> float | None:
    """The increase of a counter; None if a value is missing or the counter fell."""
    if before is None or after is None or after < before:
        return None
    return after - before


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
