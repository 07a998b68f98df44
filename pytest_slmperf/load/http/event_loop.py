"""The event loop of a client process: under load it only sends due requests and reads received bytes."""

from __future__ import annotations

import select
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from pytest_slmperf.load.http.connection import (
    ANCILLARY,
    BUSY,
    CLOSED,
    CONNECTING,
    HANDSHAKE,
    IDLE,
    SHORT,
    Connection,
    named,
    reachable,
    request_head,
    tls_context,
)
from pytest_slmperf.load.http.limits import MOST_FLOODS, TOO_LARGE, answer_bytes, answer_reads
from pytest_slmperf.load.http.receive_buffer import ROOM, Arena
from pytest_slmperf.load.http.wakeups import Nap, Timer
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.schedule import FAR, NS, Schedule

IN, OUT = select.EPOLLIN, select.EPOLLOUT
OVER = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
# Edge-triggered, which saves a poll for the rest of a socket that was just read.
READ, WRITE = IN | select.EPOLLRDHUP | select.EPOLLET, OUT
CHECK_NS = 200_000_000  # between two checks of the deadlines
MAX_READS_PER_TURN = 64
MAX_SENDS_PER_TURN = 16
LAG_BITS = 13  # lags are counted in steps of 2¹³ ns
MARGIN_NS = 200_000  # no nap within this time before a request is due, since a sleep may end late

Progress = Callable[[int, int, int, int], None]  # requests sent, over, running; time in ns


