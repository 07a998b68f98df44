"""The whole client against a server that knows what it did: measured and true times are held against each other.

No figure here depends on the speed of the machine: the server's own record is the reference, and bounds are wide.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.contrib.mock_server.plan import FAULTS, Fault, MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.http import run_clients as drive_module
from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.latencies import Slo, measure
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest

KEY = "sk-very-secret-1234567890"
FAST: dict[str, Any] = {"stall_timeout_s": 0.5, "request_timeout_s": 5.0, "drain_s": 2.0, "limit_s": 20.0}


def planned(count, n_out=8, due=None, chat=False, counted=False, stream_usage=True, **more):
    requests = []
    for index in range(count):
        body = {"model": "mock", "max_tokens": n_out, "stream": True, "ignore_eos": True, "user": str(index)}
        body |= {"messages": [{"role": "user", "content": "one two"}]} if chat else {"prompt": [1, 2, 3]}
        if stream_usage:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": counted}
        requests.append(
            PlannedRequest(
                index, json.dumps(body), due=None if due is None else due(index), n_in=3, n_out=n_out, **more
            )
        )
    return requests


def after(seconds, action):
    """For ``on_start``: the action so long after the load's start."""
    return lambda start: threading.Timer(start + seconds - time.monotonic(), action).start()


def gaps_ms(truth):
    """Gaps between tokens by the server's record: an event of k tokens makes k gaps of gap ÷ k."""
    found = []
    for row in truth:
        for before, after, tokens in zip(row["times_ns"], row["times_ns"][1:], row["tokens"][1:], strict=False):
            found += [(after - before) / 1e6 / tokens] * tokens
    return found


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        (MockPlan(ttft_s=0.03, itl_s=0.004), {}),
        (MockPlan(ttft_s=0.03, itl_s=0.004, jitter=0.5), {"counted": True}),
        (MockPlan(ttft_s=0.03, itl_s=0.004, chunk=4), {"counted": True}),
        (MockPlan(ttft_s=0.03, itl_s=0.004, chunk=4), {}),
        (MockPlan(ttft_s=0.03, itl_s=0.004, empty_first=True), {}),
        (MockPlan(ttft_s=0.03, itl_s=0.004), {"chat": True}),
        (MockPlan(ttft_s=0.03, itl_s=0.004, separate_finish=False), {"stream_usage": False}),
    ],
    ids=["plain", "jitter", "chunks-counted", "chunks-uncounted", "empty-first", "chat", "no-usage"],
)
def test_measured_times_are_the_servers(plan, options):
    with MockServer(plan) as server:
        target = Target(server.url, api="chat" if options.get("chat") else "completions", key_env=None)
        outcome = drive(target, LoadPlan(planned(12, n_out=8, **options), loop="closed", concurrency=3))
        truth = {int(row["user"]): row for row in server.truth()}
    result = measure(outcome)
    assert result.counts["completed"] == 12, (result.failures, result.examples)
    requests = outcome.requests
    for k, index in enumerate(requests.number):
        row = truth[index]
        # the read cannot be before the send, and on one machine not long after it
        assert 0 <= requests.first_ns[k] - row["times_ns"][0] < 50e6
        assert 0 <= requests.last_ns[k] - row["times_ns"][-1] < 50e6
        assert requests.n_out[k] == row["n_out"] == 8
    true_tpot = [(r["times_ns"][-1] - r["times_ns"][0]) / 1e6 / 7 for r in truth.values()]
    assert result.values["tpot_mean"] == pytest.approx(sum(true_tpot) / 12, abs=2.0)
    first_to_last = sum(r["times_ns"][-1] - r["times_ns"][0] for r in truth.values()) / 1e6
    gaps = gaps_ms(truth.values())
    assert outcome.itl.count == len(gaps)
    assert outcome.itl.sum * 1e3 == pytest.approx(first_to_last, rel=0.2)
    assert result.values["itl_mean"] == pytest.approx(sum(gaps) / len(gaps), rel=0.2)


