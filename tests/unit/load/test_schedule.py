"""The schedule that a worker plays, on a clock of our own: nothing is lost, nothing sent twice."""

from __future__ import annotations

import sys

import pytest

from pytest_slmperf.engines.worker import tools as worker_tools

NS = 1_000_000_000


@pytest.fixture
def play(monkeypatch):
    monkeypatch.setitem(sys.modules, "slmperf_worker_tools", worker_tools)
    from pytest_slmperf.load.schedule import Play

    def make(requests, **changes):
        plan = {
            "loop": "open", "requests": requests, "seed": 0, "concurrency": None, "ramp_s": 0.0, "cycle": False,
            "warmup_s": 0.0, "window_s": None, "drain_s": 5.0, "limit_s": 100.0, "request_timeout_s": 50.0, **changes,
        }  # fmt: skip
        made = Play(plan, 1000)
        made.begin(0)
        return made

    return make


def row(index, due=None, after=None, pause=0.0, n_in=3, n_out=2):
    return [index, due, n_in, n_out, after, pause, [[f"own/{index}", n_in]], None]


def serve(play, seconds=0.5, fail=()):
    """Answer each request after ``seconds`` on a clock that jumps from event to event; returns the most that ran at once."""
    running, now, most = [], 0, 0
    for _ in range(10_000):
        if play.over():
            return most
        for serial, prompt, n_out in play.take(now, busy=False):
            assert len(prompt) == 3
            running.append((now + round(seconds * NS), serial, n_out))
        most = max(most, len(running))
        moments = [end for end, _, _ in running] + ([play.next_due()] if play.next_due() is not None else [])
        now = max(now, min(moments, default=now + NS))
        for one in [one for one in running if one[0] <= now]:
            running.remove(one)
            _, serial, n_out = one
            if play.running[serial].index in fail:
                play.finish(serial, now, "broken", "why")
            else:
                play.tokens(serial, now - 1000, 1)
                play.tokens(serial, now, n_out - 1)
                play.finish(serial, now)
    raise AssertionError("it does not end")


def test_open_loop_sends_each_once_when_it_is_due(play):
    made = play([row(k, due=k * 0.1) for k in range(20)])
    serve(made)
    rows = {one[0]: one for one in made.rows}
    assert sorted(rows) == list(range(20))
    assert all(rows[k][1] == rows[k][2] == round(k * 0.1 * NS) for k in range(20))
    assert made.tally.gap_count == 20
    assert made.tally.gap_sum == 20 * 1000


def test_closed_loop_never_runs_more_than_its_users(play):
    made = play([row(k) for k in range(17)], loop="closed", concurrency=4)
    assert serve(made) == 4
    assert len(made.rows) == 17


def test_closed_loop_repeats_until_its_window_ends(play):
    made = play([row(k) for k in range(3)], loop="closed", concurrency=2, cycle=True, warmup_s=1.0, window_s=4.0)
    serve(made)
    assert len(made.rows) == 20  # two users, half a second each, five seconds
    assert sum(one[12] for one in made.rows) == 16
    assert made.repeats == 6


def test_later_turns_wait_and_a_broken_conversation_is_counted(play):
    made = play([row(0, due=0.0), row(1, after=0, pause=2.0), row(2, due=0.0), row(3, after=2), row(4, after=3)])
    serve(made, fail={2})
    rows = {one[0]: one for one in made.rows}
    assert rows[1][1] == round(2.5 * NS)
    assert rows[2][8] == "broken"
    assert rows[3][8] == rows[4][8] == "earlier_turn_failed"


def test_what_takes_too_long_is_given_up_and_named(play):
    made = play([row(0, due=0.0), row(1, due=1.0), row(2, due=200.0)], request_timeout_s=3.0)
    assert [serial for serial, _, _ in made.take(0, False)] == [0]
    made.tokens(0, 1, 1)
    assert made.expired(2 * NS) == []
    assert [serial for serial, _, _ in made.take(2 * NS, True)] == [1]
    assert made.expired(5 * NS) == [0, 1]
    assert made.expired(101 * NS) == []
    assert made.over()
    assert [(one[0], one[8]) for one in made.rows] == [
        (0, "timeout"),
        (1, "timeout"),
    ]  # what was never due is no failure


def test_a_busy_engine_is_no_late_sender(play):
    made = play([row(0, due=1.0), row(1, due=1.0)])
    made.take(round(1.4 * NS), busy=True)
    assert {one.sent for one in made.running.values()} == {NS}
