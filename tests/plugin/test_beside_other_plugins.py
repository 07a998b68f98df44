"""Plugins that run tests in other ways: again, in parts, in a forked process, in unittest's manner."""

from __future__ import annotations

import pytest

ONE = """
def test_one(slmperf):
    slmperf.offline(batch=4, input_len=16, output_len=16)
"""

# The same, and its own assertion fails in the first try only.
FLAKY = """
tries = 0
def test_one(slmperf):
    global tries
    tries += 1
    slmperf.offline(batch=4, input_len=16, output_len=16)
    assert tries > 1, "too slow"
"""

# What pytest-rerunfailures does, and an engine that is slow in the first run only.
AGAIN = """
import os
import pytest
from _pytest.runner import runtestprotocol
from pytest_slmperf.pytest_plugin.context import CONTEXT

runs = 0

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    global runs
    item.config.stash[CONTEXT].close()  # each run has engines of its own
    os.environ["SLMPERF_SIMULATED_SLOWDOWN"] = "0.3" if runs == 0 else "0.0"
    runs += 1

def pytest_runtest_protocol(item, nextitem):
    for last in (False, True):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not last and any(report.failed for report in reports):
            continue
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True
"""


def test_a_second_try_does_not_undo_a_regression(perf, pytester, results):
    perf("--slmperf-approve", suite=ONE)
    pytester.makeconftest(AGAIN)
    result = perf(suite=ONE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["output_throughput regressed: −*", "*run again by another plugin, and not measured again*"]
    )
    (found,) = results()["results"]
    assert found["verdicts"][0]["verdict"] == "regressed"


def test_a_second_try_does_not_undo_a_regression_that_the_test_asserted_itself(perf, pytester, results):
    perf("--slmperf-approve", suite=ONE)
    pytester.makeconftest(AGAIN)
    result = perf(suite=FLAKY)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["output_throughput regressed: −*"])
    (found,) = results()["results"]
    assert found["verdicts"][0]["verdict"] == "regressed"


def test_a_second_try_of_another_failure_measures_again(perf, pytester, results):
    perf("--slmperf-approve", suite=ONE)
    pytester.makeconftest(AGAIN.replace('"0.3"', '"0.0"'))
    perf(suite=FLAKY).assert_outcomes(passed=1)
    (found,) = results()["results"]
    assert found["verdicts"][0]["verdict"] == "same"
    assert not results()["session"]["failed_tests"]


def test_a_forked_test_says_why_it_cannot_measure(perf, pytester):
    pytester.makeconftest("""
import os
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    child = os.fork()
    if not child:
        try:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            with open("said.txt", "w") as file:
                file.writelines(report.longreprtext for report in reports)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return True
""")
    perf(suite=ONE, process=True)
    assert "forked from pytest's own (--forked, @pytest.mark.forked)" in (pytester.path / "said.txt").read_text()


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest has subtests from version 9 on")
def test_subtests_are_no_further_tests(perf, results):
    suite = """
def test_parts(slmperf, subtests):
    for batch in (1, 2):
        with subtests.test(batch=batch):
            slmperf.offline(batch=batch, input_len=16, output_len=16)

def test_fails(slmperf, subtests):
    for batch in (1, 2):
        with subtests.test(batch=batch):
            slmperf.offline(batch=batch, input_len=16, output_len=16)
            assert batch > 2, "too small"
"""
    outcomes = perf(suite=suite).parseoutcomes()
    assert {"new": 1, "failed": 3}.items() <= outcomes.items()  # two subtests, and the test that holds them
    assert len(results()["results"]) == 4
    (failed,) = results()["session"]["failed_tests"]
    assert "too small" in failed["reason"]


TESTCASE = """
import unittest
import pytest

class TestOne(unittest.TestCase):
    def test_argument(self, slmperf):
        slmperf.offline(batch=4, input_len=16, output_len=16)

class TestTwo(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, slmperf):
        self.slmperf = slmperf

    def test_attribute(self):
        self.slmperf.offline(batch=4, input_len=16, output_len=16)
"""


def test_a_method_of_a_testcase_says_how_to_take_the_fixture(perf):
    result = perf(suite=TESTCASE)
    assert result.parseoutcomes() == {"errors": 1, "new": 1}
    result.stdout.fnmatch_lines(["*unittest.TestCase hands no fixtures to its methods: take slmperf in a fixture of*"])
    assert perf(suite=TESTCASE, engine=None).parseoutcomes() == {"skipped": 2}


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_a_rehearsal_leaves_the_results_of_an_earlier_session(perf, results, option):
    perf(suite=ONE)
    before = results()
    perf(option, suite=ONE)
    assert results() == before