def test_open_loop_latency_counts_from_due_and_lateness_does_not_grow():
    count, rate = 80, 100.0
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.001)) as server:
        load = LoadPlan(planned(count, n_out=3, due=lambda k: k / rate), clients=2)
        outcome = drive(Target(server.url, key_env=None), load)
    requests = outcome.requests
    rows = sorted(zip(requests.number, requests.due_ns, requests.sent_ns, strict=True))
    # due times are the schedule's, not the sender's: exact to the rounding of nanoseconds
    assert all(abs(due - outcome.start_ns - index / rate * 1e9) <= 1 for index, due, _ in rows)
    late = [(sent - due) / 1e6 for _, due, sent in rows]
    assert min(late) >= 0
    half = sorted(late[: count // 2]), sorted(late[count // 2 :])
    assert half[1][count // 4] <= half[0][count // 4] + 5.0  # a drifting sender would be late by ever more
    assert measure(outcome).counts["completed"] == count


def test_window_warmup_and_drain():
    with MockServer(MockPlan(ttft_s=0.05, itl_s=0.01)) as server:
        load = LoadPlan(planned(40, n_out=5, due=lambda k: k * 0.02), warmup_s=0.2, window_s=0.4)
        outcome = drive(Target(server.url, key_env=None), load)
    result = measure(outcome, Slo(ttft=1000))
    assert result.counts["due"] == 20  # due at 0.2 … 0.58
    assert result.counts["warmup_or_after"] == 20
    assert result.values["request_throughput"] == pytest.approx(50, rel=0.25)
    assert result.values["output_throughput"] == pytest.approx(250, rel=0.25)
    assert result.values["slo_attainment"] == 1.0


def test_closed_loop_with_a_window_repeats_its_requests_and_says_so():
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.002)) as server:
        load = LoadPlan(
            planned(4, n_out=4), loop="closed", concurrency=4, cycle=True, warmup_s=0.1, window_s=0.4, ramp_s=0.05
        )
        outcome = drive(Target(server.url, key_env=None), load)
    result = measure(outcome)
    assert result.counts["completed"] > 20
    assert result.counts["failed"] == 0
    assert any("sent again" in note for note in result.notes)
    assert result.running.peak <= 4


def test_turns_of_a_conversation_follow_each_other():
    requests = planned(3, n_out=3, due=lambda k: 0.0)
    chained = [requests[0], *(
        PlannedRequest(k, requests[k].body, after=k - 1, pause=0.05, n_out=3) for k in (1, 2)
    )]  # fmt: skip
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.001)) as server:
        outcome = drive(Target(server.url, key_env=None), LoadPlan(chained))
    rows = {index: k for k, index in enumerate(outcome.requests.number)}
    for turn in (1, 2):
        pause = outcome.requests.due_ns[rows[turn]] - outcome.requests.last_ns[rows[turn - 1]]
        assert pause >= 50e6
    assert measure(outcome).counts["completed"] == 3


NAMED = {
    "401": "http_401",
    "422": "http_422",
    "429": "http_429",
    "500": "http_500",
    "error_event": "error_event",
    "disconnect": "disconnected",
    "reset": "reset",
    "stall": "stalled",
    "silent": "stalled",
    "malformed_sse": "malformed_sse",
    "bad_json": "bad_json",
    "cut_short": "cut_short",
    "no_tokens": "no_tokens",
    "not_a_stream": "not_a_stream",
    "bad_http": "bad_http",
}


def test_every_fault_has_a_name():
    assert set(NAMED) == set(FAULTS)


def met(fault):
    """16 requests to a server that makes this fault on half of them: the outcome, and how many it says that it made."""
    plan = MockPlan(ttft_s=0.005, itl_s=0.002, faults=(Fault(fault, 0.5),), seed=1)
    with MockServer(plan) as server:
        load = LoadPlan(planned(16, n_out=6), loop="closed", concurrency=4, **FAST)
        outcome = drive(Target(server.url, key_env="SLMPERF_TEST_KEY"), load)
        return outcome, sum(row["fault"] == fault for row in server.truth())


