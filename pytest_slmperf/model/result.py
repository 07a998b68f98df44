"""What ``results.json`` (schema 1) holds: a session, a machine, and a result a scenario.

The fields that the published schema names are fixed; new ones are added with a default, so that older files stay readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pytest_slmperf.errors import NotMeasured
from pytest_slmperf.model.charts import Charts, Samples
from pytest_slmperf.model.energy import Energy
from pytest_slmperf.model.verdict import Difference, Verdict, VerdictRecord

# The baseline's side of a comparison, kept with the result so that a report can draw both sides.


class BaselineReading(msgspec.Struct, kw_only=True):
    """One metric of the baseline: its value and its rounds per launch. ``value`` None: only launches are kept."""

    unit: str = ""
    value: float | None = None
    launches: list[list[float]] = []

    @property
    def reading(self) -> float | None:
        """The value as kept, else the mean of the launch means; None where neither is known."""
        if self.value is not None:
            return self.value
        means = [mean for _, mean in launch_means(self.launches)]
        return math.fsum(means) / len(means) if means else None


class SideEnergy(msgspec.Struct, kw_only=True):
    """Energy of the other side of a duet."""

    joules: float | None = None
    bound_j: float | None = None
    source: str | None = None


class BaselineSide(msgspec.Struct, kw_only=True):
    """A stored baseline (launches of all its sessions), or the other side of a duet. Everything in it is optional."""

    name: str | None = None
    commit: str | None = None
    saved_at: str | None = None
    sessions: int | None = None
    engine: dict[str, Any] = {}
    metrics: dict[str, BaselineReading] = {}
    samples: Samples = {}
    energy: SideEnergy | None = None
    points: list[dict[str, Any]] = []  # the baseline's sweep, as in Result.points

    def value(self, metric: str) -> float | None:
        """The baseline's value of a metric; None where it has none."""
        return self.metrics[metric].reading if metric in self.metrics else None

    def launches(self, metric: str) -> list[list[float]]:
        """The baseline's rounds per launch of a metric."""
        return self.metrics[metric].launches if metric in self.metrics else []


