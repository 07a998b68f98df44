"""The records in ``results.json`` (schema 1): a session, a machine, and one result per scenario.

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

# The baseline's side of a comparison, stored with the result so that a report can show both sides.


class BaselineReading(msgspec.Struct, kw_only=True):
    """One metric of the baseline: its value and its rounds per launch. ``value`` None: only launches are kept."""

    unit: str = ""
    value: float | None = None
    launches: list[list[float]] = []

    @property
    def reading(self) -> float | None:
        """The stored value, or else the mean of the launch means; None if neither is known."""
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
    """A stored baseline (launches of all its sessions), or the other side of a duet. Every field is optional."""

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
        """The baseline's value of a metric; None if it has none."""
        return self.metrics[metric].reading if metric in self.metrics else None

    def launches(self, metric: str) -> list[list[float]]:
        """The baseline's rounds per launch of a metric."""
        return self.metrics[metric].launches if metric in self.metrics else []


def launch_means(launches: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Index and mean of the rounds of each launch that has clean rounds."""
    return [(index, math.fsum(rounds) / len(rounds)) for index, rounds in enumerate(launches) if rounds]


SCHEMA_VERSION = 1


class Commit(msgspec.Struct, kw_only=True):
    """The commit of the code under test. ``id``: None if unknown; ``dirty``: None if uncommitted changes are unknown."""

    id: str | None = None
    branch: str | None = None
    dirty: bool | None = False


class FailedTest(msgspec.Struct, kw_only=True):
    """A performance test that failed for another reason than a verdict: by its own assertion, an error, a fixture."""

    id: str
    reason: str  # one line
    location: str | None = None  # path:line
    unexpected_pass: bool = False  # a strict xfail that did not fail


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
        """The assertion or error of a result's own test, in one line; None if it did not fail."""
        for failed in self.failed_tests:
            if failed.unexpected_pass:
                continue
            # A test with several results adds a label or a number to the id of each.
            if result_id == failed.id or result_id.startswith((f"{failed.id}::", f"{failed.id}#")):
                return failed.reason
        return None


class Machine(msgspec.Struct, kw_only=True):
    """The machine of the session. ``fingerprint``: the identity under which baselines are stored."""

    fingerprint: str
    cpu: dict[str, Any] = {}
    gpus: list[dict[str, Any]] = []
    memory_bytes: int = 0
    driver: str | None = None
    os: dict[str, Any] = {}
    python: str | None = None

    @property
    def usable_gpus(self) -> list[dict[str, Any]]:
        """The GPUs that can be opened, on which an engine can run."""
        return [gpu for gpu in self.gpus if not gpu.get("closed")]

    @property
    def cards(self) -> list[str]:
        """The GPUs' names, with the reason for a GPU that cannot be opened."""
        return [
            str(gpu.get("name", "GPU")) + (f" (cannot be opened: {gpu['closed']})" if gpu.get("closed") else "")
            for gpu in self.gpus
        ]


class Engine(msgspec.Struct, kw_only=True):
    """The engine by its own report once it was ready. ``weights``: dummy, real or simulated."""

    name: str
    version: str
    model: str
    weights: str
    device: str
    replicas: int = 1
    dtype: str | None = None
    settings: dict[str, Any] = {}  # engine arguments as given
    facts: dict[str, Any] = {}  # further facts that the engine reported: kv_cache_tokens, torch version, threads, …
    environment: dict[str, str] | None = None  # variables of its process that tune it; None where they are not known

    @property
    def simulated(self) -> bool:
        """Whether the engine is simulated; by its name, if it failed before it could report its weights."""
        return self.weights == "simulated" or self.name == "simulated"


class MetricValue(msgspec.Struct, kw_only=True):
    """One metric of one result.

    ``value`` None: not measured, for the reason in ``reason`` (a missing reading is never 0).  A ``reason`` beside a value
    says why the reading is in doubt: it can fail a comparison and not pass it.
    ``launches``: one list of round values per engine launch, without discarded rounds.  ``hosts``: the launch host of each
    launch, None for a process of its own; empty if no launch was forked.
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
    """One measured round. Times are CLOCK_MONOTONIC seconds. ``contaminated``: evidence of a disturbance, None if clean."""

    t_start: float
    t_end: float
    values: dict[str, float] = {}
    evidence: dict[str, Any] = {}
    contaminated: str | None = None


class Launch(msgspec.Struct, kw_only=True):
    """One engine launch and all its rounds, including discarded rounds."""

    index: int
    start_time_s: float | None = None
    warmup_rounds: int = 0
    rounds: list[Round] = []
    side: Literal["candidate", "baseline"] = "candidate"
    host: str | None = None  # the launch host that forked the engine; None: a process of its own
    session: str | None = None  # the session that measured it (a baseline has launches of several sessions)


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
    differences: list[Difference] = []  # from the baseline
    baseline: BaselineSide | None = None
    samples: Samples = {}
    points: list[dict[str, Any]] = []  # a sweep's points
    charts: Charts = msgspec.field(default_factory=Charts)
    log_tail: str = ""
    notes: list[str] = []
    failure: str | None = None  # why it was not measured
    launch_s: float | None = None  # wall seconds of the longest launch (pair in a duet), the engine's start included
    launches_short: int = 0  # requested launches that the session's time did not allow

    def baseline_value(self, metric: str) -> float | None:
        """The baseline's value of a metric; None if it has none."""
        return None if self.baseline is None else self.baseline.value(metric)

    def baseline_launches(self, metric: str) -> list[list[float]]:
        """The baseline's rounds per launch of a metric; may be empty."""
        return [] if self.baseline is None else self.baseline.launches(metric)

    def need(self, enough: bool, name: str = "") -> None:
        """NotMeasured, with the verdict's reason, unless an inconclusive measurement has ``enough`` readings.

        NotMeasured ends the test as inconclusive, since it has nothing to assert. ``name``: the requested metric.
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
