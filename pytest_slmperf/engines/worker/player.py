"""Playing a load inside an engine's worker, for any engine: its schedule, the prompts, and the times of all tokens.

Standard library only and Python 3.10.  The plan is what ``LoadPlan.for_worker`` writes, the report a ``PlayReport``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import rows, schedule, settings, token_counter
    from pytest_slmperf.load.prompts import segments
else:
    import slmperf_worker_tools as tools

    rows = tools.load_own("load/rows")
    schedule = tools.load_own("load/schedule")
    settings = tools.load_own("load/settings")
    token_counter = tools.load_own("load/token_counter")
    segments = tools.load_own("load/prompts/segments")


class Prompt(NamedTuple):
    """A request for the engine: token ids, and the number of output tokens."""

    serial: int
    ids: list[int]
    n_out: int


class Chunks:
    """The tokens of one answer so far: arrival times (ns) and the number of tokens at each."""

    __slots__ = ("times", "tokens")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.tokens: list[int] = []


class Player:
    """``take`` what is due, note ``tokens`` and ``finish``, stop when ``over``, then ``report``.

    ``vocabulary``: number of token ids from which prompts given as segments are drawn.
    """

    def __init__(self, pacing: settings.Pacing, planned: Sequence[rows.PlannedRequest], vocabulary: int) -> None:
        self.pacing, self.planned = pacing, planned
        self.prompts = [
            segments.join(request.parts or (), vocabulary, pacing.seed) if request.ids is None else list(request.ids)
            for request in planned
        ]
        self.schedule = schedule.Schedule(pacing, planned)
        self.records: list[rows.RequestRecord] = []
        self._chunks: dict[int, Chunks] = {}

    @staticmethod
    def of(plan: Mapping[str, Any], vocabulary: int) -> Player:
        """From a plan that ``LoadPlan.for_worker`` wrote."""
        planned = [rows.PlannedRequest._make(row) for row in plan["requests"]]
        return Player(settings.Pacing(**plan["pacing"]), planned, vocabulary)

    @property
    def ignore_eos(self) -> bool:
        return self.pacing.ignore_eos

    @property
    def start_ns(self) -> int:
        return self.schedule.start_ns

    @property
    def running(self) -> bool:
        """Whether a request is running."""
        return bool(self._chunks)

    def check_lengths(self, longest: int) -> None:
        """WorkerFault if a request has more tokens than ``longest``."""
        for ids, request in zip(self.prompts, self.planned):  # noqa: B905 (Python 3.10, and equal lengths)
            tools.refuse_longer_than(longest, len(ids), request.n_out or 0)

    def begin(self, start_ns: int) -> None:
        """Start the load at ``start_ns``."""
        self.schedule.begin(start_ns)
        window = self.schedule.window_ns
        tiles = 1 if window is None else max(1, min(600, round(self.pacing.window_s or 0.0)))
        self.window_ns = window or (start_ns, self.schedule.limit_ns)
        self.tally = token_counter.Tally(*self.window_ns, tiles)

    def next_due(self) -> int | None:
        """When the next request is due (ns); None if no request is left."""
        due_ns = self.schedule.next_due_ns
        return None if due_ns == schedule.FAR else due_ns

    def take(self, now: int, busy: bool) -> list[Prompt]:
        """The requests that are due. ``busy``: the engine could not accept them earlier, so that their delay counts as the
        engine's, not as the sender's."""
        taken = []
        while (serial := self.schedule.take(now)) is not None:
            request = self.schedule.requests[serial]
            request.sent_ns = request.due_ns if busy else now
            self._chunks[serial] = Chunks()
            taken.append(Prompt(serial, self.prompts[request.place], request.planned.n_out or 0))
        return taken

    def tokens(self, serial: int, at_ns: int, count: int) -> None:
        """Record ``count`` tokens of a request that arrived at ``at_ns``."""
        chunks = self._chunks.get(serial)
        if count and chunks is not None:
            chunks.times.append(at_ns)
            chunks.tokens.append(count)

    def finish(self, serial: int, at_ns: int, error: str | None = None, text: str = "") -> None:
        """Record the end of a request, which failed if ``error`` is given. The next turn, or the user's next request, is
        then due."""
        chunks = self._chunks.get(serial)
        if chunks is None:
            return
        if error is None and not chunks.times:
            error = "no_tokens"
        for ended in self.schedule.finish(serial, at_ns, error):
            self._record(ended, text if ended == serial else "")

    def expired(self, now: int) -> list[int]:
        """Serials of requests that the engine must give up: those that ran out of time, or all once the load must end.
        Their records are written here."""
        given_up = [serial for serial in self._chunks if self.schedule.timed_out(serial, now)]
        for serial in given_up:
            self.finish(serial, now, "timeout")
        if self.schedule.must_end(now):
            given_up += list(self._chunks)
            for serial in self.schedule.give_up(now):
                self._record(serial, "")
        return given_up

    def _record(self, serial: int, text: str) -> None:
        request, chunks = self.schedule.requests[serial], self._chunks.pop(serial, None) or Chunks()
        measured = self.schedule.measures(request)
        self.records.append(
            rows.RequestRecord(
                number=request.planned.number,
                due_ns=request.due_ns,
                sent_ns=request.sent_ns,
                first_ns=chunks.times[0] if chunks.times else None,
                last_ns=chunks.times[-1] if chunks.times else None,
                n_in=len(self.prompts[request.place]),
                n_out=sum(chunks.tokens),
                error=request.error,
                error_text=" ".join(text.split())[:300],
                inside=self.tally.add(chunks.times, chunks.tokens, measured and request.error is None),
                measured=measured,
            )
        )

    def over(self) -> bool:
        return self.schedule.over

    def report(self, engine: rows.EngineStatistics, evidence: dict[str, Any], cpu_s: float = 0.0) -> rows.PlayReport:
        """The report of the load in the form of a load client's, with the engine's own statistics."""
        sums = rows.LoadSums(
            gaps=self.tally.gaps,
            gap_sum_ns=self.tally.gap_sum,
            gap_count=self.tally.gap_count,
            tiles=self.tally.tiles,
            window_ns=self.window_ns,
            cpu_s=cpu_s,
            wall_s=(time.monotonic_ns() - self.start_ns) / schedule.NS,
            repeats=self.schedule.repeats,
            max_rss_bytes=rows.peak_memory_bytes(),
        )
        return rows.PlayReport(self.start_ns, self.records, sums, engine, evidence)