def launch_means(launches: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Launch index and the mean of its rounds, launches without a clean round left out."""
    return [(index, math.fsum(rounds) / len(rounds)) for index, rounds in enumerate(launches) if rounds]


SCHEMA_VERSION = 1


class Commit(msgspec.Struct, kw_only=True):
    """The commit of the code under test; ``id`` None where it is unknown, ``dirty`` None where changes are unknown."""

    id: str | None = None
    branch: str | None = None
    dirty: bool | None = False


class FailedTest(msgspec.Struct, kw_only=True):
    """A performance test that failed, and not by a verdict: by an assertion of its own, an error, a fixture."""

    id: str
    reason: str  # one line
    location: str | None = None  # path:line
    unexpected_pass: bool = False  # nothing in it failed: a strict xfail expected that something would


class Session(msgspec.Struct, kw_only=True):
    """One run of pytest. Times are UTC in ISO 8601 with a Z."""

    id: str
    started_at: str
    plugin_version: str
    commit: Commit = msgspec.field(default_factory=Commit)
    finished_at: str | None = None
    profile: str | None = None
    mode: Literal["stored", "duet"] = "stored"
    against: str | None = None
    alpha: float | None = None
    options: dict[str, Any] = {}
    notes: list[str] = []  # about the whole session: budget ended, meter lost, …
    failed_tests: list[FailedTest] = []

    def own_failure(self, result_id: str) -> str | None:
        """The assertion or error of a result's own test, in one line; None where none failed."""
        for failed in self.failed_tests:
            if failed.unexpected_pass:
                continue
            # a test that measures several adds a part to its id, or a number
            if result_id == failed.id or result_id.startswith((f"{failed.id}::", f"{failed.id}#")):
                return failed.reason
        return None


class Machine(msgspec.Struct, kw_only=True):
    """The machine measured on; ``fingerprint`` is the identity that baselines are filed under."""

    fingerprint: str
    cpu: dict[str, Any] = {}
    gpus: list[dict[str, Any]] = []
    memory_bytes: int = 0
    driver: str | None = None
    os: dict[str, Any] = {}
    python: str | None = None

    @property
    def usable_gpus(self) -> list[dict[str, Any]]:
        """The GPUs without those that cannot be opened: what an engine can run on."""
        return [gpu for gpu in self.gpus if not gpu.get("closed")]

    @property
    def cards(self) -> list[str]:
        """The GPUs' names, and why one cannot be opened."""
        return [
            str(gpu.get("name", "GPU")) + (f" (cannot be opened: {gpu['closed']})" if gpu.get("closed") else "")
            for gpu in self.gpus
        ]


class Engine(msgspec.Struct, kw_only=True):
    """The engine as it said it was once it was ready. ``weights``: dummy, real or simulated."""

    name: str
    version: str
    model: str
    weights: str
    device: str
    replicas: int = 1
    dtype: str | None = None
    settings: dict[str, Any] = {}  # engine arguments as given
    facts: dict[str, Any] = {}  # what else the engine reported: kv_cache_tokens, torch version, threads, …

    @property
    def simulated(self) -> bool:
        """Whether nothing real was measured; an engine that failed before it could say so is known by its name."""
        return self.weights == "simulated" or self.name == "simulated"


class MetricValue(msgspec.Struct, kw_only=True):
    """One metric of one result.

    ``value`` None: not measured, and ``reason`` says why (a missing reading is never 0).
    ``launches`` holds one list of round values per engine launch; discarded rounds are not in it.  ``hosts``: the launch
    host that each of them was forked from, None for a process of its own; empty where none was forked.
    """

    unit: str
    better: Literal["higher", "lower", "none"]
    value: float | None
    ci: tuple[float, float] | None = None
    launches: list[list[float]] = []
    reason: str | None = None
    gate: bool = False
    hosts: list[str | None] = []


class Round(msgspec.Struct, kw_only=True):
    """One measured round. Times are CLOCK_MONOTONIC seconds; ``contaminated`` names the evidence, None if clean."""

    t_start: float
    t_end: float
    values: dict[str, float] = {}
    evidence: dict[str, Any] = {}
    contaminated: str | None = None


class Launch(msgspec.Struct, kw_only=True):
    """One engine launch and the rounds measured in it, discarded ones included."""

    index: int
    start_time_s: float | None = None
    warmup_rounds: int = 0
    rounds: list[Round] = []
    side: Literal["candidate", "baseline"] = "candidate"
    host: str | None = None  # the launch host that the engine was forked from; None: a process of its own
    session: str | None = None  # the session in which it was measured (launches of a baseline come from several)


class Result(msgspec.Struct, kw_only=True):
    """One measured scenario."""

    id: str
    scenario: dict[str, Any]
    engine: Engine
    metrics: dict[str, MetricValue] = {}
    energy: Energy = msgspec.field(default_factory=Energy)
    discarded_rounds: int = 0
    preemptions: int = 0
    verdicts: list[VerdictRecord] = []
    launches: list[Launch] = []
    differences: list[Difference] = []  # what changed against the baseline
    baseline: BaselineSide | None = None
    samples: Samples = {}
    points: list[dict[str, Any]] = []  # a sweep's points
    charts: Charts = msgspec.field(default_factory=Charts)
    log_tail: str = ""
    notes: list[str] = []
    failure: str | None = None  # not measured: why
    launch_s: float | None = None  # wall seconds of the longest launch (pair in a duet), the engine's start included
    launches_short: int = 0  # requested launches that the session's time did not allow

    def baseline_value(self, metric: str) -> float | None:
        """The baseline's value of a metric; None where it has none."""
        return None if self.baseline is None else self.baseline.value(metric)

    def baseline_launches(self, metric: str) -> list[list[float]]:
        """The baseline's rounds per launch of a metric; empty where it has none."""
        return [] if self.baseline is None else self.baseline.launches(metric)

    def need(self, enough: bool, name: str = "") -> None:
        """NotMeasured, with the verdict's reason, where an inconclusive measurement has not ``enough`` readings.

        Nothing can be asserted of it then: the test ends as inconclusive. ``name``: the metric that was asked for.
        """
        __tracebackhide__ = True
        why = next((verdict.reason for verdict in self.verdicts if verdict.verdict == Verdict.INCONCLUSIVE), None)
        if why is not None and not enough:
            raise NotMeasured(f"{self.id}: {name + ' ' if name else ''}was not measured: {why}")


class Results(msgspec.Struct, kw_only=True):
    """A whole results file."""

    session: Session
    machine: Machine
    results: list[Result] = []
    schema_version: int = SCHEMA_VERSION
