"""Progress is seen while pytest captures output: live on a terminal, in sparse lines in a log; and never in the report."""

import os
import pty
import re
import subprocess
import sys

SUITE = """
def test_one(slmperf):
    slmperf.offline(batch=4, input_len=16, output_len=16)
"""


def on_terminal(pytester, suite):
    """What a run writes to a terminal of 80 columns."""
    file = pytester.makepyfile(test_perf=suite)
    leader, follower = pty.openpty()
    options = ["--slmperf", "--slmperf-engine", "simulated", "-p", "no:cacheprovider"]
    colours = ("PY_COLORS", "NO_COLOR", "FORCE_COLOR", "CI")
    environment = {key: value for key, value in os.environ.items() if key not in colours}
    environment |= {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, file],
        cwd=pytester.path,
        stdout=follower,
        stderr=follower,
        env=environment,
    ) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                block = os.read(leader, 4096)
            except OSError:  # the other end was closed
                break
            if not block:
                break
            seen += block
    os.close(leader)
    text = seen.decode()
    assert process.returncode == 0, text
    return text


def test_a_terminal_shows_the_phases_and_keeps_pytests_own_line(pytester):
    text = on_terminal(pytester, SUITE)
    assert "\x1b[2Ktest_perf.py::test_one: warm-up" in text
    column = len("test_perf.py ")
    assert f"\r\x1b[2K\x1b[A\x1b[{column}C" in text
    assert "Captured" not in text


REAL_CLOCK = """
import pytest

@pytest.mark.slmperf(launches=1, rounds=3)
@pytest.mark.parametrize("slm_engine", [{"clock": "real"}], indirect=True, ids=["real"])
def test_one(slm_engine, slmperf):
    slmperf.offline(batch=16, input_len=16, output_len=100)
"""


def test_a_terminal_shows_the_time_left_and_never_more_than_a_row(pytester):
    text = on_terminal(pytester, REAL_CLOCK)
    rows = re.findall(r"\x1b\[2K([^\r\n\x1b]+)", text)
    assert any(re.search(r": warm-up \d+/\d+, output_throughput [\d,.]+, \d+ s left$", row) for row in rows), rows
    assert max(map(len, rows)) < 80


def test_a_log_has_plain_lines_and_nothing_is_captured(perf):
    done = perf("-rA", suite=SUITE)
    done.stdout.fnmatch_lines(["test_perf.py::test_one: *"])
    done.stdout.no_fnmatch_line("*Captured stdout*")
    assert "\x1b" not in done.stdout.str()