@pytest.fixture(scope="module")
def faulty():
    """Fault → what was met; side by side, because a client mostly waits."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(5) as pool:
        patch.setenv("SLMPERF_TEST_KEY", KEY)
        return dict(zip(FAULTS, pool.map(met, FAULTS), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_counted_and_named_and_never_hangs(fault, faulty):
    outcome, made = faulty[fault]
    result = measure(outcome, Slo(ttft=1000))
    assert set(result.failures) == {NAMED[fault]}
    assert result.counts["failed"] + result.counts["completed"] == 16
    assert 0 < result.counts["failed"] < 16
    if fault not in ("stall", "silent"):  # an answer that never ends is in no record
        assert result.counts["failed"] == made
    assert result.values["ttft_p99"] is None
    assert result.values["slo_attainment"] == result.counts["completed"] / 16
    shown = json.dumps([result.examples, result.reasons, result.notes, *map(asdict, outcome.clients)])
    assert KEY not in shown
    assert KEY[:8] not in shown
    if fault == "429":
        assert any("retry after: 7" in note for note in result.notes)
    if fault == "500":
        assert result.examples["http_500"] == "the engine died"


def test_refused_connection():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = measure(drive(Target(url, key_env=None), LoadPlan(planned(3), loop="closed", concurrency=2)))
    assert result.failures == {"refused": 3}


def test_server_that_accepts_and_says_nothing_at_tls():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        load = LoadPlan(planned(2), loop="closed", concurrency=2, connect_timeout_s=0.4, **FAST)
        result = measure(drive(Target(url, key_env=None), load))
    assert result.failures == {"connect_timeout": 2}


def test_server_killed_in_the_middle_of_a_run():
    with MockServer(MockPlan(ttft_s=0.02, itl_s=0.05)) as server:
        load = LoadPlan(planned(60, n_out=20, due=lambda k: k * 0.015), **FAST)
        result = measure(drive(Target(server.url, key_env=None), load, on_start=after(0.3, server.kill)))
    assert result.counts["due"] == 60
    assert result.counts["failed"] > 0
    assert set(result.failures) <= {"reset", "disconnected", "refused"}
    assert "refused" in result.failures


def test_closed_loop_does_not_storm_a_server_that_is_gone():
    with MockServer(MockPlan(ttft_s=0.02, itl_s=0.05)) as server:
        load = LoadPlan(planned(8, n_out=100), loop="closed", concurrency=4, cycle=True, window_s=1.0, **FAST)
        result = measure(drive(Target(server.url, key_env=None), load, on_start=after(0.2, server.kill)))
    assert set(result.failures) <= {"reset", "disconnected", "refused"}
    assert 4 < result.failures["refused"] <= 4 * 20


def test_more_streams_than_sockets_are_counted():
    """The client process ends by no traceback when the machine gives it no further socket."""
    with MockServer(MockPlan(ttft_s=0.3, itl_s=0.01)) as server:
        program = Path(drive_module.__file__).parents[2]
        load = LoadPlan(
            planned(120), loop="closed", concurrency=120, preconnect=120, limit_s=20.0, drain_s=2.0,
            request_timeout_s=5.0, stall_timeout_s=5.0,
        )  # fmt: skip
        given = {"url": server.url, "load": load.to_wire(), "requests": load.requests}
        code = (
            f"import sys, json, resource; sys.path.insert(0, {str(program)!r})\n"
            "from collections import Counter\nfrom time import monotonic_ns\n"
            "from pytest_slmperf.load.http.event_loop import EventLoop\n"
            "from pytest_slmperf.load.plan import LoadPlan, Target\n"
            "from pytest_slmperf.load.rows import PlannedRequest\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))\n"
            "given = json.load(sys.stdin)\n"
            "load = LoadPlan.from_wire(given['load'], [PlannedRequest._make(row) for row in given['requests']])\n"
            "loop = EventLoop(Target(given['url'], key_env=None), load, None)\n"
            "loop.preconnect(); loop.run(monotonic_ns(), lambda *_: None)\n"
            "print(json.dumps(Counter(str(sent.error) for sent in loop.requests)))"
        )
        done = subprocess.run([sys.executable, "-c", code], input=json.dumps(given), capture_output=True, text=True)
    found = json.loads(done.stdout or "{}")
    assert sum(found.values()) == 120, done.stderr
    assert found["None"] > 40
    assert found["too_many_files"] > 0


def test_what_is_still_running_after_the_drain_time_is_counted():
    with MockServer(MockPlan(ttft_s=0.01, itl_s=10.0)) as server:
        load = LoadPlan(planned(5, n_out=3, due=lambda k: 0.0), drain_s=0.3)
        begun = time.monotonic()
        result = measure(drive(Target(server.url, key_env=None), load))
    assert result.failures == {"unfinished": 5}
    assert time.monotonic() - begun < 9


def test_time_limit_cuts_off_and_counts_what_was_due():
    with MockServer(MockPlan(ttft_s=0.01, itl_s=10.0)) as server:
        load = LoadPlan(planned(40, n_out=3, due=lambda k: k * 0.1), limit_s=0.5)
        result = measure(drive(Target(server.url, key_env=None), load))
    assert set(result.failures) == {"unfinished"}
    assert 5 <= result.counts["due"] < 12


def test_kept_connection_that_the_server_closed_is_opened_anew():
    """A server may close an idle connection just as it is used again; that is no failure of the request."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    answer += b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
    accepted = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(connection)
            with connection:
                if connection.recv(65536):
                    connection.sendall(answer)
                    connection.recv(65536)  # takes the next request, and closes without a word

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        load = LoadPlan(planned(3, n_out=1), loop="closed", concurrency=1, preconnect=0, **FAST)
        result = measure(drive(Target(url, key_env=None), load))
        listener.shutdown(socket.SHUT_RDWR)
    assert result.counts["completed"] == 3
    assert result.sender.stale_reconnects == 2


