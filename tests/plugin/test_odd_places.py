"""Places, files and other people's code that are not what they should be: a clear word, and the rest is kept."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

ONE = """
def test_one(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)
"""
TWO = (
    ONE
    + """
def test_two(slmperf):
    slmperf.offline(batch=2, input_len=8, output_len=8)
"""
)


def slmperf(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.run(sys.executable, "-m", "pytest_slmperf.cli.main", *args)


@pytest.mark.parametrize("option", ["json", "html"])
def test_a_pipe_is_never_replaced(perf, pytester, option):
    pipe = pytester.path / "pipe"
    os.mkfifo(pipe)
    done = perf(f"--slmperf-{option}={pipe}", suite=ONE)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["slmperf: re*not written: *pipe*"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--slmperf-json=x", "--slmperf-html=x"), "--slmperf-json: x is the file of --slmperf-html too"),
        (("--slmperf-json=x", "--slmperf-export=csv=x"), "--slmperf-export: x is the file of --slmperf-json too"),
        (("--slmperf-json=test_perf.py",), "test_perf.py is a Python file"),
        (("--slmperf-baselines=sqlite://", "--slmperf-approve"), "names no file"),
    ],
)
def test_places_that_spoil_each_other_are_refused(perf, args, words):
    done = perf(*args, suite=ONE)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{words}*"])


@pytest.mark.parametrize(
    ("data", "words"),
    [(b'{"schema_version": 1, "a": "\xe9"}', "not UTF-8 text"), (b'{"a":' * 100_000, "nested too deeply")],
    ids=["latin", "deep"],
)
def test_a_file_that_is_no_json_is_named_and_is_no_regression(perf, pytester, data, words):
    """Exit code 1 of slmperf compare means: regressed."""
    perf("--slmperf-approve", suite=ONE)
    (baseline,) = Path(pytester.path, "baselines").glob("*/main/*/*.json")
    baseline.write_bytes(data)
    done = perf(suite=ONE)
    assert done.ret == 1
    done.stdout.fnmatch_lines([f"*{baseline.name}: {words}*"])
    assert "INTERNALERROR" not in done.stdout.str()
    bad = pytester.path / "bad.json"
    bad.write_bytes(data)
    for command in (
        ("compare", "bad.json", "bad.json"),
        ("report", "bad.json"),
        ("baselines", "approve", "bad.json", "--reason", "x"),
    ):
        done = slmperf(pytester, *command)
        assert done.ret == 4, command
        assert words in done.stderr.str()


def test_an_empty_database_is_an_empty_store(perf, pytester):
    """A save on a full disk leaves one."""
    store = "--slmperf-baselines=sqlite:///b.db"
    Path(pytester.path, "b.db").touch()
    assert perf(store, suite=ONE).ret == 0
    assert perf(store, "--slmperf-approve", suite=ONE).ret == 0
    assert perf(store, suite=ONE).ret == 0


def test_a_broken_history_of_one_test_keeps_no_baseline_from_the_others(perf, pytester):
    perf("--slmperf-approve", suite=TWO)
    broken, _ = sorted(Path(pytester.path, "baselines").glob("*/.history/*/*.jsonl"))
    broken.write_text('{"test": "x", "schema_version": 9}\n')
    done = perf("--slmperf-approve", suite=TWO)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*2 baselines saved as 'main'*", "slmperf: history of *test_one not written: *"])
    assert broken.read_text() == '{"test": "x", "schema_version": 9}\n'
    for path in Path(pytester.path, "baselines").glob("*/main/*/*.json"):
        assert len(json.loads(path.read_text())["sessions"]) == 2


FAULTY = """
class Exporter:
    name = "mine"
    def export(self, results):
        {export}

class Meter:
    name, available, reason = "mine", False, "none"
    def devices(self):
        return []
    def watch(self):
        raise NotImplementedError
    def close(self):
        raise RuntimeError("stuck")

def pytest_slmperf_exporters(config):
    return [Exporter()]

def pytest_slmperf_meters(config):
    {meters}
