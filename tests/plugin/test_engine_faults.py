"""Engines that die, hang or run out of memory: the test fails with the engine's log, the next one has a fresh engine."""

from __future__ import annotations

from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.parametrize("batch", [1, 2])
def test_batch(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes whose environment or working directory names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if str(folder) in (entry / "environ").read_text(errors="replace"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("round-kill", "*killed*"),
        ("round-exit", "*engine*"),
        ("round-memory", "*memory*"),
        ("start-memory", "*memory*"),
        ("start-error", "*engine*"),
    ],
)
def test_failing_engine_fails_its_test_only_and_is_restarted(perf, results, pytester, monkeypatch, how, said):
    monkeypatch.setenv("SLMPERF_TEST_FOLDER", str(pytester.path))
    result = perf("--slmperf-set", f"fail={how}", "--slmperf-set", "fail_once=failed-once", suite=SUITE)
    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "new": 1}
    result.stdout.fnmatch_lines([said])
    first, second = results()["results"]
    assert first["failure"]
    assert not first["metrics"]
    assert second["failure"] is None
    assert second["metrics"]["output_throughput"]["value"] > 0
    assert processes_of(pytester.path) == []


def test_hung_engine_is_ended_after_the_round_timeout(perf, pytester, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_FOLDER", str(pytester.path))
    arguments = [
        "--slmperf-set",
        "fail=round-hang",
        "--slmperf-set",
        "fail_once=hung-once",
        "--slmperf-round-timeout",
        "1s",
    ]
    result = perf(*arguments, suite=SUITE)
    assert result.parseoutcomes() == {"failed": 1, "new": 1}
    result.stdout.fnmatch_lines(["*no answer*within 1 s*"])
    assert processes_of(pytester.path) == []


def test_failure_shows_the_last_lines_of_the_engines_log(perf):
    result = perf("--slmperf-set", "fail=round-exit", suite=SUITE)
    result.stdout.fnmatch_lines(["*last lines of the engine's log:*"])


def test_a_failed_test_is_never_saved_as_baseline(perf, pytester):
    arguments = ["--slmperf-set", "fail=round-exit", "--slmperf-set", "fail_once=failed-once", "--slmperf-approve"]
    result = perf(*arguments, suite=SUITE)
    result.stdout.fnmatch_lines(["*1 baseline* saved as 'main'*"])
    assert len(list(pytester.path.glob("baselines/*/main/**/*.json"))) == 1


def test_interrupt_stops_engines_and_keeps_what_was_measured(perf, results, pytester, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_FOLDER", str(pytester.path))
    suite = """
def test_first(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)

def test_second(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
    raise KeyboardInterrupt
"""
    result = perf(suite=suite, process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    measured = ["test_perf.py::test_first", "test_perf.py::test_second"]
    assert [entry["id"] for entry in results()["results"]] == measured
    assert (pytester.path / ".slmperf/report.html").exists()
    assert processes_of(pytester.path) == []


def test_a_crash_of_pytest_loses_no_finished_test(perf, pytester):
    """The journal holds each finished test; the report can be made from it."""
    suite = """
import os

def test_first(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)

def test_second(slmperf):
    os._exit(9)
"""
    result = perf(suite=suite, process=True)
    assert result.ret == 9
    (journal,) = pytester.path.glob(".slmperf/journal/*.jsonl")
    assert "test_perf.py::test_first" in journal.read_text()
