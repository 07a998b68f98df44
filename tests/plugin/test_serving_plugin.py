"""``slmperf.serving`` in a user's suite: on the simulated engine, and at an endpoint (a mock server) over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest

from pytest_slmperf.contrib.mock_server.plan import Fault, MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer

KEY = "sk-plugin-secret-abcdef123456"

OPEN = """
def test_load(slmperf):
    m = slmperf.serving(rate=20, input_len=16, output_len=8, duration_s=1.0, warmup_s=0.5, slo={"ttft": 500})
    assert m["slo_attainment"] == 1.0
    assert m["goodput"] > 5
    assert m["ttft_p50"] <= m["ttft_p99"]
"""
HTTP = """
def test_load(slmperf):
    slmperf.serving(rate=30, input_len=16, output_len=6, duration_s=0.5, warmup_s=0.1, rounds=1, TOLERATED)
"""
OVER = ("--slmperf-launches", "1", "--slmperf-max-launches", "1")


def endpoint(server: MockServer) -> tuple[str, ...]:
    return ("--slmperf-endpoint", server.url, "--slmperf-model", "mock", *OVER)


def test_open_loop_on_the_simulated_engine(perf, results):
    run = perf(suite=OPEN)
    assert run.ret == 0
    result = results()["results"][0]
    assert result["scenario"]["kind"] == "serving"
    assert result["scenario"]["rate"] == 20
    assert result["metrics"]["goodput"]["unit"] == "req/s"
    assert result["samples"]["ttft"]
    load = result["launches"][0]["rounds"][0]["evidence"]["load"]
    assert load["due"] == load["completed"] > 5
    assert load["failed"] == 0


def test_dry_run_of_every_kind_of_load(perf, pytester, results):
    """On the simulated engine a user's whole suite plays: closed loops, ramps, conversations, traces with text."""
    pytester.makefile(".jsonl", trace=json.dumps({"prompt": "one two three", "output_len": 4}) + "\n")
    suite = """
        import pytest
        WORK = {"input_len": 16, "output_len": 8}

        @pytest.mark.parametrize("load", [
            dict(concurrency=4, num_requests=20, ramp_s=0.5, **WORK),
            dict(concurrency=4, warmup_s=1, duration_s=4, **WORK),
            dict(rate=5, rate_to=50, duration_s=4, **WORK),
            dict(rate=20, turns=3, num_requests=12, **WORK),
            dict(concurrency=2, turns=2, num_requests=8, **WORK),
            dict(rate=20, prefix_len=8, num_requests=12, **WORK),
            dict(concurrency=3, workload="trace.jsonl", num_requests=9),
        ])
        def test_load(slmperf, load):
            slmperf.serving(**load)
    """
    run = perf(suite=textwrap.dedent(suite))
    assert run.ret == 0
    for result in results()["results"]:
        load = result["launches"][0]["rounds"][-1]["evidence"]["load"]
        assert load["completed"] == load["due"] > 7, result["scenario"]
        assert load["running_peak"] <= (result["scenario"].get("concurrency") or 1000)
        assert result["metrics"]["ttft_p50"]["value"] > 0


def test_a_schedule_that_a_limit_cuts_says_so_in_numbers(perf, pytester, results):
    """Twenty requests every half second: those of the first 3 s are due, at 0, 0.5, …, 3.0."""
    lines = [json.dumps({"arrival_time": k * 0.5, "input_len": 8, "output_len": 4}) for k in range(20)]
    pytester.makefile(".jsonl", trace="\n".join(lines))
    suite = """
        def test_limit(slmperf):
            slmperf.serving(arrivals=[0.5 * k for k in range(20)], num_requests=20, limit_s=3.2, input_len=8, output_len=4)

        def test_duration(slmperf):
            slmperf.serving(workload="trace.jsonl", duration_s=2.1)

        def test_whole(slmperf):
            slmperf.serving(workload="trace.jsonl")
    """
    run = perf(suite=textwrap.dedent(suite))
    assert run.ret == 0
    played = {result["id"].rpartition("::")[2].partition("-")[0]: result for result in results()["results"]}
    limit, duration, whole = (played[name] for name in ("test_limit", "test_duration", "test_whole"))
    load = limit["launches"][0]["rounds"][0]["evidence"]["load"]
    assert (load["were_due"], load["scheduled"], load["cut"]) == (7, 20, True)
    assert "7 of 20 requests of the schedule were due before the load ended (limit_s=3.2)" in limit["notes"]
    assert (
        "5 of 20 requests of the schedule were due before the load ended (duration_s=2.1 or limit_s=600)"
        in (duration["notes"])
    )
    load = whole["launches"][0]["rounds"][0]["evidence"]["load"]
    assert (load["were_due"], load["scheduled"], load["cut"]) == (20, 20, False)
    assert not any("of the schedule" in note for note in whole["notes"])
    run.stdout.fnmatch_lines(["*7 of 20 requests of the schedule were due*"])


