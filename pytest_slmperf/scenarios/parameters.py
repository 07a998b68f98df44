"""Types of the parameters that a test gives to ``slmperf.serving(...)`` and the like, for editors and type checkers.

Standard library only: the fixtures are imported whenever pytest loads the plugin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    from pytest_slmperf.load.arrivals import Arrivals
    from pytest_slmperf.load.latencies import Slo
    from pytest_slmperf.load.requests import Workload

Value = str | int | float | bool
EngineArgument: TypeAlias = str | int | float | bool

T = TypeVar("T")
OneOrMore: TypeAlias = T | Sequence[T]  # in a sweep: a sequence is varied, a single value is fixed


class ServingLoad(TypedDict, total=False):
    """The load of ``slmperf.serving`` without its rate. Times in seconds, lengths in tokens; see ``Slmperf.serving``."""

    # when requests come
    burstiness: float | None
    arrivals: Literal["poisson", "constant", "gamma"] | Arrivals | Sequence[float] | None
    rate_to: float | None
    concurrency: int | None
    trace_speed: float
    # what they ask for
    input_len: int | None
    output_len: int | None
    workload: str | Path | Workload | None
    length_scale: float
    prefix_len: int
    prefix_groups: int
    turns: int
    trace_unit: Literal["s", "ms"] | None
    skip_empty: bool
    ignore_eos: bool
    prefix_caching: bool
    seed: int
    # what is measured
    duration_s: float | None
    num_requests: int | None
    warmup_s: float
    ramp_s: float
    rounds: int | None
    cold: bool
    slo: Mapping[str, float] | Slo | None
    tolerated_failures: float
    # the client
    drain_s: float | None
    limit_s: float
    request_timeout_s: float
    stall_timeout_s: float
    clients: int | None
