"""The plan before the first launch, and what a first session measures for the next."""

from __future__ import annotations

import itertools
import re
from functools import partial

import pytest

SUITE = """
import pytest

@pytest.mark.parametrize("batch", [4, 8])
def test_batch(slmperf, batch): slmperf.offline(batch=batch, input_len=16, output_len=16)

def test_meter(energy_meter): assert energy_meter is not None
"""
NOISE = ("--slmperf-set", "noise_launch=0.01", "--slmperf-set", "noise_round=0.005")
FORKED = ("--slmperf-set", "forked=1")


@pytest.fixture
def perf(perf):
    return partial(perf, local=True, suite=SUITE)


def launches(results) -> list[int]:
    return [len(result["launches"]) for result in results()["results"]]


def plan(run: pytest.RunResult) -> list[str]:
    """The plan's line, and with -v those of its tests."""
    first, *lines = itertools.dropwhile(lambda line: not line.startswith("slmperf plan:"), run.stdout.lines)
    return [first, *itertools.takewhile(lambda line: line.startswith("  test_"), lines)]


def test_the_first_session_says_what_it_is_for_and_the_second_what_it_can_find(perf):
    assert plan(perf(*NOISE)) == [
        "slmperf plan: 2 tests, none measured here yet: the next session compares with this one"
    ]
    second = perf(*NOISE)
    head = r"slmperf plan: 2 tests, \d+ s of at most 150 s for the fewest launches; finds about [\d.]+ % slower.*"
    assert re.fullmatch(head, plan(second)[0]), plan(second)


def test_each_test_has_a_line_with_v(perf):
    perf(*NOISE)
    lines = plan(perf(*NOISE, "-v"))
    assert len(lines) == 3
    for line, batch in zip(lines[1:], (4, 8), strict=True):
        said = rf"  test_batch\[{batch}\]: 2 to 6 launches of \d+\.\d s, finds about [\d.]+ % slower"
        assert re.fullmatch(said, line), line


def test_more_noise_finds_less(perf):
    def found(noise: str) -> float:
        setting = ("--slmperf-set", f"noise_launch={noise}")
        perf(*setting)
        line = next(line for line in plan(perf(*setting, "-v")) if "test_batch[8]" in line)
        return float(line.split("about ")[1].split(" %")[0])

    assert found("0.1") > 1.2 * found("0.005")


def test_too_few_launches_for_a_regression_are_said(perf):
    perf()
    assert "too few for a regression" in plan(perf("--slmperf-max-launches", "4", "-v"))[1]


def test_a_session_that_keeps_nothing_promises_nothing(perf):
    assert plan(perf("--slmperf-no-local")) == ["slmperf plan: 2 tests, none measured here yet"]


def test_no_plan_without_a_measurement(perf):
    for run in (perf("--collect-only"), perf("-k", "meter")):
        run.stdout.no_fnmatch_line("slmperf plan*")


def test_time_that_is_too_short_for_the_fewest_launches_is_said_before_it_is_spent(perf):
    perf("--slmperf-max-time", "60")
    (line,) = plan(perf("--slmperf-max-time", "0.001"))
    assert "too little time: --slmperf-max-time" in line


def test_a_first_session_measures_forked_launches_until_the_next_can_judge(perf, results):
    perf(*FORKED)
    assert launches(results) == [4, 4]
    second = perf(*FORKED)
    second.stdout.fnmatch_lines(["slmperf: 2 same, provisional"])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [((), 2), ((*FORKED, "--slmperf-launches", "3"), 3), ((*FORKED, "--slmperf-max-launches", "3"), 3)],
)
def test_launches_that_cost_an_import_each_or_are_asked_for_are_not_added_to(perf, results, options, wanted):
    perf(*options)
    assert launches(results) == [wanted, wanted]


def test_one_thing_to_do_where_nothing_is_decided(perf, pytester):
    first = perf()
    first.stdout.fnmatch_lines(["slmperf: nothing decided yet: 2 new; run the same command again*"])
    said = [line for line in first.stdout.lines if line.startswith("next:")]
    assert not [line for line in said if "incomparable" in line], said
