"""What the measuring loop needs to know about one test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.verdict import Gate
from pytest_slmperf.util.formatting import portion


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the measuring loop needs to know about one test. Times in seconds, shares as fractions.

    ``tolerance`` and ``limit`` by metric; None stands for every metric without a margin in the mapping, and is always there.
    """

    spec: EngineSpec
    launches: int
    max_launches: int
    rounds: int
    most_rounds: int
    gate: bool | frozenset[str]
    tolerance: Mapping[str | None, float]
    limit: Mapping[str | None, float]
    energy_bound: float
    max_time: float | None
    start_timeout: float
    round_timeout: float
    evidence_limits: Mapping[str, float | None] = field(default_factory=dict)  # by name of a contamination limit
    quarantined: str | None = None  # the reason, when the ini lists the test

    def asks_for(self, name: str) -> bool:
        """Whether the test itself names this metric in ``gate``: without a reading of it nothing is green."""
        return isinstance(self.gate, frozenset) and name in self.gate

    def gates(self, default: tuple[str, ...]) -> tuple[Gate, ...]:
        """The metrics to judge. ``default``: the scenario's own. Raises InvalidInput for margins that contradict."""
        chosen = default if isinstance(self.gate, bool) else tuple(sorted(self.gate))
        may_fail = bool(self.gate) and self.quarantined is None
        result = []
        for name in chosen:
            known = metric(name)
            if known.better == "none":
                raise InvalidInput(f"metric {name!r} has no better direction and cannot be gated")
            tolerance = self.tolerance.get(name, self.tolerance[None])
            limit = self.limit.get(name, self.limit[None])
            if tolerance >= limit:
                raise InvalidInput(
                    f"{name}: tolerance {portion(tolerance)} must be below limit {portion(limit)}; "
                    "set --slmperf-tolerance or --slmperf-limit (or the marker's keys) so that it is"
                )
            result.append(Gate(name, known.better, tolerance, limit, may_fail))
        return tuple(result)
