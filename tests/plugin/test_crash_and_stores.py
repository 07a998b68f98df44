"""What a session leaves behind when it is killed, and baselines kept in a database."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest

from pytest_slmperf.baselines.journal import read as read_journal

KILLED = """
import os, signal

def test_first(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)

def test_second(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
    os.kill(os.getpid(), signal.SIGKILL)
"""
ONE = "def test_one(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"


@pytest.fixture
def command(pytester):
    """Runs slmperf in a process of its own."""
    return lambda *words: pytester.run(sys.executable, "-m", "pytest_slmperf.cli.main", *words)


def test_a_killed_session_is_rebuilt_from_its_journal(perf, pytester, command):
    result = perf(suite=KILLED, process=True)
    assert result.ret < 0  # killed
    assert not (pytester.path / ".slmperf/results.json").exists()
    (journal,) = pytester.path.glob(".slmperf/journal/*.jsonl")
    assert command("report", journal, "--results", "results.json").ret == 0
    document = json.loads((pytester.path / "results.json").read_text())
    ids = [one["id"] for one in document["results"]]
    assert ids == ["test_perf.py::test_first", "test_perf.py::test_second"]
    assert all(one["metrics"]["output_throughput"]["value"] > 0 for one in document["results"])
    assert "test_first" in (pytester.path / "report.html").read_text()


ADVISED = """
def test_sweep(slmperf):
    sweep = slmperf.sweep(batch=[1, 8], input_len=16, output_len=16)
    sweep.advise(sweep.slo(2, at=8))

def test_replicas(slmperf):
    slmperf.replication([1, 2], batch=2, requests=4, input_len=8, output_len=8, fair=False)
"""


def test_the_journal_holds_what_the_results_file_holds(perf, results, pytester):
    perf(suite=ADVISED)
    (journal,) = pytester.path.glob(".slmperf/journal/*.jsonl")
    kept = {result.id: msgspec.to_builtins(result) for result in read_journal(journal).results}
    written = {result["id"]: result for result in results()["results"]}
    assert json.loads(json.dumps(kept)) == written
    sweep = written["test_perf.py::test_sweep"]
    assert sweep["charts"]["sweep"]["slos"]
    assert any(note.startswith("advised: ") for note in sweep["notes"])
    assert [row["replicas"] for row in written["test_perf.py::test_replicas::k=2"]["charts"]["replication"]] == [1, 2]


def test_baselines_and_history_in_a_database(perf, pytester, command):
    place = "sqlite:///kept/baselines.db"
    first = perf("--slmperf-baselines", place, "--slmperf-approve", "--slmperf-reason", "first figures", suite=ONE)
    first.assert_outcomes()
    first.stdout.fnmatch_lines(["*1 baseline saved as 'main' in sqlite:///*"])
    again = perf("--slmperf-baselines", place, suite=ONE)
    again.assert_outcomes(passed=1)
    assert not (pytester.path / "baselines").exists()
    shown = command("baselines", "show", "test_one", "--baselines", place, "--json")
    (baseline,) = json.loads(shown.stdout.str())
    assert baseline["sessions"][0]["reason"] == "first figures"
    assert command("compare", place, ".slmperf/results.json").ret == 0
    assert command("history", "test_one", "--baselines", place, "--json").ret == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--slmperf-baselines", "mysql://host/db"],
            "mysql:// is not known; give a folder, sqlite:///PATH or postgresql",
        ),
        (["--slmperf-baseline", "../main"], "baseline name '../main': use 1 to 64 letters"),
        (["--slmperf-save", "a b"], "baseline name 'a b': use 1 to 64 letters"),
        (["--slmperf-across", "weights"], "--slmperf-across 'weights': must be one of driver"),
    ],
)
def test_wrong_places_and_names_are_refused_before_anything_is_measured(perf, pytester, words, said):
    result = perf(*words, suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert not (pytester.path / ".slmperf").exists()


EXPORTER = """
class Words:
    name, suffix = "words", ".txt"

    def export(self, results):
        return " ".join(result.id for result in results.results).encode()

def pytest_slmperf_exporters(config):
    return [Words()]
"""


def test_another_packages_exporter_works_in_session_and_command(perf, pytester, command, monkeypatch):
    pytester.makepyfile(words_plugin=EXPORTER)
    monkeypatch.setenv("PYTEST_PLUGINS", "words_plugin")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    perf("--slmperf-export", "words=out.txt", suite=ONE)
    assert (pytester.path / "out.txt").read_text() == "test_perf.py::test_one"
    run = command("export", "--format", "words", ".slmperf/results.json")
    assert (run.ret, run.stdout.str()) == (0, "test_perf.py::test_one")
    unknown = command("export", "--format", "sentences", ".slmperf/results.json")
    assert unknown.ret == 4
    assert "words" in unknown.stderr.str()
