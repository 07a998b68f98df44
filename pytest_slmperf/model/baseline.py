"""The record of a baseline: the launches of one test from several sessions, under one fingerprint and one name."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from pytest_slmperf.model.energy import Metered
from pytest_slmperf.model.result import SCHEMA_VERSION, Commit, Engine, Machine


class BaselineMetric(msgspec.Struct, kw_only=True):
    """One metric of one session: a list of clean rounds per engine launch, and per launch the relative error bound of its
    readings (only for energy, else empty) and its launch host (empty if no launch was forked)."""

    unit: str
    better: Literal["higher", "lower", "none"]
    launches: list[list[float]]
    bounds: list[float] = []
    hosts: list[str | None] = []


class Distribution(msgspec.Struct, kw_only=True):
    """The distribution of one latency: ``quantiles`` at evenly spaced levels, from the least value to the greatest."""

    unit: str
    quantiles: list[float]


class BaselineSession(msgspec.Struct, kw_only=True):
    """One session's launches of one test. ``reason``: the user's reason for their approval. ``doubts``: gated metric → why
    it has no reading, or why its reading cannot be relied on."""

    id: str
    started_at: str
    metrics: dict[str, BaselineMetric]
    distributions: dict[str, Distribution] = {}  # latency (ttft, itl, …) → all launches together; older files have none
    commit: Commit = msgspec.field(default_factory=Commit)
    approved_at: str | None = None
    reason: str | None = None
    engine_version: str | None = None
    plugin_version: str | None = None
    metered: Metered | None = None  # meter and devices of its energy; None: no energy, or an older file
    doubts: dict[str, str] = {}  # older files have none
    launch_s: float | None = None  # wall seconds of the longest launch, from which later sessions plan their time


class Baseline(msgspec.Struct, kw_only=True):
    """The baseline of one test, oldest session first. ``engine`` and ``machine``: of the newest session; ``work``: the
    scenario's demands on the engine, which must be equal in a comparison."""

    id: str
    name: str
    fingerprint: str
    identity: dict[str, Any]
    work: dict[str, Any]
    engine: Engine
    machine: Machine
    sessions: list[BaselineSession]
    schema_version: int = SCHEMA_VERSION

    @property
    def newest(self) -> BaselineSession:
        return self.sessions[-1]


class HistoryPoint(msgspec.Struct, kw_only=True):
    """One session of one test in the history: the mean of each launch per metric, for trends."""

    session: str
    started_at: str
    commit: Commit = msgspec.field(default_factory=Commit)
    approved: bool = False
    engine_version: str | None = None
    work: dict[str, Any] = {}
    launches: dict[str, list[float]] = {}  # metric → mean of the clean rounds of each launch
    metered: Metered | None = None  # meter and devices of its energy; None: no energy, or an older point
    schema_version: int = SCHEMA_VERSION