class EventLoop:
    """Plays ``load`` against ``target``. ``key`` is sent with each request and stored nowhere else.

    ``ends``: (reads so far, serial) of every request that is over; ``arena``: the received bytes.
    """

    def __init__(self, target: Target, load: LoadPlan, key: str | None) -> None:
        self.arena = Arena()
        self.ends: list[tuple[int, int]] = []
        self.lags: Counter[int] = Counter()
        self.connections: dict[int, Connection] = {}
        self.stale_reconnects = 0
        self.floods = 0  # answers over their limit
        self.ended_ns = 0
        self.cpu_s = 0.0
        self._poll = select.epoll()
        self._timer = Timer()
        self._poll.register(self._timer.fd, select.EPOLLIN)
        self._family, self._address = reachable(target.host, target.port, load.connect_timeout_s)
        self._tls = (tls_context(target), target.host) if target.tls else None
        self._stamped = load.kernel_stamps and self._tls is None
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()  # serials of requests that wait for a free connection
        self._retried: set[int] = set()
        self._most = load.connections or FAR
        head = request_head(target, key)
        self.data: list[bytes] = []  # the bytes of each request, made before the load starts
        for request in load.requests:
            body = request.body.encode()
            self.data.append(head + b"%d\r\n\r\n" % len(body) + body)
        # Without the bodies, which are in the data and would be in memory twice.
        self.load = replace(load, requests=[request._replace(body="") for request in load.requests])
        self.schedule = Schedule(self.load, self.load.requests)
        self.requests = self.schedule.requests

    def _connect(self) -> Connection:
        connection = Connection(self._address, self._family, self._tls, self._stamped)
        if connection.state != CLOSED:
            connection.deadline = time.monotonic_ns() + round(self.load.connect_timeout_s * NS)
            self.connections[connection.fd] = connection
            self._watch(connection)
        return connection

    def _watch(self, connection: Connection) -> None:
        mask = READ | WRITE if connection.wants_write else READ
        if connection.mask == mask:
            return
        if connection.mask < 0:
            self._poll.register(connection.fd, mask)
        else:
            self._poll.modify(connection.fd, mask)
        connection.mask = mask

    def preconnect(self) -> None:
        """Open connections before the start, whose cost would otherwise be in the first requests. Failures show later."""
        wanted = min(self.load.preconnect or 0, self._most, len(self.data))
        made: list[Connection] = []
        try:
            while len(made) < wanted:
                made.append(self._connect())
        except OSError:  # no more sockets; the requests without one will fail
            pass
        until = time.monotonic() + min(5.0, self.load.connect_timeout_s)
        while time.monotonic() < until and any(c.state in (CONNECTING, HANDSHAKE) for c in made):
            for fd, event in self._poll.poll(0.05):
                connection = self.connections.get(fd)
                if connection is None:
                    continue
                self._attend(connection, event)
        for connection in made:
            if connection.state == IDLE:
                self._idle.append(connection)
            else:
                self._drop(connection)
                connection.close()

    def _drop(self, connection: Connection) -> None:
        if self.connections.get(connection.fd) is connection:  # another connection may have the same descriptor by now
            del self.connections[connection.fd]

    def run(self, start_ns: int, progress: Progress) -> None:
        """Play the load from ``start_ns``."""
        now, schedule, timer, arena, nap = time.monotonic_ns, self.schedule, self._timer, self.arena, Nap()
        schedule.begin(start_ns)
        arena.set_clock()
        while now() < start_ns:
            time.sleep(max(0.0, (start_ns - now()) / NS - 0.0005))
        cpu = time.process_time()
        next_check = start_ns
        poll, read_all, running = self._poll.poll, self._make_reader(), schedule.running
        while not schedule.over:
            t = now()
            if schedule.next_due_ns <= t:
                self._send_due()
            if t >= next_check or arena.flooded:
                next_check = t + CHECK_NS
                arena.flooded = False
                arena.set_clock()
                progress(len(self.requests), len(self.ends), len(running), t)
                self._check_connections(t)
                if schedule.must_end(t) or self.floods >= MOST_FLOODS:
                    self._give_up(t)
                    break
            soonest = min(schedule.next_due_ns, next_check)
            if nap.length_ns and soonest - t > nap.length_ns + MARGIN_NS:
                time.sleep(nap.length_ns / NS)
            timer.arm(soonest)
            events = poll(-1, MAX_READS_PER_TURN)
            woke, first = now(), len(arena.datas)
            read_all(events, woke)
            t = now()
            read = len(arena.datas) - first
            if read:
                self.lags[max(t - woke, arena.end_pass(first, t)) >> LAG_BITS] += read
            if self._stamped:  # otherwise bytes have the time of their read, which would include a nap
                nap.after_pass(read, t, len(running), drained=len(events) < MAX_READS_PER_TURN)
        self.ended_ns = now()
        self.cpu_s = time.process_time() - cpu

    def _make_reader(self) -> Callable[[list[tuple[int, int]], int], None]:
        """A function of (events, time of waking up) that reads all received bytes; its names are bound once, for speed."""
        timer, connections, arena, stamped = self._timer, self.connections, self.arena, self._stamped
        keep, keep_stamp, keep_serial = arena.datas.append, arena.stamps.append, arena.serials.append

        def read_all(events: list[tuple[int, int]], woke: int) -> None:
            for fd, event in events:
                connection = connections.get(fd)
                if connection is None:
                    if fd == timer.fd:
                        timer.clear()
                    continue
                if event == IN and connection.streaming and stamped:
                    # Nearly every event is a piece in the middle of a stream.
                    try:
                        data, notes, _, _ = connection.receive(ROOM, ANCILLARY)
                    except OSError as error:
                        connection.failed(error)
                        data = b""
                    if data:
                        keep(data)
                        keep_stamp(notes[0][2] if notes else arena.stamp())
                        keep_serial(connection.serial)
                        connection.last_ns = woke
                        if data[-4:] != b"\r\n\r\n" and len(data) >= SHORT:
                            connection.last_data = data
                        elif connection.ended(data):
                            connection.finish()
                            self._complete(connection)
                            continue
                        if len(data) < ROOM:
                            continue
                self._attend(connection, event)

        return read_all

    def _attend(self, connection: Connection, event: int) -> None:
        """Handle an event of a connection that is not in the middle of a stream."""
        if event & OUT or connection.state in (CONNECTING, HANDSHAKE):
            connection.on_writable()
        if event & (IN | OVER) and connection.state != CONNECTING:
            connection.last_ns = time.monotonic_ns()
            done = connection.on_readable(self.arena, bool(event & OVER))
            if connection.more:
                self._poll.modify(
                    connection.fd, connection.mask
                )  # edge-triggered: there would be no further event for the rest
            if done:
                self._complete(connection)
                return
        if connection.state == CLOSED:
            self._lost(connection)
        else:
            self._watch(connection)

    def _send_due(self) -> None:
        for _ in range(MAX_SENDS_PER_TURN):  # received answers are read before further requests are sent
            serial = self.schedule.take(time.monotonic_ns())
            if serial is None:
                return
            self._dispatch(serial)

    def _dispatch(self, serial: int) -> None:
        sent = self.requests[serial]
        connection = None
        while self._idle:
            connection = self._idle.pop()
            if connection.state == IDLE:
                break
            connection = None
        if connection is None:
            if len(self.connections) >= self._most:
                self._waiting.append(serial)
                return
            sent.sent_ns = sent.sent_ns or time.monotonic_ns()
            try:
                connection = self._connect()
            except OSError as error:  # no socket at all
                self._finish(serial, named(error))
                return
        sent.sent_ns = sent.sent_ns or time.monotonic_ns()
        if connection.state == CLOSED:
            self._finish(serial, connection.error or "refused")
            return
        connection.last_ns = time.monotonic_ns()
        connection.request(serial, self.data[sent.place], answer_bytes(sent.planned.n_out))
        if connection.state == CLOSED:
            self._lost(connection)
        elif connection.wants_write:
            self._watch(connection)

    def _complete(self, connection: Connection) -> None:
        serial, connection.serial = connection.serial, -1
        if connection.state == CLOSED:
            self._drop(connection)
        else:
            self._idle.append(connection)
            if connection.mask != READ:
                self._watch(connection)
        self._finish(serial, None)

    def _lost(self, connection: Connection) -> None:
        self._drop(connection)
        serial, connection.serial = connection.serial, -1
        if serial < 0:
            return  # an idle connection that the server closed
        stale = connection.used > 0 and connection.unanswered and connection.error in ("disconnected", "reset")
        if stale and serial not in self._retried:
            # The server closed a kept-alive connection at its next use, before it began an answer.
            self._retried.add(serial)
            self.stale_reconnects += 1
            self._dispatch(serial)
            return
        self._finish(serial, connection.error)

    def _finish(self, serial: int, error: str | None) -> None:
        reads = self.arena.reads
        for ended in self.schedule.finish(serial, time.monotonic_ns(), error):
            self.ends.append((reads, ended))
        if self._waiting:
            self._dispatch(self._waiting.popleft())

    def _check_connections(self, t: int) -> None:
        """Give up requests that have exceeded their time limit."""
        stall_ns = round(self.load.stall_timeout_s * NS)
        for connection in list(self.connections.values()):
            error = None
            if connection.state in (CONNECTING, HANDSHAKE) and t > connection.deadline:
                error = "connect_timeout"
            elif connection.serial >= 0 and connection.state in (BUSY, CONNECTING, HANDSHAKE):
                if self.schedule.timed_out(connection.serial, t):
                    error = "timeout"
                elif connection.state == BUSY and t - connection.last_ns > stall_ns:
                    error = "stalled"
                elif self._floods(connection.serial):
                    error = TOO_LARGE
                    self.floods += 1
            if error:
                connection.abort(error)
                self._lost(connection)

    def _floods(self, serial: int) -> bool:
        """Whether an answer has taken more bytes or reads than its tokens can need."""
        n_out = self.requests[serial].planned.n_out
        return self.arena.bytes_of[serial] > answer_bytes(n_out) or self.arena.reads_of[serial] > answer_reads(n_out)

    def _give_up(self, t: int) -> None:
        """End the load: requests without a complete answer are unfinished."""
        for connection in list(self.connections.values()):
            if connection.serial >= 0:
                connection.abort("unfinished")
                self._drop(connection)
        self._waiting.clear()
        reads = self.arena.reads
        self.ends += [(reads, serial) for serial in self.schedule.give_up(t)]

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self._timer.close()
        self._poll.close()
        self.arena.close()