def test_client_process_that_dies_is_an_error_and_leaves_nothing(monkeypatch):
    pids = []
    original = drive_module.LoadClient.__init__

    def watched(self, *args):
        original(self, *args)
        pids.append(self.process.pid)

    monkeypatch.setattr(drive_module.LoadClient, "__init__", watched)
    with MockServer(MockPlan(itl_s=0.1)) as server:
        load = LoadPlan(planned(20, n_out=50, due=lambda k: 0.0), clients=2)
        die = after(0.3, lambda: os.kill(pids[0], signal.SIGKILL))
        with pytest.raises(EngineError, match=r"load client 0 ended with code -9 while the load was running"):
            drive(Target(server.url, key_env=None), load, on_start=die)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_certificate_file_that_does_not_exist(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        drive(
            Target("https://localhost", ca_file=str(tmp_path / "no.pem")),
            LoadPlan(planned(1), loop="closed", concurrency=1),
        )


def test_long_runs_spill_to_disk_and_read_back():
    from pytest_slmperf.load.http.receive_buffer import READS, Arena

    arena = Arena(memory=200_000)
    arena.set_clock()
    kept = []
    for number in range(3 * READS):
        data = bytes([number % 256]) * (number * 7 % 300 + 1)
        arena.datas.append(data)
        arena.stamps.append(arena.stamp())
        arena.serials.append(number % 5)
        kept.append((number % 5, data))
        if number % 3 == 2:
            arena.end_pass(len(arena.datas) - 3, time.monotonic_ns())
    assert arena.received == sum(len(data) for _, data in kept)
    assert arena.spilled  # or this test shows nothing
    came = list(arena.replay())
    assert [(serial, data) for _, serial, data in came] == kept
    assert [at for at, _, _ in came] == sorted(at for at, _, _ in came)
    arena.close()


@pytest.mark.parametrize("leap_s", [-3, 3, 7200])
def test_stamps_of_a_clock_that_is_set_give_way_to_the_time_of_the_read(monkeypatch, leap_s):
    from pytest_slmperf.load.http import receive_buffer

    ahead, real = 0, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead)
    arena = receive_buffer.Arena()
    read_at = []
    for number in range(6):
        if number % 2 == 0:  # between two looks at the clock it is set, forth and back
            arena.set_clock()
            ahead = leap_s * 10**9 * (number // 2 % 2)
        arena.datas.append(b"a")
        arena.stamps.append(struct.pack("qq", *divmod(real() + ahead, 10**9)))  # as the kernel makes it
        arena.serials.append(0)
        read_at.append(time.monotonic_ns())
        arena.end_pass(number, read_at[-1])
    arena.set_clock()
    times = [at for at, _, _ in arena.replay()]
    assert max(abs(at - read) for at, read in zip(times, read_at, strict=True)) < 10**9


def test_a_stamp_that_cannot_be_right_gives_way_to_the_time_of_the_read():
    from pytest_slmperf.load.http.receive_buffer import Arena

    arena = Arena()
    arena.set_clock()
    now = time.monotonic_ns()
    arena.datas += [b"a", b"b"]
    arena.stamps += [arena.stamp(), b"\0" * 16]  # somebody set the clock
    arena.serials += [0, 0]
    arena.end_pass(0, now + 1_000_000)
    times = [at for at, _, _ in arena.replay()]
    assert abs(times[0] - now) < 100_000_000
    assert times[1] == now + 1_000_000
