"""The main job on the simulated engine, and that the plugin stays out of the way when it is not asked for."""

from __future__ import annotations

import json
import sys

import pytest


def test_perf_tests_are_skipped_with_one_line_without_the_flag(perf):
    result = perf(engine=None)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["slmperf: 2 performance tests skipped; run them with --slmperf"])
    assert result.ret == 0


def test_first_run_is_new_and_not_green(perf, results):
    result = perf()
    assert result.ret == 0
    assert result.parseoutcomes() == {"new": 2}
    found = results()
    assert found["schema_version"] == 1
    assert [entry["id"] for entry in found["results"]] == ["test_perf.py::test_batch[1]", "test_perf.py::test_batch[8]"]
    for entry in found["results"]:
        assert entry["engine"]["weights"] == "simulated"
        throughput = entry["metrics"]["output_throughput"]
        assert throughput["value"] > 0
        assert len(throughput["launches"]) == 2
        assert {verdict["verdict"] for verdict in entry["verdicts"] if verdict["metric"] == "output_throughput"} == {
            "new"
        }
        energy = entry["metrics"]["energy_per_output_token"]
        assert energy["value"] is None
        assert energy["reason"]


def test_second_run_on_the_same_engine_is_the_same(perf, results):
    first = perf("--slmperf-approve")
    assert first.ret == 0
    assert "next:" not in first.stdout.str(), "approving was asked for, and need not be advised"
    result = perf()
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    assert {v["verdict"] for entry in results()["results"] for v in entry["verdicts"] if v["change"] is not None} == {
        "same"
    }


def test_a_slower_engine_fails_the_test_itself(perf, pytester):
    perf("--slmperf-approve")
    result = perf("--slmperf-set", "slowdown=0.3", "--junitxml=junit.xml")
    assert result.ret == 1
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*output_throughput regressed: −2* %*", "*tolerance 1 %, limit 5 %; baseline main*"])
    junit = (pytester.path / "junit.xml").read_text()
    assert 'failures="2"' in junit
    assert 'errors="0"' in junit


def test_a_regression_is_an_ordinary_failure_for_xfail(perf):
    suite = """
import pytest

@pytest.mark.xfail(reason="known to be slow", strict=True)
def test_known(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    perf("--slmperf-approve", suite=suite)
    result = perf("--slmperf-set", "slowdown=0.3", suite=suite)
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0


def test_last_failed_reruns_the_regressed_test_only(perf, pytester):
    suite = """
import pytest

