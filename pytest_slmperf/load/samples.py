"""What a load brought back: the times of every request, column by column, and sums over all tokens."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.load.plan import Load
from pytest_slmperf.load.sketch import Sketch

NONE = 0  # a time that was never taken


class Requests:
    """Columns of equal length, ~70 bytes a request. Times are CLOCK_MONOTONIC ns, 0 where there is none."""

    def __init__(self) -> None:
        self.index, self.due_ns, self.sent_ns = array("q"), array("q"), array("q")
        self.first_ns, self.last_ns = array("q"), array("q")
        self.n_in, self.n_out, self.inside = array("q"), array("q"), array("q")
        self.measured = array("b")
        self.error: list[str | None] = []
        self.examples: dict[str, str] = {}  # one message per kind of failure
        self.retry_after: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.index)

    def add(self, row: list[Any]) -> None:
        """A row as a client process writes it (``client.ROW``)."""
        index, due, sent, first, last, n_in, n_out, _, error, text, retry_after, inside, measured = row
        self.index.append(index)
        self.due_ns.append(due)
        self.sent_ns.append(sent)
        self.first_ns.append(first or NONE)
        self.last_ns.append(last or NONE)
        self.n_in.append(-1 if n_in is None else n_in)
        self.n_out.append(n_out)
        self.inside.append(inside)
        self.measured.append(bool(measured))
        if error is not None:
            if text or error not in self.examples:
                self.examples.setdefault(error, text)
            if retry_after is not None:
                self.retry_after[retry_after] += 1
        self.error.append(None if error is None else sys.intern(error))


@dataclass(slots=True)
class Outcome:
    """One load, all clients together. ``itl`` is in seconds; ``tiles`` are tokens per tile of the window."""

    load: Load
    start_ns: int
    window_ns: tuple[int, int]
    requests: Requests
    itl: Sketch
    tiles: list[int]
    read_lag: Counter[int]
    clients: list[dict[str, Any]] = field(default_factory=list)

    @property
    def window_s(self) -> float:
        return (self.window_ns[1] - self.window_ns[0]) / 1e9

    @staticmethod
    def merge(load: Load, start_ns: int, requests: Requests, sums: list[dict[str, Any]]) -> Outcome:
        """Join what the clients counted. The mean of ``itl`` stays exact: sums are sent, not bins, for it."""
        itl = Sketch()
        lag: Counter[int] = Counter()
        for one in sums:
            for gap, times in one["gaps"]:
                itl.add(gap / 1e9, times)
            lag.update(dict(one["read_lag"]))
        itl.sum = sum(one["gap_sum_ns"] for one in sums) / 1e9
        if load.window_s is not None:
            first, last = sums[0]["window_ns"]
        else:
            begun = requests.due_ns if load.loop == "open" else requests.sent_ns
            first = min(begun)
            last = max(max(requests.last_ns), first + 1)
        tiles = [sum(column) for column in zip(*(one["tiles"] for one in sums), strict=False)]
        if load.window_s is None and len(sums) > 1:
            tiles = []  # each client's own window: their tiles do not lie over each other
        about = ("cpu_s", "reading_cpu_s", "wall_s", "stale_reconnects", "repeats", "counted_by_events", "bytes",
                 "max_rss_bytes")  # fmt: skip
        return Outcome(
            load=load,
            start_ns=start_ns,
            window_ns=(first, last),
            requests=requests,
            itl=itl,
            tiles=tiles,
            read_lag=lag,
            clients=[{name: one.get(name, 0) for name in about} for one in sums],
        )
