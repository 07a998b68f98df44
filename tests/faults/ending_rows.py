"""Rows: how a session ends, by Ctrl-C, by signals, in every phase; and what is left then."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from faults.table import Bench, Ended, Fault, only

OPTIONS = ("--slmperf", "--slmperf-engine", "simulated")
OFFLINE = "slmperf.offline(batch=1, input_len=16, output_len=16)"
LONG = 600  # seconds that nobody waits for
ONE = f"def test_first(slmperf):\n    {OFFLINE}\n"
HERE = "open('reached', 'w').close()"
BODY = f"import time\ndef test_first(slmperf):\n    {OFFLINE}\n    {HERE}\n    time.sleep({LONG})\n"
BETWEEN = f"import time\ndef test_first(slmperf):\n    {OFFLINE}\n    {HERE}\n    time.sleep({LONG})\n    {OFFLINE}\n"
FIXTURE = f"""
import time, pytest
@pytest.fixture
def slow():
    yield
    {HERE}
    time.sleep({LONG})
def test_first(slow, slmperf):
    {OFFLINE}
"""
LEAVING = f"import pytest\ndef test_first(slmperf):\n    {OFFLINE}\n    pytest.exit('enough')\n"
STUBBORN_ROUND = f"""
import time, pytest
@pytest.fixture(scope="session")
def slow():
    yield
    time.sleep({LONG})
def test_first(slow, slmperf):
    {OFFLINE}
"""
STUBBORN = f"{STUBBORN_ROUND}    {HERE}\n    time.sleep({LONG})\n"
HANGING = "@pytest.mark.slmperf(settings={'fail': 'round-hang'})\n"
ITSELF = "import os, signal\n{}:\n    {}os.kill(os.getpid(), signal.SIGINT)\n"


def until_reached(bench: Bench, process: subprocess.Popen[bytes]) -> None:
    """Wait until the session is where the row wants it."""
    logs = bench.folder / ".slmperf" / "logs"
    for _ in range(1200):
        if (bench.folder / "reached").exists() or any(b"failure:" in log.read_bytes() for log in logs.glob("*.log")):
            return
        assert process.poll() is None, bench.folder / "output.txt"
        time.sleep(0.05)


def signalled(
    suite: str, *arguments: str, numbers: Sequence[signal.Signals] = (signal.SIGINT,)
) -> Callable[[Bench], Ended]:
    """A session that gets these signals, half a second apart, once it is where the suite says."""

    def act(bench: Bench) -> Ended:
        bench.write("test_perf.py", suite)
        process = bench.start(*OPTIONS, *arguments)
        until_reached(bench, process)
        for number in numbers:
            time.sleep(0.5)
            if process.poll() is None:
                process.send_signal(number)
        return bench.ended(process)

    return act


def again_after_the_loop(bench: Bench) -> Ended:
    """A session interrupted in a test, and again while pytest notes that it was interrupted."""
    bench.write("conftest.py", ITSELF.format("def pytest_keyboard_interrupt()", ""))
    bench.write("test_perf.py", ITSELF.format("def test_first(slmperf)", f"{OFFLINE}\n    "))
    return bench.ended(bench.start(*OPTIONS))


def killed(bench: Bench) -> Ended:
    """SIGKILL in a round; nothing of the session may live on. What is printed is the journal's report."""
    bench.write("test_perf.py", f"import pytest\n{ONE}{HANGING}def test_second(slmperf):\n    {OFFLINE}\n")
    process = bench.start(*OPTIONS)
    until_reached(bench, process)
    process.kill()
    bench.ended(process)
    (journal,) = (bench.folder / ".slmperf" / "journal").glob("*.jsonl")
    return bench.slmperf("report", str(journal), "-o", "kept.html")


def leaves(bench: Bench) -> Ended:
    """An engine that starts a process in a session of its own, with a cleared environment, whose parent has ended."""
    ended = bench.pytest("--slmperf-set", "fail=round-orphan", suite=ONE)
    assert "started" in "".join(log.read_text() for log in (bench.folder / ".slmperf/logs").glob("*.log"))
    return ended


