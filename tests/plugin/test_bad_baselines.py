"""Baselines are data from outside: refused with the file named, left untouched, and never green."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ONE = "def test_one(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the approved baseline lies once the first test has measured it."""
    return tmp_path_factory.mktemp("approved") / "baselines"


@pytest.fixture
def baseline(perf, pytester, kept) -> Path:
    """An approved baseline of one test; no engine's log is left of measuring it."""
    if not kept.exists():
        assert perf("--slmperf-approve", suite=ONE).ret == 0
        shutil.rmtree(pytester.path / ".slmperf")
        shutil.copytree(pytester.path / "baselines", kept)
    else:
        shutil.copytree(kept, pytester.path / "baselines")
    (path,) = pytester.path.glob("baselines/*/main/**/*.json")
    return path


def newer(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"schema_version": 99}).encode()


def unsettled(data: bytes) -> bytes:
    """What git leaves where two branches approved the same test."""
    return b"<<<<<<< HEAD\n" + data + b"=======\n" + data + b">>>>>>> other\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "*is empty*"),
        (lambda data: data[: len(data) // 2], "*not valid JSON, perhaps cut short*"),
        (lambda data: b"\x00\xff" * 50, "*not UTF-8 text*"),
        (lambda data: b"[]", "*"),
        (newer, "*schema version 99*upgrade pytest-slmperf*"),
        (lambda data: data + b" " * (101 * 2**20), "*MiB is more than*"),
        (lambda data: data.replace(b"::test_one", b"::test_two"), "*its field 'id' is *test_two*edited by hand*"),
        (lambda data: data.replace(b'"tok/s"', b'"tok/min"'), "*'unit' 'tok/min', which must be 'tok/s'*"),
        (unsettled, "*line 1 is the mark of a merge that was not settled (<<<<<<< HEAD)*--theirs*"),
    ],
    ids=[
        "empty",
        "truncated",
        "binary",
        "other-json",
        "newer-schema",
        "100-MB",
        "another-id",
        "wrong-unit",
        "conflict",
    ],
)
def test_spoilt_baseline_is_refused_before_an_engine_starts(perf, baseline, spoil, message, pytester):
    spoilt = spoil(baseline.read_bytes())
    baseline.write_bytes(spoilt)
    result = perf(suite=ONE)
    assert result.ret == 1
    # one line or two: where the name ends depends on how long the temporary folder's name is
    result.stdout.fnmatch_lines([f"*{baseline.name}*"])
    result.stdout.fnmatch_lines([message])
    assert not (pytester.path / ".slmperf/logs").exists()
    assert baseline.read_bytes() == spoilt


def test_a_metric_that_no_version_knows_is_named_and_never_green(perf, baseline):
    baseline.write_bytes(baseline.read_bytes().replace(b'"output_throughput"', b'"output_througput"'))
    result = perf(suite=ONE)
    assert result.parseoutcomes() == {"new": 1}
    result.stdout.fnmatch_lines(["*unknown metric 'output_througput'; did you mean output_throughput*"])


@pytest.mark.parametrize("value", ["-1.0", "0.0", "1e999"])
def test_impossible_readings_in_a_baseline_are_refused(perf, baseline, value, pytester):
    data = json.loads(baseline.read_text())
    text = json.dumps(data)
    first = data["sessions"][0]["metrics"]["output_throughput"]["launches"][0][0]
    baseline.write_text(text.replace(repr(first), value, 1))
    result = perf(suite=ONE)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{baseline.name}: not a usable baseline: *launch*"])
    assert not (pytester.path / ".slmperf/logs").exists()


def test_baseline_of_other_hardware_is_incomparable_and_named(perf, baseline, pytester):
    data = json.loads(baseline.read_text())
    data["identity"]["cpu"] = "Some Other CPU"
    other = baseline.parents[2].with_name("some-other-cpu-2c-simulated-00000000") / baseline.relative_to(
        baseline.parents[2]
    )
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(data | {"fingerprint": "some-other-cpu-2c-simulated-00000000"}))
    baseline.unlink()
    result = perf(suite=ONE)
    assert result.parseoutcomes() in ({"new": 1}, {"incomparable": 1})
    assert result.ret == 0
    assert perf("--slmperf-fail-on", "inconclusive", suite=ONE).ret == 1


