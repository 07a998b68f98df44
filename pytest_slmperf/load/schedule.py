"""The schedule of a load: the due times of requests, given the answers so far. No clock, no input, no output.

A driver owns the clock and the engine: it takes due requests, sends them, and reports complete answers.  The load
client over HTTP (``load/http/event_loop.py``) is a driver, and so is the player inside an engine's worker
(``engines/worker/player.py``), so that both play a load by the same rules.  Standard library only and Python 3.10: the
worker loads this file by its path.

Times whose names end in ``_ns`` are CLOCK_MONOTONIC nanoseconds, in ``_s`` seconds after the start.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_slmperf.load.rows import PlannedRequest
    from pytest_slmperf.load.settings import Pacing

NS = 1_000_000_000
FAR = 1 << 62
UNSERVED = frozenset({"refused", "unreachable", "reset", "disconnected", "too_many_files", "no_local_port"})
BACK_OFF_NS = 100_000_000  # pause of a closed loop's user after a connection error, which protects a dead server


class DueRequest:
    """A due request. ``place``: index of ``planned`` in the plan; ``sent_ns``: 0 until it is sent."""

    __slots__ = ("due_ns", "error", "place", "planned", "sent_ns")

    def __init__(self, planned: PlannedRequest, place: int, due_ns: int) -> None:
        self.planned, self.place, self.due_ns = planned, place, due_ns
        self.sent_ns = 0
        self.error: str | None = None


class Schedule:
    """``take`` due requests until ``over``, ``finish`` answered requests, ``give_up`` once the load ``must_end``.

    requests:    all requests that were due so far; a serial is an index in it
    running:     serials of the requests that are not over
    next_due_ns: when the next request is due; FAR if none is left
    """

    def __init__(self, pacing: Pacing, planned: Sequence[PlannedRequest]) -> None:
        self.pacing = pacing
        self.open = pacing.loop == "open"
        self.requests: list[DueRequest] = []
        self.running: dict[int, DueRequest] = {}
        self.repeats = 0
        self.next_due_ns = FAR
        self.start_ns = self.limit_ns = 0
        self.window_ns: tuple[int, int] | None = None
        self._planned = planned
        self._first_turns = [place for place, request in enumerate(planned) if request.after is None]
        self._followers: dict[int, list[int]] = {}
        self._waiting: deque[int] = deque()  # places of requests that no user of a closed loop has taken yet
        self._due: list[tuple[int, int]] = []  # a heap of (due, place)
        self._stop_ns = FAR  # a closed loop sends nothing from this time
        self._last_due_ns = 0
        self._given_up = False

    def begin(self, start_ns: int) -> None:
        """Compute the schedule from ``start_ns``."""
        pacing = self.pacing
        self.start_ns = self._last_due_ns = start_ns
        self.limit_ns = start_ns + round(pacing.limit_s * NS)
        if pacing.window_s is not None:
            first = start_ns + round(pacing.warmup_s * NS)
            self.window_ns = first, first + round(pacing.window_s * NS)
            self._stop_ns = self.window_ns[1]
        place_of = {request.number: place for place, request in enumerate(self._planned)}
        for place, request in enumerate(self._planned):
            if request.after is not None:
                self._followers.setdefault(place_of[request.after], []).append(place)
        if self.open:
            self._due = [(start_ns + round((self._planned[at].due or 0.0) * NS), at) for at in self._first_turns]
            heapq.heapify(self._due)
            self._look_ahead()
        else:
            self._waiting.extend(self._first_turns)
            self._let_users_in()

    def _let_users_in(self) -> None:
        """Let users enter evenly over the ramp. Only users with a request count, so that the last enters at its end."""
        pacing = self.pacing
        users = pacing.concurrency or 1
        if not pacing.cycle:
            users = min(users, len(self._first_turns))
        for user in range(users):
            self._next_of_a_user(self.start_ns + round(pacing.ramp_s * NS * user / users))

    def _next_of_a_user(self, due_ns: int) -> None:
        if not self._waiting and self.pacing.cycle:
            self.repeats += 1
            self._waiting.extend(self._first_turns)
        if self._waiting:
            self._push(due_ns, self._waiting.popleft())

    def _push(self, due_ns: int, place: int) -> None:
        if self.open or due_ns < self._stop_ns:
            heapq.heappush(self._due, (due_ns, place))
            self._look_ahead()

    def _look_ahead(self) -> None:
        self.next_due_ns = self._due[0][0] if self._due else FAR

    def _add(self, due_ns: int, place: int) -> int:
        serial = len(self.requests)
        self._last_due_ns = max(self._last_due_ns, due_ns)
        self.running[serial] = request = DueRequest(self._planned[place], place, due_ns)
        self.requests.append(request)
        return serial

    def take(self, now_ns: int) -> int | None:
        """The serial of the next request that is due by ``now_ns`` and within the load's limit, or None.

        The driver sets its ``sent_ns``.
        """
        if self.next_due_ns > min(now_ns, self.limit_ns):
            return None
        due_ns, place = heapq.heappop(self._due)
        self._look_ahead()
        return self._add(due_ns, place)

    def finish(self, serial: int, now_ns: int, error: str | None = None) -> list[int]:
        """End a request, with ``error`` if it failed; returns all serials that are thereby over.

        The next turn, or the next request of a closed loop's user, becomes due.  The later turns of a failed conversation
        are over too: they count as due, never sent and failed.  Empty for a request that was over already.
        """
        request = self.running.pop(serial, None)
        if request is None:
            return []
        request.error = error
        ended = [serial]
        followers = self._followers.get(request.place, ())
        for place in followers:
            if error is None:
                self._push(now_ns + round(self._planned[place].pause * NS), place)
            else:
                ended += self._skip(place, now_ns)
        if not self.open and not followers and not self._given_up and now_ns < self._stop_ns:
            self._next_of_a_user(now_ns + (BACK_OFF_NS if error in UNSERVED else 0))
        return ended

    def _skip(self, place: int, now_ns: int) -> list[int]:
        serial = self._add(now_ns, place)
        self.requests[serial].sent_ns = now_ns
        return self.finish(serial, now_ns, "earlier_turn_failed")

    def timed_out(self, serial: int, now_ns: int) -> bool:
        """Whether the request has exceeded its time limit."""
        return now_ns - self.requests[serial].sent_ns > self.pacing.request_timeout_s * NS

    def must_end(self, now_ns: int) -> bool:
        """Whether the load's time limit, or the drain time after the last arrival, has passed."""
        if now_ns > self.limit_ns:
            return True
        last_ns = self._stop_ns if not self.open else FAR if self._due else self._last_due_ns
        return now_ns > last_ns + self.pacing.drain_s * NS

    def give_up(self, now_ns: int) -> list[int]:
        """End the load: running requests, and due requests that were not taken, are unfinished. Returns their serials."""
        self._given_up = True
        serials = list(self.running)
        while self._due and self._due[0][0] <= min(now_ns, self.limit_ns):
            due_ns, place = heapq.heappop(self._due)
            serials.append(self._add(due_ns, place))
        self._due.clear()
        self._look_ahead()
        ended = []
        for serial in serials:
            self.requests[serial].sent_ns = self.requests[serial].sent_ns or now_ns
            ended += self.finish(serial, now_ns, "unfinished")
        return ended

    @property
    def over(self) -> bool:
        """Whether no request is running and none will be due."""
        return not self._due and not self.running

    def measures(self, request: DueRequest) -> bool:
        """Whether the request belongs to the window: by its due time in open loop, by its sending in closed loop."""
        if self.window_ns is None:
            return True
        return self.window_ns[0] <= (request.due_ns if self.open else request.sent_ns) < self.window_ns[1]
