"""--slmperf-fork: launches come from hosts, the record says from which, and a baseline of fresh ones is told apart."""

from __future__ import annotations

import pytest

FORKED = ["--slmperf-set", "forked=1", "--slmperf-launches", "4"]
COLD = """
def test_cold_start(slmperf):
    slmperf.cold_start()
"""


def hosts(result: dict) -> list[str | None]:
    return [launch.get("host") for launch in result["launches"]]


def test_every_launch_names_the_host_it_came_from_and_metrics_and_baselines_do_too(perf, results, pytester):
    assert perf(*FORKED, "--slmperf-approve").ret == 0
    first, second = results()["results"]
    names = hosts(first)
    assert names[0] == names[3] != names[1] == names[2]
    assert None not in names
    assert hosts(second) == names  # a session's tests share its hosts
    assert first["metrics"]["output_throughput"]["hosts"] == names
    stored = "".join(path.read_text() for path in pytester.path.glob("baselines/**/*.json"))
    assert names[0] in stored
    assert names[1] in stored
    again = perf(*FORKED)
    assert again.ret == 0
    assert {verdict["verdict"] for result in results()["results"] for verdict in result["verdicts"]} <= {
        "same",
        "incomparable",  # energy, where there is no meter
    }


def test_against_a_baseline_of_processes_of_their_own_the_report_names_the_difference(perf, results):
    assert perf("--slmperf-set", "forked=1", "--slmperf-fork", "never", "--slmperf-approve").ret == 0
    assert hosts(results()["results"][0]) == [None, None]
    assert perf(*FORKED).ret == 0
    differences = {each["what"]: each for each in results()["results"][0]["differences"]}
    launches = differences["launches"]
    assert (launches["baseline"], launches["candidate"]) == ("processes of their own", "forked from a host")


def test_without_the_option_nothing_is_forked_and_a_cold_start_never_is(perf, results):
    perf("--slmperf-set", "forked=1", "--slmperf-fork", "never")
    assert not any(hosts(results()["results"][0]))
    perf(*FORKED, suite=COLD)
    assert not any(hosts(results()["results"][0]))


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_forks_that_fail_are_noted_and_the_session_is_measured_all_the_same(perf, results, how):
    result = perf(*FORKED, "--slmperf-set", f"fail=fork-{how}")
    assert result.ret == 0
    record = results()
    assert not any(hosts(record["results"][0]))
    assert record["results"][0]["metrics"]["output_throughput"]["value"] > 0
    assert sum("launches are not forked" in note for note in record["session"]["notes"]) == 1
    result.stdout.fnmatch_lines(["*launches are not forked*"])


def test_the_sides_of_a_duet_share_their_hosts(perf, results):
    assert perf(*FORKED, "--slmperf-against", "engine.max_num_seqs=32").ret == 0
    launches = results()["results"][0]["launches"]
    of = {(launch["side"], launch["index"]): launch["host"] for launch in launches}
    indices = {index for _, index in of}
    assert len(indices) >= 4
    assert all(of["candidate", index] == of["baseline", index] is not None for index in indices)
