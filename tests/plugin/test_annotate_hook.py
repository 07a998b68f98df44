"""The hook ``pytest_slmperf_annotate``: what a plugin adds to a finished sweep stands in journal, results and report."""

from __future__ import annotations

import json

import pytest

SWEEP = """
def test_frontier(slmperf):
    slmperf.sweep(batch=[1, 8], input_len=16, output_len=16)
"""
CONFTEST = """
def pytest_slmperf_annotate(config, result, scenario, spec):
    assert result.verdicts
    result.notes.append(f"annotated: {scenario.key_name} on {spec.engine}, {len(result.points)} points")
"""


def test_what_it_adds_is_in_the_results_and_in_the_journal(perf, pytester, results):
    pytester.makeconftest(CONFTEST)
    assert perf(suite=SWEEP).ret == 0
    note = "annotated: batch on simulated, 2 points"
    assert note in results()["results"][0]["notes"]
    (journal,) = pytester.path.glob(".slmperf/**/*.jsonl")
    assert note in json.dumps([json.loads(line) for line in journal.read_text().splitlines()])


def test_a_plugin_that_fails_costs_its_charts_and_not_the_measurement(perf, pytester, results):
    pytester.makeconftest("def pytest_slmperf_annotate(result):\n    raise RuntimeError('no such chart')\n")
    assert perf(suite=SWEEP).ret == 0
    (entry,) = results()["results"]
    assert "a plugin's pytest_slmperf_annotate failed: RuntimeError: no such chart" in entry["notes"]
    assert len(entry["points"]) == 2


@pytest.mark.parametrize(
    "hook", ["pytest_slmperf_annotate(result)", "pytest_slmperf_exporters()", "pytest_slmperf_engines()"]
)
def test_an_exit_in_a_hook_ends_the_session_and_is_no_failure_of_the_test(perf, pytester, results, hook):
    pytester.makeconftest(f"import pytest\ndef {hook}:\n    pytest.exit('enough for today', 7)\n")
    run = perf("--slmperf-export", "csv=out.csv", suite=SWEEP)
    assert run.ret == 7
    assert "enough for today" in run.stdout.str() + run.stderr.str()
    if (pytester.path / ".slmperf" / "results.json").exists():
        assert [entry["failure"] for entry in results()["results"]] in ([], [None])  # the sweep's points are kept


def test_without_the_add_ons_the_core_measures_and_knows_no_format_of_theirs(perf, results):
    run = perf("-p", "no:slmperf-contrib", suite=SWEEP)
    assert run.ret == 0
    assert results()["results"]
    refused = perf("-p", "no:slmperf-contrib", "--slmperf-export", "csv=out.csv", suite=SWEEP)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown format 'csv'" in refused.stderr.str()