def test_public_formats_are_played_with_notes_of_what_was_left_out(perf, pytester, results):
    turns = {"session_id": "a", "turns": [{"text": "one two", "timestamp": 0}, {"text": "three", "delay": 250}]}
    pytester.makefile(".jsonl", multi=json.dumps(turns))
    pytester.makefile(".csv", burst="Timestamp,Model,Request tokens,Response tokens\n5,a,20,4\n6,a,9,0\n7,b,30,5\n")
    suite = """
        def test_turns(slmperf):
            slmperf.serving(workload="multi.jsonl", output_len=4)

        def test_burst(slmperf):
            slmperf.serving(workload="burst.csv", skip_empty=True)
    """
    run = perf(suite=textwrap.dedent(suite))
    assert run.ret == 0
    played = {result["id"].rpartition("::")[2].partition("-")[0]: result for result in results()["results"]}
    turns, burst = played["test_turns"], played["test_burst"]
    loads = [result["launches"][0]["rounds"][0]["evidence"]["load"] for result in (turns, burst)]
    assert [(load["completed"], load["scheduled"], load["cut"]) for load in loads] == [(2, 2, False)] * 2
    assert "multi.jsonl: columns that were not read: session_id" in turns["notes"]
    assert burst["scenario"]["rows_skipped"] == 1
    assert {
        "burst.csv: columns that were not read: model",
        "burst.csv: 1 of 3 rows were skipped because they have 0 tokens",
    } <= set(burst["notes"])


def test_a_request_that_the_model_cannot_hold_names_trace_line_and_what_to_do(perf, pytester):
    rows = [
        {"arrival_time": 0, "input_len": 8, "output_len": 4},
        {"arrival_time": 1, "input_len": 90000, "output_len": 4},
    ]
    pytester.makefile(".jsonl", trace="\n".join(map(json.dumps, rows)))
    run = perf(suite="def test_load(slmperf):\n    slmperf.serving(workload='trace.jsonl')\n")
    assert run.ret == 1
    run.stdout.fnmatch_lines(
        [
            "*trace.jsonl: request 2 (line 2) needs 90000+4 tokens, more than the 2048 that opt-125m was made "
            "for; leave such rows out of the file, or measure a model with a longer window"
        ]
    )


def test_sweep_of_rates_ends_behind_saturation(perf, results):
    suite = """
        import pytest

        @pytest.mark.slmperf(max_num_seqs=2)
        def test_rates(slmperf):
            found = slmperf.serving_sweep(rate=2, duration_s=8, warmup_s=1, input_len=16, output_len=64)
            rates = list(found.points)
            assert rates == [2 * 2**k for k in range(len(rates))]
            assert found.saturated == rates[-1] == 2 * found.sustained
            assert 0.5 * found.saturated < found.request_throughput < found.saturated

        @pytest.mark.slmperf(max_num_seqs=2)
        def test_listed(slmperf):
            found = slmperf.serving_sweep(rate=[1, 3], duration_s=8, input_len=16, output_len=8, name="few")
            assert (list(found.points), found.saturated, found.sustained) == ([1, 3], None, 3)
    """
    run = perf(suite=textwrap.dedent(suite))
    assert run.ret == 0
    assert any("few-rate=3" in result["id"] for result in results()["results"])


def test_cold_engine_under_load(perf, results):
    suite = (
        "def test_load(slmperf):\n    slmperf.serving(rate=20, cold=True, num_requests=9, input_len=16, output_len=8)\n"
    )
    assert perf(*OVER, suite=suite).ret == 0
    result = results()["results"][0]
    assert [len(launch["rounds"]) for launch in result["launches"]] == [1]
    assert result["metrics"]["engine_start_time"]["value"] > 0
    assert result["scenario"]["cold"] is True


def test_wrong_argument_fails_with_its_name(perf):
    run = perf(suite=OPEN.replace("rate=20", "rate=20, concurrency=2"))
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*give either a rate (or arrivals) or a concurrency*"])


