"""A load as a worker plays it, on a clock of our own: nothing is lost, nothing sent twice."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import PlannedRequest

NS = 1_000_000_000


@pytest.fixture
def play(monkeypatch):
    monkeypatch.setitem(sys.modules, "slmperf_worker_tools", worker_tools)
    from pytest_slmperf.engines.worker.player import Player

    def make(requests, **changes):
        plan = LoadPlan(requests, **{"drain_s": 5.0, "limit_s": 100.0, "request_timeout_s": 50.0, **changes})
        made = Player.of(json.loads(json.dumps(plan.for_worker())), 1000)
        made.begin(0)
        return made

    return make


def request(number, due=None, after=None, pause=0.0, n_in=3, n_out=2):
    return PlannedRequest(
        number, due=due, after=after, pause=pause, n_in=n_in, n_out=n_out, parts=((f"own/{number}", n_in),)
    )


def serve(play, seconds=0.5, fail=()):
    """Answer each request after ``seconds`` on a clock that jumps from event to event; returns the most that ran at once."""
    running, now, most = [], 0, 0
    for _ in range(10_000):
        if play.over():
            return most
        for prompt in play.take(now, busy=False):
            assert len(prompt.ids) == 3
            running.append((now + round(seconds * NS), prompt.serial, prompt.n_out))
        most = max(most, len(running))
        moments = [end for end, _, _ in running] + ([play.next_due()] if play.next_due() is not None else [])
        now = max(now, min(moments, default=now + NS))
        for one in [one for one in running if one[0] <= now]:
            running.remove(one)
            _, serial, n_out = one
            if play.schedule.requests[serial].planned.number in fail:
                play.finish(serial, now, "broken", "why")
            else:
                play.tokens(serial, now - 1000, 1)
                play.tokens(serial, now, n_out - 1)
                play.finish(serial, now)
    raise AssertionError("it does not end")


def test_open_loop_sends_each_once_when_it_is_due(play):
    made = play([request(k, due=k * 0.1) for k in range(20)])
    serve(made)
    records = {record.number: record for record in made.records}
    assert sorted(records) == list(range(20))
    assert all(records[k].due_ns == records[k].sent_ns == round(k * 0.1 * NS) for k in range(20))
    assert made.tally.gap_count == 20
    assert made.tally.gap_sum == 20 * 1000


def test_closed_loop_never_runs_more_than_its_users(play):
    made = play([request(k) for k in range(17)], loop="closed", concurrency=4)
    assert serve(made) == 4
    assert len(made.records) == 17


def test_closed_loop_repeats_until_its_window_ends(play):
    made = play([request(k) for k in range(3)], loop="closed", concurrency=2, cycle=True, warmup_s=1.0, window_s=4.0)
    serve(made)
    assert len(made.records) == 20  # two users, half a second each, five seconds
    assert sum(record.measured for record in made.records) == 16
    assert made.schedule.repeats == 6


def test_later_turns_wait_and_a_broken_conversation_is_counted(play):
    made = play(
        [
            request(0, due=0.0),
            request(1, after=0, pause=2.0),
            request(2, due=0.0),
            request(3, after=2),
            request(4, after=3),
        ]
    )
    serve(made, fail={2})
    records = {record.number: record for record in made.records}
    assert records[1].due_ns == round(2.5 * NS)
    assert records[2].error == "broken"
    assert records[2].error_text == "why"
    assert records[3].error == records[4].error == "earlier_turn_failed"


def test_what_takes_too_long_is_given_up_and_named(play):
    made = play([request(0, due=0.0), request(1, due=1.0), request(2, due=200.0)], request_timeout_s=3.0)
    assert [prompt.serial for prompt in made.take(0, False)] == [0]
    made.tokens(0, 1, 1)
    assert made.expired(2 * NS) == []
    assert [prompt.serial for prompt in made.take(2 * NS, True)] == [1]
    assert made.expired(5 * NS) == [0, 1]
    assert made.expired(101 * NS) == []
    assert made.over()
    assert [(record.number, record.error) for record in made.records] == [
        (0, "timeout"),
        (1, "timeout"),
    ]  # what was never due is no failure


def test_a_busy_engine_is_no_late_sender(play):
    made = play([request(0, due=1.0), request(1, due=1.0)])
    made.take(round(1.4 * NS), busy=True)
    assert {sent.sent_ns for sent in made.schedule.running.values()} == {NS}
