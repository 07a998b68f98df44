"""The rows of a load: a planned request, and the report of a client or worker about it.

Standard library only and Python 3.10: an engine's worker loads this file by its path.  A row travels as a JSON list, which a
NamedTuple is to ``json.dumps``; the class's ``_make`` decodes one.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


class PlannedRequest(NamedTuple):
    """One request of a load.

    due:         seconds after the start; None in closed loop and for a later turn of a conversation
    after:       number of the request that must be answered first
    pause:       seconds between that answer and this request
    body:        the JSON that an HTTP client sends
    n_in, n_out: intended numbers of tokens
    parts, ids:  segments (see ``prompts/segments.py``) or ids from which a worker makes the prompt
    """

    number: int
    body: str = ""
    due: float | None = None
    after: int | None = None
    pause: float = 0.0
    n_in: int | None = None
    n_out: int | None = None
    parts: Sequence[Sequence[Any]] | None = None
    ids: Sequence[int] | None = None


class RequestRecord(NamedTuple):
    """The report of one request. Times are CLOCK_MONOTONIC ns or None.

    ``n_in``: prompt tokens as the server counts them, None where it does not say.  ``inside``: output tokens that came
    inside the window.  ``measured``: the request belongs to the window.  ``retry_after``: the header of that name.
    ``hidden``: of ``n_out`` the tokens of reasoning that the server counted and did not send.
    """

    number: int
    due_ns: int
    sent_ns: int
    first_ns: int | None = None
    last_ns: int | None = None
    n_in: int | None = None
    n_out: int = 0
    status: int | None = None
    error: str | None = None
    error_text: str = ""
    retry_after: str | None = None
    inside: int = 0
    measured: bool = True
    hidden: int = 0


class RequestTiming(NamedTuple):
    """One request of an offline round. Times are CLOCK_MONOTONIC seconds; None if the engine does not report them."""

    t_sent: float
    t_first: float | None
    t_last: float | None
    n_in: int
    n_out: int


def peak_memory_bytes() -> int:
    """Most resident memory of this process since it was executed: ``ru_maxrss`` would keep its parent's before that."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            peak = next(line.split()[1] for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(peak) * 1024


@dataclass(slots=True)
class LoadSums:
    """Sums over all tokens of one client or worker.

    gaps:          (gap in ns, count), rising; ``gap_sum_ns`` is exact
    tiles:         tokens per equal part of ``window_ns``
    read_lag:      (ns that bytes waited to be read, count)
    cpu_s:         processor time during the load
    reading_cpu_s: processor time of reading the answers afterwards
    """

    gaps: Sequence[tuple[int, int]]
    gap_sum_ns: int
    gap_count: int
    tiles: list[int]
    window_ns: tuple[int, int]
    read_lag: list[tuple[int, int]] = field(default_factory=list)
    cpu_s: float = 0.0
    reading_cpu_s: float = 0.0
    wall_s: float = 0.0
    stale_reconnects: int = 0
    repeats: int = 0
    counted_by_events: int = 0
    received_bytes: int = 0
    max_rss_bytes: int = 0


@dataclass(slots=True)
class EngineStatistics:
    """The engine's own report of a load; None for a figure that it does not report. ``kv_cache_peak``: percent."""

    preemptions: int | None = None
    kv_cache_peak: float | None = None
    mean_running: float | None = None
    steps: int | None = None


@dataclass(slots=True)
class PlayReport:
    """The result of a load that was played inside an engine's worker."""

    start_ns: int
    records: Sequence[RequestRecord]
    sums: LoadSums
    engine: EngineStatistics = field(default_factory=EngineStatistics)
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "start_ns": self.start_ns,
            "records": self.records,
            "sums": asdict(self.sums),
            "engine": asdict(self.engine),
            "evidence": self.evidence,
        }

    @staticmethod
    def from_wire(message: Mapping[str, Any]) -> PlayReport:
        """The report that ``to_wire`` wrote."""
        return PlayReport(
            message["start_ns"],
            records_of(message["records"]),
            LoadSums(**message["sums"]),
            EngineStatistics(**message["engine"]),
            message["evidence"],
        )


def records_of(rows: Iterable[Sequence[Any]]) -> list[RequestRecord]:
    """Records from JSON lists."""
    return [RequestRecord._make(row) for row in rows]
