"""Replicas on the simulated engine, set from the published figures of OPT-1.3B on an H100."""

from __future__ import annotations

import pytest
from support.published_engine import ARGS

ONE_ROUND = ("--slmperf-model", "opt-1.3b", "--slmperf-rounds", "1", "--slmperf-launches", "1")


def test_published_shape_of_replication(perf, results):
    suite = """
def test_replication(slmperf):
    found = slmperf.replication([1, 2, 4], sharing="mps", batch=256, requests=1024, input_len=111, output_len=292,
                                total_kv_cache_tokens=170000)
    assert found.useful.replicas == 2
    assert 0.25 < found.throughput(2) / found.throughput(1) - 1 < 0.40
    assert found.throughput(4) < 1.02 * found.throughput(2)
    assert found.points[2].preemptions > 0 and "KV cache is full" in found.useful.reason
    assert set(found.gains()) == {"one engine", "one engine, same batch"}
    sliced = slmperf.replicas(4, sharing="time-slice", batch=256, requests=1024, input_len=111, output_len=292,
                              total_kv_cache_tokens=170000)
    assert sliced["output_throughput"] < found.throughput(4)
"""
    done = perf(*ONE_ROUND, *ARGS, suite=suite)
    assert done.ret == 0, done.stdout.str()
    found = results()["results"]
    two = next(entry for entry in found if entry["id"].endswith("::k=2"))
    assert two["engine"]["replicas"] == 2
    assert two["engine"]["facts"]["sharing"] == "mps"
    assert two["metrics"]["fairness"]["value"] == 1
    each = [two["metrics"][f"output_throughput@replica {number}"]["value"] for number in (0, 1)]
    assert abs(sum(each) / two["metrics"]["output_throughput"]["value"] - 1) < 0.01
    rows = next(entry["charts"]["replication"] for entry in found if "replication" in entry["charts"])
    assert [(row["replicas"], row["mode"]) for row in rows] == [
        (1, "one engine"),
        (1, "one engine, same batch"),
        (1, "mps"),
        (2, "mps"),
        (4, "mps"),
    ]


def test_auto_finds_the_largest_useful_number_and_stops(perf, results):
    suite = """
def test_auto(slmperf):
    found = slmperf.replication(sharing="mps", batch=32, split="least-load", requests=200, input_len=32, output_len=32,
                                fair=False)
    assert found.useful.replicas == 4
    assert [point.replicas for point in found.points] == [1, 2, 4, 8]
"""
    done = perf(*ONE_ROUND, *ARGS, suite=suite)
    assert done.ret == 0, done.stdout.str()


def test_without_a_budget_every_number_and_the_baseline_share_one_memory(perf, results):
    suite = """
def test_equal(slmperf):
    found = slmperf.replication([1, 2], batch=8, requests=16, input_len=16, output_len=16)
    assert set(found.baselines) == {"one engine", "one engine, same batch"}
"""
    assert perf(*ONE_ROUND, *ARGS, suite=suite).ret == 0
    budgets = {entry["scenario"]["total_kv_cache_tokens"] for entry in results()["results"]}
    assert len(budgets) == 1


def test_more_replicas_than_the_memory_holds(perf, results):
    suite = """
def test_memory(slmperf):
    found = slmperf.replication([1, 2, 4], batch=32, requests=64, input_len=32, output_len=32, total_kv_cache_tokens=20000,
                                fair=False)
    assert found.useful.replicas == 2
    assert "do not fit" in found.useful.reason

def test_directly(slmperf):
    slmperf.replicas(4, batch=8, input_len=32, output_len=32, total_kv_cache_tokens=20000)
"""
    done = perf(*ONE_ROUND, *ARGS, suite=suite)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*4 replicas do not fit: *leave 0 tokens*total_kv_cache_tokens of * where there are 20000*"]
    )
    two = next(entry for entry in results()["results"] if entry["id"].endswith("::k=2"))  # the last one that ran
    assert [note for note in two["notes"] if note.startswith("4 replicas cannot run: 4 replicas do not fit")]
    *_, row = two["charts"]["replication"]
    assert (row["replicas"], row["batch"], row["mode"]) == (4, 32, "time-slice")
    assert row["failure"].startswith("4 replicas do not fit")


def test_an_engine_that_fails_is_told_like_that_of_any_scenario(perf, results):
    suite = """
def test_replication(slmperf):
    slmperf.replication([1, 2], batch=8, requests=16, input_len=16, output_len=16, fair=False)
"""
    done = perf(*ONE_ROUND, "--slmperf-set", "fail=round-exit", suite=suite)
    done.assert_outcomes(failed=1)
    done.stdout.no_fnmatch_line("*replication_view.py*")  # where this package noticed it helps nobody
    (entry,) = results()["results"]
    assert entry["id"].endswith("::k=1")
    assert "ended" in entry["failure"]
    assert entry["log_tail"]


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ("2", r"k must be a list of numbers of replicas or 'auto', not 2; .*slmperf\.replicas\(2, …\)"),
        ("True", "k must be a list of numbers"),
        ("2.5", "k must be 'auto' or a list of numbers, not 2.5"),
        ("'most'", "k must be 'auto' or a list of numbers, not 'most'"),
        ("[]", r"k is empty; name at least one number of replicas, k=\[2\]"),
        ("[1, 2.5]", "each k must be a whole number of at least 1, not 2.5"),
        ("[0, 1]", "each k must be a whole number of at least 1, not 0"),
        ("['2']", "each k must be a whole number of at least 1, not '2'"),
    ],
)
def test_wrong_numbers_of_replicas_name_k(k, words):
    from pytest_slmperf.errors import InvalidInput
    from pytest_slmperf.measuring.studies.replication import measure_replication
    from pytest_slmperf.scenarios.replication import Replication

    scenario = Replication.of(1, {"batch": 8, "input_len": 8, "output_len": 8})
    with pytest.raises(InvalidInput, match=rf"slmperf\.replication: {words}"):
        measure_replication(
            scenario,
            eval(k),
            pytest.fail,  # type: ignore[arg-type]
            least_gain=0.02,
            fair=False,
            chunked_prefill_setting=None,
            kv_budget=lambda one: None,
        )


def test_replicas_are_gated_like_any_other_scenario(perf, results):
    suite = """
def test_two(slmperf):
    slmperf.replicas(2, batch=8, input_len=32, output_len=32)
"""
    assert perf("--slmperf-save", "main", suite=suite).ret == 0
    assert perf("--slmperf-set", "slowdown=0.2", suite=suite).ret == 1
    verdicts = {one["metric"]: one["verdict"] for one in results()["results"][0]["verdicts"]}
    assert verdicts["output_throughput"] == "regressed"
