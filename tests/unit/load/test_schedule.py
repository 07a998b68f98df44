"""The schedule by itself: no clock, no engine, no socket; and its two drivers, which play a load by the same rules."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.load.schedule import BACK_OFF_NS, FAR, NS, Schedule
from pytest_slmperf.load.settings import Pacing

MS = 1_000_000


def begun(requests, **pacing) -> Schedule:
    schedule = Schedule(Pacing(**pacing), requests)
    schedule.begin(0)
    return schedule


def taken(schedule: Schedule, now_ns: int) -> list[int]:
    """Numbers of the requests that are due by then, sent without delay."""
    numbers = []
    while (serial := schedule.take(now_ns)) is not None:
        schedule.requests[serial].sent_ns = now_ns
        numbers.append(schedule.requests[serial].planned.number)
    return numbers


def plain(count, **more):
    return [PlannedRequest(number, **more) for number in range(count)]


def test_open_loop_is_due_by_the_clock_whatever_comes_back():
    schedule = begun([PlannedRequest(0, due=0.2), PlannedRequest(1, due=0.1), PlannedRequest(2, due=0.1)])
    assert schedule.next_due_ns == 100 * MS
    assert taken(schedule, 99 * MS) == []
    assert taken(schedule, 100 * MS) == [1, 2]
    assert taken(schedule, 500 * MS) == [0]
    assert [request.due_ns for request in schedule.requests] == [100 * MS, 100 * MS, 200 * MS]
    assert schedule.next_due_ns == FAR
    assert not schedule.over
    assert [schedule.finish(serial, 600 * MS) for serial in (0, 1, 2)] == [[0], [1], [2]]
    assert schedule.over
    assert schedule.finish(0, 700 * MS) == []


@pytest.mark.parametrize(
    ("users", "requests", "cycle", "enter"),
    [
        (4, 8, False, [0, 500, 1000, 1500]),
        (8, 4, False, [0, 500, 1000, 1500]),  # only four users ever have a request: they are spread over the whole ramp
        (4, 1, True, [0, 500, 1000, 1500]),
    ],
)
def test_users_enter_evenly_over_the_ramp(users, requests, cycle, enter):
    window = {"window_s": 10.0} if cycle else {}
    schedule = begun(plain(requests), loop="closed", concurrency=users, cycle=cycle, ramp_s=2.0, **window)
    taken(schedule, 9 * NS)
    assert [request.due_ns // MS for request in schedule.requests] == enter


@pytest.fixture
def player(monkeypatch):
    monkeypatch.setitem(sys.modules, "slmperf_worker_tools", worker_tools)
    from pytest_slmperf.engines.worker.player import Player

    return Player


@pytest.mark.parametrize("users", [3, 12])
def test_both_drivers_let_users_in_at_the_same_times(player, users):
    """Six requests for fewer and for more users: each driver records the schedule's own due times."""
    body = json.dumps({"model": "mock", "prompt": [1], "max_tokens": 2, "stream": True})
    requests = plain(6, body=body, n_in=1, n_out=2, parts=(("own", 1),))
    load = LoadPlan(requests, loop="closed", concurrency=users, ramp_s=0.12)
    with MockServer(MockPlan(ttft_s=0.2, itl_s=0.001)) as server:
        outcome = drive(Target(server.url, key_env=None), load)
    over_http = sorted(due - outcome.start_ns for due in outcome.requests.due_ns)

    worker = player.of(load.for_worker(), 1000)
    worker.begin(0)
    in_worker = sorted(worker.schedule.requests[prompt.serial].due_ns for prompt in worker.take(NS, busy=True))
    first = min(users, 6)
    assert over_http[:first] == in_worker == [120 * MS * user // first for user in range(first)]


def test_a_user_takes_the_next_request_when_the_answer_is_there():
    schedule = begun(plain(3), loop="closed", concurrency=1)
    assert taken(schedule, 0) == [0]
    schedule.finish(0, 40)
    assert taken(schedule, 39) == []
    assert taken(schedule, 40) == [1]
    schedule.finish(1, 50, "refused")  # the server is gone: it is not hammered
    assert schedule.next_due_ns == 50 + BACK_OFF_NS
    assert taken(schedule, 50 + BACK_OFF_NS) == [2]
    schedule.finish(2, 10 * NS)
    assert schedule.over


def test_a_closed_loop_sends_nothing_from_the_end_of_its_window_on():
    schedule = begun(plain(1), loop="closed", concurrency=1, cycle=True, warmup_s=1.0, window_s=2.0)
    assert schedule.window_ns == (NS, 3 * NS)
    assert taken(schedule, 0) == [0]
    schedule.finish(0, 3 * NS - 1)
    assert taken(schedule, 3 * NS + 5) == [0]  # it was due in the window, however late the driver is
    schedule.finish(1, 3 * NS + 10)
    assert schedule.over
    assert schedule.repeats == 1
    assert [schedule.measures(request) for request in schedule.requests] == [False, False]  # by when they were sent


def test_the_window_of_an_open_loop_goes_by_when_a_request_was_due():
    requests = [PlannedRequest(number, due=float(number)) for number in range(4)]
    schedule = begun(requests, warmup_s=1.0, window_s=2.0)
    taken(schedule, 100 * NS)
    assert [schedule.measures(request) for request in schedule.requests] == [False, True, True, False]


def test_followers_wait_for_the_answer_and_break_off_with_it():
    requests = [
        PlannedRequest(0, due=0.0),
        PlannedRequest(1, after=0, pause=0.5),
        PlannedRequest(2, after=1),
        PlannedRequest(3, after=2),
    ]
    schedule = begun(requests)
    assert taken(schedule, 0) == [0]
    assert schedule.finish(0, NS) == [0]
    assert schedule.next_due_ns == NS + 500 * MS
    assert taken(schedule, 2 * NS) == [1]
    assert schedule.finish(1, 3 * NS, "timeout") == [1, 2, 3]
    assert [request.error for request in schedule.requests] == [None, "timeout"] + 2 * ["earlier_turn_failed"]
    assert schedule.over


@pytest.mark.parametrize("limit", [True, False])
def test_what_runs_or_is_due_when_the_load_ends_is_unfinished_and_nothing_else(limit):
    requests = [PlannedRequest(0, due=0.0), PlannedRequest(1, due=1.0), PlannedRequest(2, after=0)]
    if limit:
        requests.append(PlannedRequest(3, due=500.0))
    schedule = begun(requests, limit_s=5.0 if limit else 100.0, drain_s=2.0)
    assert taken(schedule, 0) == [0]
    now = (5 if limit else 3) * NS + 1
    if not limit:
        assert not schedule.must_end(now)  # a request is still due: its drain time has not begun
        assert taken(schedule, 1 * NS) == [1]
    assert not schedule.must_end(now - 1)
    assert schedule.must_end(now)
    ended = {schedule.requests[serial].planned.number: schedule.requests[serial] for serial in schedule.give_up(now)}
    assert {number: request.error for number, request in ended.items()} == {
        0: "unfinished", 1: "unfinished", 2: "earlier_turn_failed",
    }  # fmt: skip
    assert all(request.sent_ns for number, request in ended.items() if number == 1)
    assert schedule.over
    assert schedule.take(FAR - 1) is None


def test_a_request_times_out_from_when_it_was_sent():
    schedule = begun([PlannedRequest(0, due=0.0)], request_timeout_s=2.0)
    serial = schedule.take(0)
    schedule.requests[serial].sent_ns = NS
    assert not schedule.timed_out(serial, 3 * NS)
    assert schedule.timed_out(serial, 3 * NS + 1)


def test_the_schedule_and_the_rows_load_by_their_path_alone():
    """As in an engine's interpreter, where this package is not installed."""
    for name in ("load/rows", "load/schedule", "load/settings", "load/token_counter"):
        module = worker_tools.load_own(name)
        assert module.__name__ == "slmperf_" + name.replace("/", "_")
