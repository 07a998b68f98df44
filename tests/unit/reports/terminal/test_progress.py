"""The progress line: rewritten in place on a terminal, sparse elsewhere."""

import io
from contextlib import contextmanager

import pytest

from pytest_slmperf.reports.terminal.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_live_line_is_rewritten_and_cleared(clock):
    stream = io.StringIO()
    progress = Progress(stream, True, clock=clock)
    progress.update("test_a", "rounds", 0, 10)
    clock.now += 4
    progress.update("test_a", "rounds", 2, 10, "1,204 tok/s ±2 %")
    progress.clear()
    assert stream.getvalue().split("\r\x1b[2K") == [
        "",
        "test_a: rounds 0/10",
        "test_a: rounds 2/10, 1,204 tok/s ±2 %, 16 s left",
        "",
    ]


def test_live_line_never_wraps_and_escapes(clock):
    stream = io.StringIO()
    progress = Progress(stream, True, width=60, clock=clock)
    progress.update("test_" + "x" * 200 + "\x1b[2J\n", "engine starting", estimate="y" * 20)
    line = stream.getvalue().removeprefix("\r\x1b[2K")
    assert len(line) <= 59
    assert "\x1b" not in line
    assert "\n" not in line


def test_live_updates_are_throttled(clock):
    stream = io.StringIO()
    progress = Progress(stream, True, clock=clock)
    for done in range(100):
        progress.update("t", "rounds", done, 100)
        clock.now += 0.001
    assert stream.getvalue().count("\r") == 1


def test_a_log_gets_a_line_now_and_then(clock):
    stream = io.StringIO()
    progress = Progress(stream, False, every_s=30, clock=clock)
    for second in range(45):
        progress.update("t", "engine starting" if second < 5 else "rounds", second, 45)
        clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines == ["t: engine starting 0/45", "t: rounds 30/45, 15 s left"]
    assert "\x1b" not in stream.getvalue()


def test_quiet_writes_nothing(clock):
    stream = io.StringIO()
    Progress(stream, False, -1, clock=clock).update("t", "rounds", 1, 2)
    assert stream.getvalue() == ""


def test_known_time_left_wins_over_the_extrapolated(clock):
    stream = io.StringIO()
    progress = Progress(stream, False, clock=clock)
    progress.update("t", "launches", 1, 8, left_s=200)
    assert stream.getvalue() == "t: launches 1/8, 3 min 20 s left\n"


def test_what_stands_on_the_line_is_kept(clock):
    stream = io.StringIO()
    progress = Progress(stream, True, clock=clock, column=lambda: 13)
    progress.update("t", "rounds", 1, 2)
    clock.now += 1
    progress.update("t", "rounds", 2, 2)
    progress.clear()
    progress.clear()
    assert stream.getvalue() == "\n\r\x1b[2Kt: rounds 1/2\r\x1b[2Kt: rounds 2/2, 0 s left\r\x1b[2K\x1b[A\x1b[13C"


def test_a_log_line_never_continues_another(clock):
    stream = io.StringIO()
    Progress(stream, False, clock=clock, column=lambda: 13).update("", "engine vllm: loading")
    assert stream.getvalue() == "\nengine vllm: loading\n"


def test_every_write_reaches_past_the_capture(clock):
    entered = []

    @contextmanager
    def uncaptured():
        entered.append("in")
        yield
        entered.append("out")

    progress = Progress(io.StringIO(), True, clock=clock, uncaptured=uncaptured)
    progress.update("t", "rounds", 1, 2)
    progress.clear()
    assert entered == ["in", "out", "in", "out"]
