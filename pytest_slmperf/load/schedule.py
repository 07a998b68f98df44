"""A schedule played inside an engine's process: what is due when, and what came of it. Knows no engine.

Standard library only and Python 3.10.  The plan is JSON: ``loop`` ("open" or "closed"); ``requests``, rows of
``[index, due s or null, prompt tokens, output tokens, index to follow or null, pause s, segments or null, ids or null]``;
``seed``; ``concurrency``, ``ramp_s``, ``cycle``; ``warmup_s``, ``window_s`` or null; ``drain_s``, ``limit_s``,
``request_timeout_s``.  The report has the form of a load client's (``loadgen/client.py``), so both are read alike.
Times are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.load import token_counter as tallies
    from pytest_slmperf.load.prompts import segments

    tools: Any
else:
    import slmperf_worker_tools as tools

    tallies = tools.load_own("load/token_counter")
    segments = tools.load_own("load/prompts/segments")

FAR = 1 << 62
NS = 1_000_000_000


class _Running:
    __slots__ = ("at", "due", "index", "n_in", "sent", "times", "tokens")

    def __init__(self, index: int, at: int, due: int, sent: int, n_in: int) -> None:
        self.index, self.at, self.due, self.sent, self.n_in = index, at, due, sent, n_in
        self.times: list[int] = []
        self.tokens: list[int] = []


class Play:
    """``take`` what is due, tell ``tokens`` and ``finish``, stop when ``over``, then ``report``."""

    def __init__(self, plan: dict[str, Any], vocabulary: int) -> None:
        self.plan = plan
        self.open = plan["loop"] == "open"
        self.requests = plan["requests"]
        self.prompts = [
            list(row[7]) if row[7] is not None else segments.join(row[6], vocabulary, plan["seed"])
            for row in self.requests
        ]
        self.running: dict[int, _Running] = {}
        self.rows: list[list[Any]] = []
        self.repeats = 0
        self.ended = False
        self._serial = 0
        self._heap: list[tuple[int, int]] = []
        self._todo: deque[int] = deque()
        self._followers: dict[int, list[int]] = {}
        self._last_due = 0
        self.start = 0

    def begin(self, start_ns: int) -> None:
        """Lay the schedule out from ``start_ns`` on."""
        plan = self.plan
        self.start = self._last_due = start_ns
        self.limit = start_ns + round(plan["limit_s"] * NS)
        if plan["window_s"] is None:
            self.window = (start_ns, self.limit)
            self.stop = FAR
        else:
            first = start_ns + round(plan["warmup_s"] * NS)
            self.window = (first, first + round(plan["window_s"] * NS))
            self.stop = self.window[1]
        tiles = 1 if plan["window_s"] is None else max(1, min(600, round(plan["window_s"])))
        self.tally = tallies.Tally(self.window[0], self.window[1], tiles)
        place = {row[0]: at for at, row in enumerate(self.requests)}
        for at, row in enumerate(self.requests):
            if row[4] is not None:
                self._followers.setdefault(place[row[4]], []).append(at)
            elif self.open:
                heapq.heappush(self._heap, (start_ns + round(row[1] * NS), at))
            else:
                self._todo.append(at)
        if not self.open:
            for slot in range(plan["concurrency"]):
                following = self._next()
                if following is not None:
                    wait = round(plan["ramp_s"] * NS * slot / plan["concurrency"])
                    heapq.heappush(self._heap, (start_ns + wait, following))

    def _next(self) -> int | None:
        if not self._todo:
            if not self.plan["cycle"]:
                return None
            self.repeats += 1
            self._todo.extend(at for at, row in enumerate(self.requests) if row[4] is None)
        return self._todo.popleft()

    def next_due(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def take(self, now: int, busy: bool) -> list[tuple[int, list[int], int]]:
        """(serial, prompt ids, output tokens) of what is due. ``busy``: the engine could not have been given it earlier,
        so the wait is the engine's and not the sender's."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, at = heapq.heappop(self._heap)
            if not self.open and due >= self.stop:
                continue
            row = self.requests[at]
            serial, self._serial = self._serial, self._serial + 1
            self._last_due = max(self._last_due, due)
            self.running[serial] = _Running(row[0], at, due, due if busy else now, len(self.prompts[at]))
            taken.append((serial, self.prompts[at], row[3]))
        return taken

    def tokens(self, serial: int, at_ns: int, count: int) -> None:
        if count and serial in self.running:
            self.running[serial].times.append(at_ns)
            self.running[serial].tokens.append(count)

    def finish(self, serial: int, at_ns: int, error: str | None = None, text: str = "") -> None:
        """The request is over; with ``error`` it failed. Whoever waited for it is due."""
        one = self.running.pop(serial, None)
        if one is None:
            return
        if error is None and not one.times:
            error = "no_tokens"
        begun = one.due if self.open else one.sent
        measured = self.plan["window_s"] is None or self.window[0] <= begun < self.window[1]
        inside = self.tally.add(one.times, one.tokens, measured and error is None)
        first, last = (one.times[0], one.times[-1]) if one.times else (None, None)
        made = sum(one.tokens)
        self.rows.append([one.index, one.due, one.sent, first, last, one.n_in, made, None, error,
                          " ".join(text.split())[:300], None, inside, measured])  # fmt: skip
        followers = self._followers.get(one.at, ())
        for follower in followers:
            if error is None:
                heapq.heappush(self._heap, (at_ns + round(self.requests[follower][5] * NS), follower))
            else:
                self._skip(follower, at_ns)
        if not self.open and not followers and at_ns < self.stop and not self.ended:
            following = self._next()
            if following is not None:
                heapq.heappush(self._heap, (at_ns, following))

    def _skip(self, at: int, now: int) -> None:
        serial, self._serial = self._serial, self._serial + 1
        self.running[serial] = _Running(self.requests[at][0], at, now, now, len(self.prompts[at]))
        self.finish(serial, now, "earlier_turn_failed")

    def expired(self, now: int) -> list[int]:
        """Serials to give up, with their rows already written: too old, or the whole play has taken too long."""
        timeout = round(self.plan["request_timeout_s"] * NS)
        given_up = [serial for serial, one in self.running.items() if now - one.sent > timeout]
        for serial in given_up:
            self.finish(serial, now, "timeout")
        drain = round(self.plan["drain_s"] * NS)
        last = (self._last_due if self.open else self.stop) if not (self.open and self._heap) else FAR
        if now > self.limit or now > last + drain:
            self.ended = True
            given_up += list(self.running)
            for serial in list(self.running):
                self.finish(serial, now, "unfinished")
            while self._heap:
                due, at = heapq.heappop(self._heap)
                if due <= now and (self.open or due < self.stop):
                    serial, self._serial = self._serial, self._serial + 1
                    self.running[serial] = _Running(self.requests[at][0], at, due, now, len(self.prompts[at]))
                    self.finish(serial, now, "unfinished")
        return given_up

    def over(self) -> bool:
        return self.ended or not (self._heap or self.running)

    def report(self, cpu_s: float) -> dict[str, Any]:
        """Rows and sums as a load client reports them."""
        import resource

        done = {
            "gaps": self.tally.gaps,
            "gap_sum_ns": self.tally.gap_sum,
            "gap_count": self.tally.gap_count,
            "tiles": self.tally.tiles,
            "window_ns": list(self.window),
            "read_lag": [],
            "cpu_s": cpu_s,
            "wall_s": (time.monotonic_ns() - self.start) / NS,
            "stale_reconnects": 0,
            "repeats": self.repeats,
            "counted_by_events": 0,
            "bytes": 0,
            "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        return {"rows": self.rows, "done": done, "start_ns": self.start}


def check_lengths(play: Play, longest: int) -> None:
    """WorkerFault where a request has more tokens than ``longest``."""
    for prompt, row in zip(play.prompts, play.requests):  # noqa: B905 (one length)
        if len(prompt) + row[3] > longest:
            raise tools.WorkerFault(
                "input",
                f"a request of {len(prompt)}+{row[3]} tokens is longer than the engine's max_model_len of {longest}",
                "Shorten it, or give the engine a larger max_model_len.",
            )
