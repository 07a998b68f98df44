"""The result of a load: the times of every request, column by column, and sums over all tokens."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import LoadSums, RequestRecord
from pytest_slmperf.load.sketch import Sketch

NONE = 0  # in a column: no time


class Requests:
    """Columns of equal length, ~80 bytes a request. Times are CLOCK_MONOTONIC ns, 0 where there is none."""

    def __init__(self) -> None:
        self.number, self.due_ns, self.sent_ns = array("q"), array("q"), array("q")
        self.first_ns, self.last_ns = array("q"), array("q")
        self.n_in, self.n_out, self.inside = array("q"), array("q"), array("q")
        self.hidden = array("q")
        self.measured = array("b")
        self.error: list[str | None] = []
        self.examples: dict[str, str] = {}  # one message per kind of failure
        self.retry_after: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.number)

    def extend(self, records: Iterable[RequestRecord]) -> None:
        for record in records:
            self.add(record)

    def add(self, record: RequestRecord) -> None:
        self.number.append(record.number)
        self.due_ns.append(record.due_ns)
        self.sent_ns.append(record.sent_ns)
        self.first_ns.append(record.first_ns or NONE)
        self.last_ns.append(record.last_ns or NONE)
        self.n_in.append(-1 if record.n_in is None else record.n_in)
        self.n_out.append(record.n_out)
        self.inside.append(record.inside)
        self.hidden.append(record.hidden)
        self.measured.append(record.measured)
        if record.error is None:
            self.error.append(None)
            return
        self.error.append(sys.intern(record.error))
        if not self.examples.get(record.error):
            self.examples[record.error] = record.error_text
        if record.retry_after is not None:
            self.retry_after[record.retry_after] += 1


@dataclass(slots=True)
class Outcome:
    """One load, all clients together. ``itl``: in seconds; ``tiles``: tokens per tile of the window."""

    load: LoadPlan
    start_ns: int
    window_ns: tuple[int, int]
    requests: Requests
    itl: Sketch
    tiles: list[int]
    read_lag: Counter[int]
    clients: list[LoadSums] = field(default_factory=list)

    @property
    def window_s(self) -> float:
        return (self.window_ns[1] - self.window_ns[0]) / 1e9

    @staticmethod
    def merge(load: LoadPlan, start_ns: int, requests: Requests, clients: list[LoadSums]) -> Outcome:
        """Join what the clients counted. The mean of ``itl`` is exact: it is taken from sums and not from bins."""
        itl = Sketch()
        lag: Counter[int] = Counter()
        for sums in clients:
            for gap, times in sums.gaps:
                itl.add(gap / 1e9, times)
            lag.update(dict(sums.read_lag))
        itl.sum = sum(sums.gap_sum_ns for sums in clients) / 1e9
        if load.window_s is not None:
            first, last = clients[0].window_ns
        else:
            begun = requests.due_ns if load.loop == "open" else requests.sent_ns
            first = min(begun)
            last = max(max(requests.last_ns), first + 1)
        tiles = [sum(column) for column in zip(*(sums.tiles for sums in clients), strict=False)]
        if load.window_s is None and len(clients) > 1:
            tiles = []  # the clients' windows differ, so that their tiles cover different times
        return Outcome(load, start_ns, (first, last), requests, itl, tiles, lag, clients)