def test_a_file_where_the_folder_of_baselines_should_be_ends_the_session(perf, pytester):
    folder = pytester.path / "baselines"
    folder.write_text("a file where the folder should be")
    result = perf("--slmperf-approve", suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--slmperf-baselines: *baselines is a file; give a folder*"])
    assert folder.read_text() == "a file where the folder should be"


def test_baselines_that_cannot_be_written_are_told_and_the_results_still_stand(perf, pytester, results):
    perf("--slmperf-save", "other", suite=ONE)
    (machine,) = (pytester.path / "baselines").iterdir()
    (machine / "main").write_text("a file where the folder should be")
    result = perf("--slmperf-approve", suite=ONE)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*baseline not written: *main*cannot be written*"])
    assert len(results()["results"]) == 1


def test_a_state_folder_that_cannot_be_written_ends_the_session(perf, pytester):
    (pytester.path / "taken").write_text("")
    result = perf("--slmperf-state-dir", "taken/here", suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--slmperf-state-dir: *here cannot be written (*taken: a file*); choose another*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slmperf-html", "."], "*--slmperf-html: . is a folder; give a file in it*"),
        (["--slmperf-json", "taken/r.json"], "*--slmperf-json: *taken cannot be written (*: a file, where*"),
        (["--slmperf-export", "csv=taken/r.csv"], "*--slmperf-export: *taken cannot be written (*: a file, where*"),
        (
            ["--slmperf-baselines", "taken/b", "--slmperf-approve"],
            "*--slmperf-baselines: *b cannot be written (*a file*",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(perf, pytester, arguments, message):
    (pytester.path / "taken").write_text("")
    result = perf(*arguments, suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (pytester.path / ".slmperf").exists()


def test_full_disk_fails_the_session_and_says_what_is_missing(perf, pytester):
    """Every write past 6,000 bytes fails once the tests are done, as on a full disk."""
    pytester.makeconftest("""
import resource, signal, sys

def pytest_runtest_teardown(item):
    sys.dont_write_bytecode = True  # Python would keep compiled files that end at the limit
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
""")
    older = pytester.path / ".slmperf/report.html"
    older.parent.mkdir()
    older.write_text("an older session's")
    result = perf("-q", suite=ONE, process=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*results not written*", "*report not written*"])
    result.stdout.no_fnmatch_line("report: *")
    assert not (pytester.path / ".slmperf/results.json").exists()
    assert older.read_text() == "an older session's"


def test_two_sessions_saving_at_once_lose_nothing(perf, pytester):
    perf("-p", "no:benchmark", suite=ONE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--slmperf",
        "--slmperf-engine",
        "simulated",
        "--slmperf-save",
        "both",
    ]
    running = [
        subprocess.Popen(
            [*command, "--slmperf-state-dir", f".state{number}"],
            cwd=pytester.path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(2)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    (path,) = pytester.path.glob("baselines/*/both/**/*.json")
    assert len(json.loads(path.read_text())["sessions"]) == 2


NAMES = ["<script>alert(1)</script>", "quote\"s'", "emoji 🚀", "new\nline", "../../outside", "a" * 300]


def test_strange_test_ids_and_names_do_no_harm(perf, pytester, results):
    suite = f"""
import pytest

@pytest.mark.parametrize("name", {NAMES!r})
def test_named(slmperf, name):
    slmperf.offline(batch=1, input_len=16, output_len=16, name=name)
"""
    assert perf("--slmperf-approve", suite=suite).ret == 0
    result = perf(suite=suite)
    result.assert_outcomes(passed=len(NAMES))
    page = (pytester.path / ".slmperf/report.html").read_text()
    assert "<script>alert(1)" not in page
    files = list(pytester.path.glob("baselines/*/main/**/*.json"))
    assert len(files) == len(NAMES)
    assert not (pytester.path.parent / "outside").exists()


def test_a_name_that_no_baseline_has_is_told_with_those_that_there_are(perf, baseline):
    result = perf("--slmperf-baseline", "mian", suite=ONE)
    result.stdout.fnmatch_lines(["note: no baseline has the name 'mian'; stored are 'main'"])
    assert "has the name" not in perf(suite=ONE).stdout.str()
