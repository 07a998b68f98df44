"""The loop of a client process: what is due is sent, what has come is read, nothing else is done while the load runs."""

from __future__ import annotations

import heapq
import select
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

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
)
from pytest_slmperf.load.http.receive_buffer import ROOM, Arena
from pytest_slmperf.load.http.timer import Timer
from pytest_slmperf.load.http.wakeup_batching import Nap

IN, OUT = select.EPOLLIN, select.EPOLLOUT
OVER = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
# edge-triggered: a socket that was read is not asked again whether it has more
READ, WRITE = IN | select.EPOLLRDHUP | select.EPOLLET, OUT
CHECK_NS = 200_000_000  # how often deadlines are looked at
READS = 64  # before what is due is sent
SENDS = 16  # before what has come is read
LAG_BITS = 13  # lags are counted in steps of 2¹³ ns
MARGIN_NS = 200_000  # before something is due no nap is taken: a sleep may end late
FAR = 1 << 62
UNSERVED = {"refused", "unreachable", "reset", "disconnected", "too_many_files", "no_local_port"}
PAUSE_NS = (
    100_000_000  # of a closed loop's user behind one of these, or a dead server is asked as fast as the machine can
)

Progress = Callable[[int, int, int, int], None]


def reachable(host: str, port: int) -> tuple[int, Any]:
    """Family and address of ``host``; of several (localhost: ::1 and 127.0.0.1) the first that takes a connection."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, address in found if len(found) > 1 else ():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            if probe.connect_ex(address) == 0:
                return int(family), address
    return int(found[0][0]), found[0][4]


class Sent:
    """A request that was due; ``at`` is its place in the plan."""

    __slots__ = ("at", "due_ns", "error", "index", "retried", "sent_ns")

    def __init__(self, index: int, at: int, due_ns: int, sent_ns: int) -> None:
        self.index, self.at, self.due_ns, self.sent_ns = index, at, due_ns, sent_ns
        self.error: str | None = None
        self.retried = False


class Loop:
    """Plan (all times in seconds from the start):

    ``host, port, path, headers, tls, ca_file, insecure`` – where to; ``loop`` – "open" or "closed"; ``requests`` –
    [index, due or null, body, index of the request to follow or null, pause after it]; ``concurrency, ramp_s, cycle,
    stop_s`` – closed loop; ``request_timeout_s, stall_timeout_s, connect_timeout_s, drain_s, limit_s``;
    ``connections`` – most open at once; ``preconnect``.
    """

    def __init__(self, plan: dict[str, Any], key: str | None) -> None:
        self.plan = plan
        self.arena = Arena()
        self.requests: list[Sent] = []
        self.ends: list[tuple[int, int]] = []
        self.lags: Counter[int] = Counter()
        self.connections: dict[int, Connection] = {}
        self.stale_reconnects = 0
        self.repeats = 0
        self.started_ns = self.ended_ns = 0
        self.cpu_s = 0.0
        self._poll = select.epoll()
        self._timer = Timer()
        self._poll.register(self._timer.fd, select.EPOLLIN)
        self._family, self._address = reachable(plan["host"], plan["port"])
        self._tls: tuple[ssl.SSLContext, str] | None = None
        if plan.get("tls"):
            context = ssl.create_default_context(cafile=plan.get("ca_file"))
            if plan.get("insecure"):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._tls = (context, plan["host"])
        self._stamped = bool(plan.get("kernel_stamps", True)) and self._tls is None
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()  # serials that found every connection taken
        self._most = plan.get("connections") or FAR
        self._open = plan["loop"] == "open"
        self._followers: dict[int, list[int]] = {}
        self._todo: deque[int] = deque()
        self._heap: list[tuple[int, int]] = []  # (due, position in the plan)
        self._finished = 0
        self._outstanding = 0
        self._stop_ns = self._limit_ns = FAR
        head = self._make_head(key)
        self._data: list[bytes] = []  # each request as it goes over the wire, made before the load starts
        for request in plan["requests"]:
            body = request[2].encode()
            self._data.append(head + b"%d\r\n\r\n" % len(body) + body)
            request[2] = None

    def _make_head(self, key: str | None) -> bytes:
        plan = self.plan
        lines = [f"POST {plan['path']} HTTP/1.1", f"Host: {plan.get('host_header') or plan['host']}"]
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **plan.get("headers", {})}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")

    def _connect(self) -> Connection:
        connection = Connection(self._address, self._family, self._tls, self._stamped)
        if connection.state != CLOSED:
            connection.deadline = time.monotonic_ns() + round(self.plan.get("connect_timeout_s", 10.0) * 1e9)
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
        """Open connections before the start, so that the first requests do not pay for them. What fails here fails later."""
        wanted = min(int(self.plan.get("preconnect", 0)), self._most, len(self.plan["requests"]))
        made: list[Connection] = []
        try:
            while len(made) < wanted:
                made.append(self._connect())
        except OSError:  # no more sockets: the requests that need one will say so
            pass
        until = time.monotonic() + min(5.0, self.plan.get("connect_timeout_s", 10.0))
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
        if self.connections.get(connection.fd) is connection:  # its number may have gone to another by now
            del self.connections[connection.fd]

    def run(self, start_ns: int, progress: Progress) -> None:
        """Play the plan from ``start_ns`` on."""
        plan, now = self.plan, time.monotonic_ns
        self.started_ns = start_ns
        self._limit_ns = start_ns + round(plan["limit_s"] * 1e9)
        self._lay_out(start_ns)
        self.arena.set_clock()
        while now() < start_ns:
            time.sleep(max(0.0, (start_ns - now()) / 1e9 - 0.0005))
        cpu = time.process_time()
        next_check = start_ns
        poll, timer, connections, arena, stamped = (
            self._poll.poll,
            self._timer,
            self.connections,
            self.arena,
            self._stamped,
        )
        datas, keep, keep_stamp, keep_serial = (
            arena.datas,
            arena.datas.append,
            arena.stamps.append,
            arena.serials.append,
        )
        lags, nap = self.lags, Nap()
        while self._heap or self._outstanding or self._waiting:
            t = now()
            if self._heap and self._heap[0][0] <= t:
                self._send_due(t)
            if t >= next_check:
                next_check = t + CHECK_NS
                arena.set_clock()
                progress(len(self.requests), self._finished, self._outstanding, t)
                if self._check_deadlines(t):
                    break
            soonest = min(self._heap[0][0], next_check) if self._heap else next_check
            if nap.length_ns and soonest - t > nap.length_ns + MARGIN_NS:
                time.sleep(nap.length_ns / 1e9)
            timer.arm(soonest)
            events = poll(-1, READS)
            woke = now()
            first = len(datas)
            for fd, event in events:
                connection = connections.get(fd)
                if connection is None:
                    if fd == timer.fd:
                        timer.clear()
                    continue
                if event == IN and connection.streaming and stamped:
                    # nearly every event is this one: a piece in the middle of a stream
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
            t = now()
            read = len(datas) - first
            if read:
                lags[max(t - woke, arena.end_pass(first, t)) >> LAG_BITS] += read
            if stamped:  # otherwise a byte has the time of its read, and a nap would stand in it
                nap.after_pass(read, t, self._outstanding, drained=len(events) < READS)
        self.ended_ns = now()
        self.cpu_s = time.process_time() - cpu

    def _attend(self, connection: Connection, event: int) -> None:
        """What happened to a connection that is not simply in mid-stream."""
        if event & OUT or connection.state in (CONNECTING, HANDSHAKE):
            connection.on_writable()
        if event & (IN | OVER) and connection.state != CONNECTING:
            connection.last_ns = time.monotonic_ns()
            if connection.on_readable(self.arena, bool(event & OVER)):
                self._complete(connection)
                return
        if connection.state == CLOSED:
            self._lost(connection)
        else:
            self._watch(connection)

    def _lay_out(self, start_ns: int) -> None:
        requests = self.plan["requests"]
        position = {request[0]: at for at, request in enumerate(requests)}
        if self._open:
            for at, (_, due, _, after, _) in enumerate(requests):
                if after is None:
                    self._heap.append((start_ns + round(due * 1e9), at))
                else:
                    self._followers.setdefault(position[after], []).append(at)
            heapq.heapify(self._heap)
            return
        self._stop_ns = start_ns + round(self.plan["stop_s"] * 1e9) if self.plan.get("stop_s") else FAR
        for at, request in enumerate(requests):
            if request[3] is None:
                self._todo.append(at)
            else:
                self._followers.setdefault(position[request[3]], []).append(at)
        slots = min(int(self.plan["concurrency"]), len(self._todo)) if not self.plan.get("cycle") else int(
            self.plan["concurrency"]
        )  # fmt: skip
        ramp_ns = self.plan.get("ramp_s", 0.0) * 1e9
        for slot in range(slots):
            following = self._next_todo()
            if following is not None:
                heapq.heappush(self._heap, (start_ns + round(ramp_ns * slot / slots), following))

    def _next_todo(self) -> int | None:
        if not self._todo:
            if not self.plan.get("cycle"):
                return None
            self.repeats += 1
            self._todo.extend(at for at, request in enumerate(self.plan["requests"]) if request[3] is None)
        return self._todo.popleft()

    def _send_due(self, t: int) -> None:
        sent = 0
        while self._heap and self._heap[0][0] <= t:
            due, at = heapq.heappop(self._heap)
            if not self._open and t >= self._stop_ns:
                continue
            serial = len(self.requests)
            self.requests.append(Sent(self.plan["requests"][at][0], at, due, 0))
            self._outstanding += 1
            self._dispatch(serial)
            sent += 1
            if sent == SENDS:
                return  # answers that wait are read before the rest is sent
            t = time.monotonic_ns()

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
        connection.request(serial, self._data[sent.at])
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
        sent = self.requests[serial]
        stale = connection.used > 0 and connection.unanswered and connection.error in ("disconnected", "reset")
        if stale and not sent.retried:
            # the server closed a kept-alive connection just as it was used again: no answer was begun
            sent.retried = True
            self.stale_reconnects += 1
            self._dispatch(serial)
            return
        self._finish(serial, connection.error)

    def _finish(self, serial: int, error: str | None) -> None:
        sent = self.requests[serial]
        sent.error = error
        self.ends.append((self.arena.reads, serial))
        self._finished += 1
        self._outstanding -= 1
        if self._waiting:
            self._dispatch(self._waiting.popleft())
        t = time.monotonic_ns()
        followers = self._followers.get(sent.at, ())
        for follower in followers:
            if error is None:
                pause = self.plan["requests"][follower][4]
                heapq.heappush(self._heap, (t + round(pause * 1e9), follower))
            else:
                self._skip(follower, t)
        if not self._open and not followers and t < self._stop_ns:
            following = self._next_todo()
            if following is not None:
                heapq.heappush(self._heap, (t + PAUSE_NS if error in UNSERVED else t, following))

    def _skip(self, at: int, t: int) -> None:
        """A turn whose conversation broke off: due, never sent, counted as failed."""
        serial = len(self.requests)
        self.requests.append(Sent(self.plan["requests"][at][0], at, t, t))
        self._outstanding += 1
        self._finish(serial, "earlier_turn_failed")

    def _check_deadlines(self, t: int) -> bool:
        """Give up on what has taken too long. True when the whole run has."""
        plan = self.plan
        stall = round(plan["stall_timeout_s"] * 1e9)
        request = round(plan["request_timeout_s"] * 1e9)
        for connection in list(self.connections.values()):
            error = None
            if connection.state in (CONNECTING, HANDSHAKE) and t > connection.deadline:
                error = "connect_timeout"
            elif connection.serial >= 0 and connection.state in (BUSY, CONNECTING, HANDSHAKE):
                if t - self.requests[connection.serial].sent_ns > request:
                    error = "timeout"
                elif connection.state == BUSY and t - connection.last_ns > stall:
                    error = "stalled"
            if error:
                connection.abort(error)
                self._lost(connection)
        drained = t > self._drain_ns()
        if t > self._limit_ns or drained:
            for connection in list(self.connections.values()):
                if connection.serial >= 0:
                    connection.abort("unfinished")
                    self._drop(connection)
                    self._give_up(connection.serial)
            while self._waiting:
                self._give_up(self._waiting.popleft())
            while self._heap:  # due or still to come: the time limit cut them off
                due, at = heapq.heappop(self._heap)
                if due <= t:
                    serial = len(self.requests)
                    self.requests.append(Sent(self.plan["requests"][at][0], at, due, t))
                    self._give_up(serial)
            return True
        return False

    def _give_up(self, serial: int) -> None:
        self.requests[serial].error = "unfinished"
        self.requests[serial].sent_ns = self.requests[serial].sent_ns or time.monotonic_ns()
        self.ends.append((self.arena.reads, serial))

    def _drain_ns(self) -> int:
        """When what is still running is given up: the drain time after the last arrival."""
        if self._open:
            return (
                FAR
                if self._heap
                else max(self.requests[-1].due_ns if self.requests else 0, self.started_ns)
                + round(self.plan["drain_s"] * 1e9)
            )
        return FAR if self._stop_ns == FAR else self._stop_ns + round(self.plan["drain_s"] * 1e9)

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self._timer.close()
        self._poll.close()
        self.arena.close()