@pytest.mark.parametrize("batch", [1, 64])
def test_batch(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""
    perf("--slmperf-approve", suite=suite)
    slow = ["-p", "cacheprovider", "--slmperf-set", "slowdown=0.3", "--slmperf-set", "slow_min_batch=32"]
    perf(*slow, suite=suite).assert_outcomes(passed=1, failed=1)
    perf(*slow, "--lf", suite=suite).assert_outcomes(failed=1)


def test_collect_only_starts_nothing_and_writes_nothing(perf, pytester):
    result = perf("--collect-only")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_batch?1?*", "*2 tests collected*"])
    assert not (pytester.path / ".slmperf").exists()


def test_keyword_and_exitfirst(perf, results):
    assert perf("-k", "8").parseoutcomes() == {"new": 1, "deselected": 1}
    assert len(results()["results"]) == 1
    perf("--slmperf-approve")
    result = perf("-x", "--slmperf-set", "slowdown=0.3")
    result.assert_outcomes(failed=1)
    found = results()
    assert len(found["results"]) == 1
    assert found["session"]["notes"] == ["stopped early: 1 of 2 performance tests were not run to their end"]


def test_a_test_run_again_by_another_plugin_has_one_result(perf, pytester, results):
    pytester.makeconftest("""
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem)
    runtestprotocol(item, nextitem=nextitem)
    return True
""")
    perf("-k", "8")
    (found,) = results()["results"]
    assert len(found["metrics"]["output_throughput"]["launches"]) == 2


def test_switched_off_plugin_leaves_other_tests_alone(pytester):
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_subprocess("-p", "no:slmperf")
    result.assert_outcomes(passed=1)


def test_works_without_pytest_benchmark(perf):
    assert perf("-p", "no:benchmark").parseoutcomes() == {"new": 2}


def test_loading_the_plugin_imports_nothing_heavy(pytester):
    code = (
        "import sys, pytest_slmperf.pytest_plugin.plugin\n"
        "heavy = {'numpy', 'scipy', 'torch', 'vllm', 'pydantic', 'msgspec', 'jinja2', 'pynvml', 'altair'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = pytester.run(sys.executable, "-c", code)
    assert result.stdout.lines[-1] == "[]"


def test_both_sides_of_a_test_body_run_before_the_verdict(perf):
    """The body goes on after the measurement, and its own failure comes first."""
    suite = """
def test_own(slmperf):
    measured = slmperf.offline(batch=2, input_len=16, output_len=16)
    assert measured["output_throughput"] > 0
    assert measured.verdicts["output_throughput"] == "same", "own assertion"
"""
    result = perf(suite=suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*own assertion*"])


def test_several_scenarios_of_one_test_are_told_apart(perf, results):
    suite = """
def test_two(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
    slmperf.offline(batch=2, input_len=16, output_len=16)
    slmperf.offline(batch=4, input_len=16, output_len=16, name="four")
    slmperf.offline(batch=4, input_len=16, output_len=16, name="four")
"""
    perf(suite=suite)
    assert [entry["id"] for entry in results()["results"]] == [
        "test_perf.py::test_two",
        "test_perf.py::test_two#2",
        "test_perf.py::test_two::four",
        "test_perf.py::test_two::four#2",
    ]


def test_scenarios_stand_in_the_benchmark_json(perf, pytester):
    assert perf("--benchmark-json=bench.json").ret == 0
    found = json.loads((pytester.path / "bench.json").read_text())
    assert [bench["fullname"] for bench in found["benchmarks"]] == [
        "test_perf.py::test_batch[1]",
        "test_perf.py::test_batch[8]",
    ]
    bench = found["benchmarks"][0]
    assert bench["stats"]["rounds"] == 6
    assert bench["stats"]["mean"] > 0
    assert bench["extra_info"]["metrics"]["output_throughput"]["unit"] == "tok/s"
    assert "reason" in bench["extra_info"]["energy"]


def test_a_test_that_benchmarks_too_has_two_names(perf, pytester):
    suite = """
def test_both(slmperf, benchmark):
    slmperf.offline(batch=2, input_len=16, output_len=16)
    benchmark.pedantic(lambda: None, rounds=2)
"""
    perf("--benchmark-json=bench.json", suite=suite)
    benchmarks = json.loads((pytester.path / "bench.json").read_text())["benchmarks"]
    assert [one["fullname"] for one in benchmarks] == ["test_perf.py::test_both::offline", "test_perf.py::test_both"]


def test_pytest_benchmark_compare_reads_it(perf, pytester):
    perf("--benchmark-json=bench.json")
    result = pytester.run(sys.executable, "-m", "pytest_benchmark", "compare", "bench.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_batch?1?*"])


@pytest.mark.parametrize("workers", ["2"])
def test_xdist_judges_and_reports_in_the_controller(perf, results, workers):
    perf("--slmperf-approve")
    result = perf("-n", workers, "--slmperf-set", "slowdown=0.3")
    result.assert_outcomes(failed=2)
    assert result.ret == 1
    assert {entry["id"] for entry in results()["results"]} == {
        "test_perf.py::test_batch[1]",
        "test_perf.py::test_batch[8]",
    }


def test_simulated_results_are_marked(perf, pytester):
    result = perf()
    result.stdout.fnmatch_lines(["*SIMULATED*"])
    assert "simulated" in (pytester.path / ".slmperf/report.html").read_text().lower()


def test_tests_known_to_be_skipped_take_no_share_of_the_time_or_of_alpha(perf, pytester):
    pytester.makeconftest("""
from pytest_slmperf.pytest_plugin.context import CONTEXT

def pytest_sessionfinish(session):
    print("counted", session.config.stash[CONTEXT].budget.tests)
""")
    suite = """
import pytest

@pytest.mark.skip(reason="not here")
def test_skipped(slmperf): ...

@pytest.mark.skipif(True, reason="not now")
def test_skipped_too(slmperf): ...

@pytest.mark.parametrize("batch", [])
def test_none(slmperf, batch): ...

@pytest.mark.skipif(False, reason="never")
def test_one(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)
"""
    perf("-s", suite=suite).stdout.fnmatch_lines(["*counted ?'test_perf.py::test_one'?*"])


def test_a_wrong_scenario_fails_with_the_users_own_line_only(perf):
    result = perf(suite="def test_zero(slmperf):\n    slmperf.offline(batch=0, input_len=16, output_len=16)\n")
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["*InvalidInput: slmperf.offline: batch must be a whole number of at least 1, not 0"])
    result.stdout.fnmatch_lines(["test_perf.py:2: InvalidInput"])
    result.stdout.no_fnmatch_line("*fixtures.py*")


def test_one_skipped_test_is_told_in_the_singular(perf):
    result = perf("-k", "batch and 8", engine=None)
    result.stdout.fnmatch_lines(["slmperf: 1 performance test skipped; run it with --slmperf"])
