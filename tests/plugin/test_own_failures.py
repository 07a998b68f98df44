"""A test that fails by no verdict is told in every report: without it they would say that nothing got worse."""

from pathlib import Path

import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.model.results_file import load_results
from pytest_slmperf.reports.markdown import annotations, job_summary

SUITE = """
import pytest

def test_fine(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)

def test_slo(slmperf):
    found = slmperf.offline(batch=2, input_len=8, output_len=8)
    assert found["output_throughput"] > 1e9, "too slow for <b>us</b>"

def test_broken(slmperf):
    raise ValueError("no such file")

@pytest.fixture
def unready():
    raise OSError("the disk is gone")

def test_unready(slmperf, unready):
    slmperf.offline(batch=4, input_len=8, output_len=8)

@pytest.mark.xfail(reason="known")
def test_known(slmperf):
    slmperf.offline(batch=8, input_len=8, output_len=8)
    assert False
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_failed_assertion_is_in_every_report(perf, results, pytester, workers):
    perf("--slmperf-approve", suite=SUITE.replace("> 1e9", "> 0"))
    done = perf(*workers, suite=SUITE)
    done.assert_outcomes(passed=1, failed=2, errors=1, xfailed=1)
    told = {one["id"].partition("::")[2]: one for one in results()["session"]["failed_tests"]}
    assert set(told) == {"test_slo", "test_broken", "test_unready"}
    assert "too slow for <b>us</b>" in told["test_slo"]["reason"]
    assert told["test_broken"]["reason"] == "ValueError: no such file"
    assert told["test_unready"]["reason"] == "setup: OSError: the disk is gone"
    assert told["test_slo"]["location"] == "test_perf.py:7"

    said = " ".join(done.stdout.str().split())
    assert "3 same, 3 tests failed by their own assertion or error" in said
    page = Path(pytester.path, ".slmperf/report.html").read_text()
    assert '<h1 id="headline">3 tests failed by their own assertion or error</h1>' in page
    assert "too slow for &lt;b&gt;us&lt;/b&gt;" in page
    assert "Every gated metric stayed within its limit" not in page
    read = load_results(Path(pytester.path, ".slmperf/results.json"))
    assert "## slmperf: ✗ 3 tests failed by their own assertion or error, = 3 same" in job_summary(read)
    assert "ValueError: no such file" in job_summary(read)
    errors = [line for line in annotations(read) if line.startswith("::error file=test_perf.py,line=7,")]
    assert len(errors) == 1
    assert "too slow" in errors[0]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_an_approval_is_of_verdicts_not_of_a_tests_own_assertion(perf, pytester, workers, monkeypatch):
    """A regression is stored; a test whose own assertion failed is named with the reason and keeps its baseline."""
    suite = SUITE + "\n\ndef test_fine_too(slmperf):\n    slmperf.offline(batch=3, input_len=8, output_len=8)\n"
    perf("--slmperf-approve", suite=suite.replace("> 1e9", "> 0"))
    monkeypatch.setenv("SLMPERF_SIMULATED_SLOWDOWN", "0.4")
    done = perf("--slmperf-approve", "--slmperf-save", "kept", *workers, suite=suite)
    done.assert_outcomes(passed=2, failed=2, errors=1, xfailed=1)
    done.stdout.fnmatch_lines(
        [
            "slmperf: test_perf.py::test_slo: refused (its test failed: AssertionError: too slow*--test ID stores it*",
            "slmperf: test_perf.py::test_fine*: replaced (*regressed*)",
            "slmperf: 3 baselines saved as 'main' in *, 1 not",
        ]
    )
    stored = {
        (one.name, one.id.partition("::")[2]): len({session.id for session in one.sessions})
        for one in FileStore(Path(pytester.path, "baselines")).all()
    }
    assert stored["main", "test_fine"] == 1
    assert ("kept", "test_slo") not in stored
    before = [one for one in FileStore(Path(pytester.path, "baselines")).all("main") if one.id.endswith("test_slo")]
    assert before[0].newest.metrics["output_throughput"].launches[0][0] > 0


def test_nothing_advises_to_approve_what_would_be_refused(perf):
    suite = (
        "def test_slo(slmperf):\n    slmperf.offline(batch=2, input_len=8, output_len=8)\n    assert False, 'slow'\n"
    )
    done = perf(suite=suite)
    assert "make this run the baseline" not in done.stdout.str()


def test_saving_under_a_name_is_no_approval(perf, pytester):
    perf("--slmperf-save", "kept", suite=SUITE)
    saved = {one.id.partition("::")[2] for one in FileStore(Path(pytester.path, "baselines")).all("kept")}
    assert saved == {"test_fine", "test_slo", "test_known"}


def test_what_a_verdict_or_a_lost_engine_fails_is_told_once(perf, results, monkeypatch):
    """Their results say it already."""
    suite = """
import pytest

def test_batch(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)

@pytest.mark.slmperf(settings={"fail": "round-exit"})
def test_lost(slmperf):
    slmperf.offline(batch=2, input_len=8, output_len=8)
"""
    perf("--slmperf-approve", suite=suite)
    monkeypatch.setenv("SLMPERF_SIMULATED_SLOWDOWN", "0.4")
    done = perf(suite=suite)
    done.assert_outcomes(failed=2)
    assert results()["session"]["failed_tests"] == []


def test_only_failing_tests_still_make_a_summary(perf):
    done = perf(suite="def test_broken(slmperf):\n    raise ValueError('no')\n")
    done.stdout.fnmatch_lines(
        ["slmperf: nothing was measured, 1 test failed by its own assertion or error", "report: *"]
    )


def test_a_crashed_worker_is_in_every_report(perf, results):
    suite = """
import os

def test_fine(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)

def test_crash(slmperf):
    os._exit(7)
"""
    result = perf("-n", "1", suite=suite)
    assert result.parseoutcomes() == {"failed": 1, "new": 1}
    result.stdout.fnmatch_lines(["slmperf: 1 new, 1 test failed by its own assertion or error"])
    (failed,) = results()["session"]["failed_tests"]
    assert failed["id"] == "test_perf.py::test_crash"
    assert "crashed while running" in failed["reason"]


def test_a_scenario_that_fails_before_it_measures_takes_no_other_results_id(perf, results):
    suite = """
import pytest
from pytest_slmperf.scenarios.offline import Offline

class Mute(Offline):
    def round(self, engine, timeout_s):
        raise TimeoutError

def test_twice(slmperf):
    slmperf.offline(batch=2, input_len=8, output_len=8, name="first")
    slmperf.replication(k=[], batch=2, input_len=8, output_len=8)

def test_mute(slmperf):
    slmperf.measure(Mute(1, 8, 8))
"""
    done = perf(suite=suite)
    done.assert_outcomes(failed=2)
    found = {one["id"].partition("::")[2]: one.get("failure") for one in results()["results"]}
    assert found == {
        "test_twice::first": None,
        "test_twice#2": "slmperf.replication: k is empty; name at least one number of replicas, k=[2], or k='auto'",
        "test_mute": "TimeoutError",  # it says no more, and was covered by an IndexError of this plugin's
    }