SWEPT = """
import os
from pytest_slmperf.measuring.studies.adaptive_sweep import SweepMeasurement

measure_point = SweepMeasurement.measure_point

def measure_two(self, key, launch):
    if key == 3:
        os.kill(os.getpid(), {number})
    return measure_point(self, key, launch)

SweepMeasurement.measure_point = measure_two
"""
SWEEP = "def test_first(slmperf):\n    slmperf.sweep(batch=[1, 2, 3, 4], input_len=16, output_len=16)\n"
# Where the last test is over, and results and report are written.
LATE = """
import os, signal
from pytest_slmperf.pytest_plugin import finish

write = finish.{name}

def write_and_interrupt(*parts):
    os.kill(os.getpid(), signal.SIGINT)
    write(*parts)

finish.{name} = write_and_interrupt
"""


def itself(conftest: str, suite: str) -> Callable[[Bench], Ended]:
    """A session that sends itself the signal, at a place where its conftest has put that."""

    def act(bench: Bench) -> Ended:
        bench.write("conftest.py", conftest)
        bench.write("test_perf.py", suite)
        return bench.ended(bench.start(*OPTIONS))

    return act


def two_points(bench: Bench) -> str | None:
    (result,) = bench.results()["results"]
    keys = [point["key"] for point in result["points"]]
    verdict = result["verdicts"][0]["verdict"]
    return None if (keys, verdict) == ([1, 2], "inconclusive") else f"{verdict} of points {keys}"


TWICE = (signal.SIGINT, signal.SIGINT)
FIRST = "results measured before it"
ROWS = [
    Fault("ctrl-c-start", "Ctrl-C while an engine starts", signalled(ONE, "--slmperf-set", "fail=start-hang"), 2,
          "KeyboardInterrupt", "nothing was measured", only()),
    Fault("ctrl-c-round", "Ctrl-C in a round", signalled(ONE, "--slmperf-set", "fail=round-hang"), 2,
          "KeyboardInterrupt", "nothing was measured", only()),
    Fault("ctrl-c-body", "Ctrl-C in a test's own code", signalled(BODY), 2, "KeyboardInterrupt", FIRST, only("test_first")),
    Fault("ctrl-c-between", "Ctrl-C between two scenarios of a test", signalled(BETWEEN), 2, "KeyboardInterrupt", FIRST,
          only("test_first")),
    Fault("ctrl-c-fixture", "Ctrl-C in a fixture's end", signalled(FIXTURE), 2, "KeyboardInterrupt", FIRST,
          only("test_first")),
    Fault("ctrl-c-twice-round", "two Ctrl-C in a round", signalled(STUBBORN_ROUND, "--slmperf-set", "fail=round-hang",
          numbers=TWICE), 2, "interrupted again", "nothing was measured", only()),
    Fault("ctrl-c-twice-fixture", "two Ctrl-C, the second in a fixture's end", signalled(STUBBORN, numbers=TWICE), 2,
          "interrupted again", FIRST, only("test_first")),
    Fault("ctrl-c-twice-between", "two Ctrl-C, the second between pytest's loop and the session's end",
          again_after_the_loop, 2, "interrupted again", FIRST, only("test_first")),
    Fault("sigterm", "SIGTERM, with which CI systems end a job", signalled(BODY, numbers=(signal.SIGTERM,)), 143,
          "ended by SIGTERM", FIRST, only("test_first")),
    Fault("ctrl-c-sweep", "Ctrl-C in a sweep", itself(SWEPT.format(number=2), SWEEP), 2, "KeyboardInterrupt",
          "the measured points, without a verdict", two_points),
    Fault("sigterm-sweep", "SIGTERM in a sweep", itself(SWEPT.format(number=15), SWEEP), 143, "ended by SIGTERM",
          "the measured points, without a verdict", two_points),
    Fault("ctrl-c-results", "Ctrl-C after the last test, while results are written",
          itself(LATE.format(name="_write"), ONE), 2, "KeyboardInterrupt", FIRST, only("test_first")),
    Fault("ctrl-c-report", "Ctrl-C after the last test, while the report is written",
          itself(LATE.format(name="_report"), ONE), 2, "KeyboardInterrupt", FIRST, only("test_first")),
    Fault("sigkill", "SIGKILL in a round; then `slmperf report` of the journal", killed, 0, "kept.html", FIRST),
    Fault("pytest-exit", "a test that calls `pytest.exit()` after it has measured",
          lambda bench: bench.pytest(suite=LEAVING),
          2, "enough", FIRST, only("test_first")),
    Fault("leaves-the-tree", "an engine's child in its own session, with a cleared environment and no parent",
          leaves, 0, "1 new", "the result", only("test_first")),
]  # fmt: skip