"""


@pytest.mark.parametrize(
    ("export", "words"),
    [("raise RuntimeError('no')", "RuntimeError: no"), ("return 'text'", "gave str, and must give bytes")],
)
def test_a_faulty_exporter_takes_nothing_else_away(perf, pytester, export, words):
    pytester.makeconftest(FAULTY.format(export=export, meters="return []"))
    done = perf("--slmperf-approve", "--slmperf-export=mine=out.txt", suite=ONE)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*baseline saved as 'main'*", f"slmperf: export mine not written: *{words}*"])
    assert Path(pytester.path, ".slmperf/report.html").is_file()


def test_a_faulty_meter_is_named(perf, pytester, results):
    pytester.makeconftest(FAULTY.format(export="return b''", meters="raise OSError('no bus')"))
    done = perf(suite=ONE)
    assert "a plugin's pytest_slmperf_meters failed: OSError: no bus" in done.stdout.str() + done.stderr.str()
    assert "INTERNALERROR" not in done.stdout.str()
    pytester.makeconftest(
        FAULTY.format(export="return b''", meters="meter = Meter(); meter.available = True; return [meter]")
    )
    perf(suite=ONE)
    assert any("the meter mine failed when it was closed" in note for note in results()["session"]["notes"])


def test_the_log_shown_is_of_this_engine(perf, pytester):
    """Logs are named alike in every session of a folder."""
    suite = ONE.replace(
        "def test_one", "import pytest\n@pytest.mark.slmperf(settings={'fail': 'start-exit'})\ndef test_one"
    )
    perf(suite=suite)
    (log,) = Path(pytester.path, ".slmperf/logs").glob("*.log")
    log.write_text("of yesterday\n" + log.read_text())
    done = perf(suite=suite)
    assert "of yesterday" not in done.stdout.str()
    assert "last lines of the engine's log" in done.stdout.str()


def test_one_launch_at_most_is_one_launch(perf, results):
    for verdict in ("new", "inconclusive"):
        done = perf("--slmperf-max-launches", "1", "--slmperf-save", "main", suite=ONE)
        assert done.ret == 0
        (result,) = results()["results"]
        assert len(result["metrics"]["output_throughput"]["launches"]) == 1
        assert result["verdicts"][0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("setting", "words"),
    [("step_ms=abc", "setting step_ms must be a number"), ("noise_launch=-1", "must be a number of at least 0")],
)
def test_settings_of_the_simulated_engine_are_checked(perf, setting, words):
    done = perf("--slmperf-set", setting, suite=ONE)
    assert done.ret != 0
    assert words in done.stdout.str() + done.stderr.str()


def test_a_batch_that_no_memory_holds_is_refused(perf):
    done = perf(suite=ONE.replace("batch=1", "batch=10**9"))
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*tokens in one round, more than 1e+09*"])


def test_a_known_failure_that_passes_is_not_called_new(perf):
    done = perf(suite=ONE.replace("def test_one", "import pytest\n@pytest.mark.xfail(strict=False)\ndef test_one"))
    done.assert_outcomes(xpassed=1)


OUTSIDE = "def test_same(slmperf):\n    slmperf.offline(batch={batch}, input_len=16, output_len=16)\n"


def test_two_tests_of_one_id_are_refused(perf, pytester):
    """pytest names files outside its rootdir without their folder, and one baseline would serve two tests."""
    for folder, batch in (("one", 2), ("two", 4)):
        pytester.path.joinpath(folder).mkdir()
        pytester.path.joinpath(folder, "test_same.py").write_text(OUTSIDE.format(batch=batch))
    settings = pytester.mkdir("settings")
    settings.joinpath("pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    result = perf("-c", "settings/pytest.ini", "one", "two")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*one/test_same.py and *two/test_same.py both hold the test *give --rootdir*"])
    assert perf("-c", "settings/pytest.ini", "--rootdir=.", "one", "two").parseoutcomes() == {"new": 2}


def test_a_test_that_is_collected_twice_is_refused(perf):
    result = perf("--keep-duplicates", "test_perf.py", "test_perf.py", suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_perf.py::test_one was collected twice, *leave out --keep-duplicates*"])
    assert perf("test_perf.py", "test_perf.py::test_one", suite=ONE).parseoutcomes() == {"new": 1}


def test_ids_that_depend_on_the_command_line_are_told(perf, pytester):
    pytester.mkdir("settings").joinpath("pytest.ini").write_text("[pytest]\n")
    result = perf("-c", "settings/pytest.ini", "test_perf.py", "-k", "8")
    result.stdout.fnmatch_lines(["note: 1 performance test lies outside the rootdir*"])


def test_a_terminal_without_unicode_shows_the_table_line_by_line(perf, monkeypatch):
    perf("--slmperf-approve", suite=TWO)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COLUMNS", "60")
    result = perf("--slmperf-set", "slowdown=0.3", suite=TWO, process=True)
    result.assert_outcomes(failed=2)  # by their verdicts, and not by a character
    result.stdout.fnmatch_lines(["test_one *-*% *v regressed", "test_two *-*% *v regressed", "regressed: *"])