def test_endpoint(perf, results):
    with MockServer(MockPlan(ttft_s=0.02, itl_s=0.004)) as server:
        run = perf(*endpoint(server), suite=HTTP.replace("TOLERATED", ""), engine="openai")
    assert run.ret == 0
    result = results()["results"][0]
    assert result["engine"]["device"] == "remote"
    assert result["engine"]["weights"] == "simulated"  # a mock server is no engine, and is never compared with one
    load = result["launches"][0]["rounds"][-1]["evidence"]["load"]
    assert load["completed"] == load["due"] > 5
    assert load["sender"]["clients"] == 1


def test_failing_endpoint_is_counted_named_and_shows_no_key(perf, pytester, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.002, faults=(Fault("401"),))) as server:
        run = perf(*endpoint(server), suite=HTTP.replace("TOLERATED", ""), engine="openai")
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*requests failed: * http_401 (Incorrect API key provided: ****"])
    run.stdout.fnmatch_lines(["*is the key in the environment variable OPENAI_API_KEY right?*"])
    written = [path for path in Path(pytester.path).rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in run.stdout.str() + run.stderr.str()


def test_share_of_failures_that_a_test_tolerates(perf, results):
    # Rare enough that no round has more than half of its requests fail, which the default does not tolerate.
    plan = MockPlan(ttft_s=0.01, itl_s=0.002, faults=(Fault("500", 0.15),), seed=2)
    with MockServer(plan) as server:
        run = perf(*endpoint(server), suite=HTTP.replace("TOLERATED", ""), engine="openai")
        assert run.ret == 0  # measured, or inconclusive on a machine that is busy
        (entry,) = results()["results"]
        if entry["metrics"]["ttft_p50"]["value"] is not None:
            run.stdout.fnmatch_lines(["note: *::test_load: * requests failed (* http_500)*"])
        loads = [one["evidence"]["load"] for one in entry["launches"][0]["rounds"]]
        assert sum(load["failed"] for load in loads) > 0
        for load in loads:
            assert load["failures"].get("http_500", 0) == load["failed"]
            assert load["good"] <= load["completed"]
        run = perf(*endpoint(server), suite=HTTP.replace("TOLERATED", "tolerated_failures=0.0"), engine="openai")
        run.assert_outcomes(failed=1)
        run.stdout.fnmatch_lines(["*requests failed: * http_500 (the engine died)*"])


@pytest.mark.parametrize(
    ("faults", "tolerated", "said"),
    [
        ((Fault("401", 0.3),), "tolerated_failures=1.0", "*no key was sent: * variable OPENAI_API_KEY*"),
        ((Fault("429", 0.8),), "", "*http_429 (rate limit); the endpoint limits requests: lower the rate*"),
        ((Fault("500", 0.8),), "", "*http_500 (the engine died); more than tolerated_failures=0.49 allows*"),
        ((Fault("no_tokens"),), "tolerated_failures=1.0", "*requests failed: * no_tokens*"),
    ],
)  # fmt: skip
def test_a_load_that_mostly_fails_fails_without_a_baseline(perf, monkeypatch, faults, tolerated, said):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with MockServer(MockPlan(ttft_s=0.005, itl_s=0.001, faults=faults, seed=3)) as server:
        run = perf(*endpoint(server), suite=HTTP.replace("TOLERATED", tolerated), engine="openai")
    assert run.ret == 1
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines([said])


def test_mock_server_command(tmp_path):
    """The command itself: it says where it listens, serves, and writes its truth when it is ended."""
    truth = tmp_path / "truth.jsonl"
    program = (
        "import argparse, sys; from pytest_slmperf.contrib.commands import mock_server as m; p = argparse.ArgumentParser(); "
        "m.add_parser(p.add_subparsers()); sys.exit(m.run(p.parse_args(['mock-server', *sys.argv[1:]])))"
    )
    command = [sys.executable, "-c", program, "--port", "0", "--ttft", "5", "--itl", "1", "--truth", str(truth)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            url = line[line.index("http://") :].strip()
            body = json.dumps({"prompt": "a b", "max_tokens": 3}).encode()
            with urllib.request.urlopen(f"{url}/completions", body, timeout=10) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
    row = json.loads(truth.read_text())
    assert (row["n_in"], row["n_out"]) == (2, 3)
    assert row["received_ns"] < row["times_ns"][0] <= time.monotonic_ns()
    assert not os.path.exists(f"/proc/{process.pid}/cwd")
