"""Answers shorter than asked are other work: counted, named, and compared with answers of their own length alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

OFFLINE = "def test_one(slmperf):\n    slmperf.offline(batch=4, input_len=16, output_len=20)\n"
SERVED = "def test_one(slmperf):\n    slmperf.serving(concurrency=4, num_requests=12, input_len=16, output_len=20)\n"
SWEPT = "def test_one(slmperf):\n    slmperf.sweep(batch=[1, 4, 16], input_len=16, output_len=20)\n"
REPLICAS = "def test_one(slmperf):\n    slmperf.replicas(2, batch=4, input_len=16, output_len=20)\n"
SHORT = ("--slmperf-set", "answer_share=0.5")


def verdicts(results):
    """Gated verdict -> its reason, of the one result."""
    (result,) = results()["results"]
    return {
        verdict["verdict"]: verdict["reason"]
        for verdict in result["verdicts"]
        if verdict["gate"] and not verdict["metric"].startswith("energy")
    }


@pytest.mark.parametrize("suite", [OFFLINE, SERVED, SWEPT, REPLICAS], ids=["offline", "serving", "sweep", "replicas"])
def test_short_answers_against_full_ones_are_incomparable_and_named(perf, pytester, results, suite):
    """The shorter answers come sooner, and at another rate: neither a regression nor an improvement."""
    assert perf("--slmperf-approve", suite=suite).ret == 0
    run = perf(*SHORT, suite=suite)
    assert run.ret == 0
    assert verdicts(results) == {"incomparable": "other work (answers of 100 % → 50 % of the output tokens asked for)"}
    (result,) = results()["results"]
    assert result["scenario"]["answered_share"] == 0.5
    notes = [note for note in result["notes"] if "answers are shorter than asked: " in note]
    assert notes
    assert all("(is ignore_eos honoured?); other work than answers of the full length" in note for note in notes)
    assert "1 incomparable" in run.stdout.str()
    assert "answers are shorter than asked" in Path(pytester.path, ".slmperf/report.html").read_text()


def test_full_answers_against_a_baseline_of_short_ones_are_incomparable_too(perf, results):
    assert perf("--slmperf-approve", *SHORT, suite=OFFLINE).ret == 0
    perf(suite=OFFLINE)
    assert verdicts(results) == {"incomparable": "other work (answers of 50 % → 100 % of the output tokens asked for)"}


def test_answers_of_the_same_length_are_compared_and_still_named(perf, results):
    assert perf("--slmperf-approve", *SHORT, suite=OFFLINE).ret == 0
    assert perf(*SHORT, suite=OFFLINE).ret == 0
    assert [*verdicts(results)] == ["same"]
    (result,) = results()["results"]
    assert "answers are shorter than asked: " in result["notes"][0]
    perf(*SHORT, "--slmperf-set", "slowdown=0.5", suite=OFFLINE)
    assert [*verdicts(results)] == ["regressed"]


def test_a_token_less_in_a_thousand_is_named_and_compared(perf, results):
    suite = OFFLINE.replace("output_len=20", "output_len=1000")
    assert perf("--slmperf-approve", suite=suite).ret == 0
    perf("--slmperf-set", "answer_share=0.999", suite=suite)
    assert [*verdicts(results)] == ["same"]
    (result,) = results()["results"]
    note = r"answers are shorter than asked: .*, all \d+ answers of another length \(is ignore_eos honoured\?\)"
    assert re.fullmatch(note, result["notes"][0])


def test_the_sides_of_a_duet_with_other_lengths_are_incomparable(perf, results):
    perf("--slmperf-against", "engine.answer_share=0.5", suite=OFFLINE)
    assert verdicts(results) == {"incomparable": "other work (answers of 50 % → 100 % of the output tokens asked for)"}


def test_a_scenario_that_lets_answers_end_early_always_says_how_long_they_were(perf, results):
    suite = SERVED.replace("output_len=20", "output_len=20, ignore_eos=False")
    assert perf("--slmperf-approve", suite=suite).ret == 0
    (result,) = results()["results"]
    assert result["scenario"]["answered_share"] == 1.0
    assert not [note for note in result["notes"] if "answers" in note]
    perf(*SHORT, suite=suite)
    assert [*verdicts(results)] == ["incomparable"]
    (result,) = results()["results"]
    assert result["notes"][0].startswith("answers ended early, as ignore_eos=False lets them: 480 of 960 output tokens")
