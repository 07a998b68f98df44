"""Sweeps on the simulated engine: adaptive points, one verdict of the frontier, and what is left out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SWEEP = """
def test_frontier(slmperf):
    sweep = slmperf.sweep(batch=[1, 8, 64, 256], input_len=64, output_len=64)
    assert sweep.frontier()
"""
NOISE = ("--slmperf-set", "noise_round=0.01", "--slmperf-set", "noise_launch=0.005", "--slmperf-rounds", "3")
VERDICT = "hypervolume"


def verdict(entry):
    (found,) = [one for one in entry["verdicts"] if one["metric"] == VERDICT]
    return found


@pytest.fixture
def sweep(perf, results, monkeypatch):
    """``sweep(*args, seed=…, suite=…)``: a run with noise of that seed; (run, its first result)."""

    def run(*args, seed=0, suite=SWEEP, **environment):
        monkeypatch.setenv("SLMPERF_SIMULATED_SEED", str(seed))
        for name in ("SLOWDOWN", "SLOW_MIN_BATCH"):
            monkeypatch.delenv(f"SLMPERF_SIMULATED_{name}", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(f"SLMPERF_SIMULATED_{name.upper()}", str(value))
        done = perf(*NOISE, *args, suite=suite)
        return done, results()["results"][0]

    return run


def test_slow_at_large_batch_is_found_and_pointed_at_and_identical_code_is_not(sweep):
    first, entry = sweep("--slmperf-save", "main", seed=1)
    assert first.ret == 0
    assert verdict(entry)["verdict"] == "new"

    same, entry = sweep(seed=2)
    assert same.ret == 0
    assert verdict(entry)["verdict"] == "same"
    assert verdict(entry)["detail"]["lost"] == []

    slow, entry = sweep(seed=3, slowdown=0.15, slow_min_batch=64)
    assert slow.ret == 1
    found = verdict(entry)
    assert found["verdict"] == "regressed"
    assert found["more_launches"] is None
    assert found["detail"]["interval_level"] == 0.99
    assert entry["charts"]["sweep"]["frontiers"][0]["baseline_knee"] in (64, 256)
    assert found["detail"]["lost"] == ["64", "256"]
    slow.stdout.fnmatch_lines(["*the frontier moved back at batch 64, 256: *"])
    verdicts = {row["key"]: {one["verdict"] for one in row["verdicts"].values()} for row in entry["points"]}
    assert verdicts[1] == verdicts[8] == {"same"}
    assert entry["baseline"]["points"][0]["key"] == 1
    assert entry["charts"]["sweep"]["lost"] == ["64", "256"]


def test_points_are_full_records(sweep):
    _, entry = sweep()
    assert [row["key"] for row in entry["points"]] == [1, 8, 64, 256]
    for row in entry["points"]:
        assert len(row["launches"]["output_throughput"]) == 2
        assert all(len(rounds) == 3 for rounds in row["launches"]["output_throughput"])
        assert row["output_throughput"] > 0
        assert row["itl_mean"] > 0
        assert 0 < row["kv_cache_peak"] <= 100
        assert row["preemptions"] == 0
        assert "energy_per_output_token" not in row  # a virtual clock: unavailable, with the reason, never 0
        assert row["missing"]["energy_per_output_token"]
    metrics = entry["metrics"]
    assert metrics["hypervolume"]["gate"]
    assert metrics["knee_key"]["value"] in (64, 256)
    assert metrics["knee_kv_share"]["value"] > 0
    assert metrics["output_throughput@64"]["unit"] == "tok/s"


def test_adaptive_sweep_measures_fewer_points_and_its_baseline_the_same_ones(sweep):
    suite = SWEEP.replace("[1, 8, 64, 256]", "list(range(1, 65))")
    _, entry = sweep("--slmperf-save", "main", "--slmperf-launches", "2", suite=suite)
    keys = [row["key"] for row in entry["points"]]
    assert 5 < len(keys) < 30
    assert any("of 64 candidate points measured" in note for note in entry["notes"])
    _, again = sweep("--slmperf-max-launches", "2", seed=5, suite=suite)
    assert [row["key"] for row in again["points"]] == keys


def test_preempted_point_is_kept_apart(sweep):
    suite = SWEEP.replace("output_len=64", "output_len=64, kv_cache_tokens=16384")
    done, entry = sweep(suite=suite)
    assert done.ret == 0
    last = entry["points"][-1]
    assert last["preemptions"] > 0
    assert last["standing"] is None
    assert entry["preemptions"] == last["preemptions"]
    assert "output_throughput@256" not in entry["metrics"]


def test_preempted_on_both_sides_is_not_said_to_be_missing_from_the_baseline_only(sweep):
    suite = SWEEP.replace("output_len=64", "output_len=64, kv_cache_tokens=16384")
    sweep("--slmperf-save", "main", suite=suite)
    _, entry = sweep(suite=suite)
    reasons = {one["reason"] for one in entry["points"][-1]["verdicts"].values()}
    assert reasons == {"neither side has a usable reading of it"}


def test_engine_setting_is_swept_and_a_value_that_cannot_work_is_noted(sweep):
    suite = """
def test_budget(slmperf):
    sweep = slmperf.sweep(kv_cache_tokens=[64, 65536], batch=64, input_len=64, output_len=64, adaptive=False)
    assert sweep.keys == [65536]
"""
    done, entry = sweep(suite=suite)
    assert done.ret == 0
    first = entry["points"][0]
    assert first["key"] == 64
    assert "does not fit the KV cache" in first["failure"]
    assert any(note.startswith("point 64 failed") for note in entry["notes"])


def test_saturated_engine_per_limit(sweep):
    suite = """
def test_limit(slmperf):
    sweep = slmperf.sweep(max_num_seqs=[1, 8, 64], requests=64, input_len=16, output_len=16)
    assert sweep.at(1, "output_throughput") < sweep.at(8, "output_throughput") < sweep.at(64, "output_throughput")
    assert len({row["engine"]["kv_cache_tokens"] for row in sweep.result.points}) == 1
    advice = sweep.advise(sweep.slo(2, at=8))
    again = sweep.confirm(advice, sweep.slo(2, at=8))
    assert again.met and again.key == advice.key
    assert advice.flags[:2] == ("--max-num-seqs", str(advice.key))
"""
    done, entry = sweep(suite=suite)
    assert done.ret == 0, done.stdout.str()
    (pair,) = entry["charts"]["sweep"]["frontiers"]
    assert pair["advice"] in (8, 64)  # marked in the chart, and told with the flags
    assert any(f"run with --max-num-seqs {pair['advice']}" in note for note in entry["notes"])
    assert [row["mean_running_requests"] for row in entry["points"]] == sorted(
        row["mean_running_requests"] for row in entry["points"]
    )


def test_load_in_waves_of_the_limit(sweep):
    """As much work for each seat, so that a small limit takes no longer than a large one."""
    suite = """
def test_limit(slmperf):
    sweep = slmperf.sweep(max_num_seqs=[1, 8, 64], waves=3, input_len=16, output_len=16, adaptive=False)
    assert sweep.at(1, "output_throughput") < sweep.at(8, "output_throughput") < sweep.at(64, "output_throughput")
    assert len({row["engine"]["kv_cache_tokens"] for row in sweep.result.points}) == 1
"""
    done, entry = sweep(suite=suite)
    assert done.ret == 0, done.stdout.str()
    for row, limit in zip(entry["points"], [1, 8, 64], strict=True):
        requests_per_s, tokens_per_s = (row[name] for name in ("request_throughput", "output_throughput"))
        assert tokens_per_s == pytest.approx(16 * requests_per_s)
        assert row["mean_running_requests"] == pytest.approx(limit, rel=0.1)  # three full waves, no tail


CALM = ("--slmperf-set", "noise_launch=0.001", "--slmperf-set", "noise_round=0.002")
MANY = """
def test_sweep(slmperf):
    slmperf.sweep(batch=[1, 4, 16, 32, 64, 96, 128], input_len=16, output_len=16)
"""


def test_files_are_compared_point_by_point_as_in_a_session(perf, pytester, monkeypatch):
    """One point of many that got much slower moves the hypervolume by next to nothing."""
    for seed in (1, 2, 3):
        perf(*CALM, "--slmperf-set", f"seed={seed}", "--slmperf-save", "main", suite=MANY)
    perf(*CALM, "--slmperf-set", "seed=5", "--slmperf-json", "same.json", suite=MANY)
    monkeypatch.setenv("SLMPERF_SIMULATED_SLOWDOWN", "0.4")
    monkeypatch.setenv("SLMPERF_SIMULATED_SLOW_MIN_BATCH", "128")
    assert perf(*CALM, "--slmperf-set", "seed=6", "--slmperf-json", "slow.json", suite=MANY).ret == 1

    def compare(name):
        return pytester.run(sys.executable, "-m", "pytest_slmperf.cli.main", "compare", "baselines", name)

    assert compare("same.json").ret == 0
    slow = compare("slow.json")
    assert slow.ret == 1
    assert "the frontier moved back at batch 128: " in " ".join(slow.stdout.str().split())

    # A point that the baseline has and this session lost is never green, however little the rest changed.
    results = json.loads(Path(pytester.path, "same.json").read_text())
    (entry,) = results["results"]
    (row,) = [row for row in entry["points"] if row["key"] == 128]
    row["failure"] = "out of memory while it started"
    for name in [name for name in entry["metrics"] if name.endswith("@128")]:
        del entry["metrics"][name]
    Path(pytester.path, "lost.json").write_text(json.dumps(results))
    lost = compare("lost.json")
    assert lost.ret == 2
    assert "out of memory while it started" in " ".join(lost.stdout.str().split())


@pytest.mark.parametrize(
    ("marker", "tolerance", "limit"),
    [
        ("", 0.0201, 0.1025),
        ("limit=0.1", 0.0201, 0.21),
        ('limit={"hypervolume": 0.04}', 0.01, 0.04),
        ("limit=0.9", 0.0201, 0.99),
    ],
)
def test_margins_of_the_whole_follow_from_those_of_the_points(sweep, marker, tolerance, limit):
    suite = f"""
import pytest

@pytest.mark.slmperf({marker})
def test_sweep(slmperf):
    slmperf.sweep(batch=[1, 8], input_len=16, output_len=16)
"""
    sweep("--slmperf-approve", suite=suite)
    done, entry = sweep(suite=suite)
    assert done.ret == 0, done.stdout.str()
    (verdict,) = entry["verdicts"]
    assert verdict["tolerance"] == pytest.approx(tolerance)
    assert verdict["limit"] == pytest.approx(limit)


def test_duet_of_a_sweep(sweep):
    done, entry = sweep("--slmperf-against", "engine.slowdown=0.2")
    assert done.ret == 0
    assert verdict(entry)["verdict"] == "improved"
    assert len(entry["baseline"]["points"]) == 4
    assert {"what": "engine argument slowdown", "baseline": 0.2, "candidate": None} in entry["differences"]


def test_several_lists_make_a_grid(sweep):
    suite = """
def test_grid(slmperf):
    sweep = slmperf.sweep(batch=[1, 8], output_len=[8, 32], input_len=16)
    assert sweep.keys == [f"batch={batch}, output_len={length}" for batch in (1, 8) for length in (8, 32)]
"""
    done, entry = sweep(suite=suite)
    assert done.ret == 0, done.stdout.str()
    assert entry["metrics"]["knee_key"]["value"] is None
    assert "not numbers" in entry["metrics"]["knee_key"]["reason"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("batch=8, input_len=8, output_len=8", "a list of values"),
        ("batch=[], input_len=8, output_len=8", "batch: a sweep needs at least one value"),
        ("batch=[1, 1], input_len=8, output_len=8", "names 1 twice"),
        ("batch=[0], input_len=8, output_len=8", "batch must be a whole number of at least 1"),
        ("batch=[1], output_len=8", "give input_len"),
        ("input_len=[8], output_len=8", "give batch"),
        ("batch=[1], requests=4, input_len=8, output_len=8", "batch and requests both say how many"),
        ("max_num_seqs=[1], requests=4, waves=2, input_len=8, output_len=8", "requests and waves both say how many"),
        ("batch=[1], waves=2, input_len=8, output_len=8", "batch and waves both say how many"),
        ("input_len=[8], waves=2, output_len=8", "give batch"),
        ("max_num_seqs=[1], waves=0, input_len=8, output_len=8", "waves must be a whole number of at least 1"),
        ("batch=[1], input_len=8, output_len=8, latency='output_throughput'", "lower-is-better"),
        ("batch=[1], input_len=8, output_len=8, latency='speed'", "unknown metric 'speed'"),
        ("batch=range(1, 2000), input_len=8, output_len=8", "more than 1000"),
        ("batch=[1], input_len=8, output_len=8, no_such_setting=3", "no_such_setting"),
    ],
)
def test_wrong_arguments_name_the_mend(call, words):
    from pytest_slmperf.engines.registry import Registry
    from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
    from pytest_slmperf.errors import InvalidInput
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.scenarios.sweep import Sweep

    given = eval(f"dict({call})")
    latency = given.pop("latency", "itl_mean")
    registry = Registry([SimulatedAdapter()])
    with pytest.raises(InvalidInput, match=words):
        Sweep.of(given, latency=latency).points(
            EngineSpec("simulated", "opt-125m"), lambda spec: registry.get(spec.engine).resolve(spec)
        )


DISTURBED = """
from pytest_slmperf.measuring import launch

def judge(evidence, *rest):
    return ["a neighbour took the CPU" if {when} else None for number in range(len(evidence))]

launch.judge_rounds = judge
"""


def test_disturbed_machine_is_inconclusive_and_no_error(sweep, pytester):
    pytester.makeconftest(DISTURBED.format(when="True"))
    suite = """
def test_frontier(slmperf):
    sweep = slmperf.sweep(batch=[1, 8, 64], input_len=64, output_len=64)
    assert not sweep.complete and sweep.keys == []
"""
    done, entry = sweep("--slmperf-fail-on", "inconclusive", suite=suite)
    assert done.ret == 1
    assert verdict(entry)["verdict"] == "inconclusive"
    assert verdict(entry)["reason"].startswith("environment: ")
    assert entry["metrics"]["hypervolume"]["value"] is None
    assert all("a neighbour took the CPU" in row["failure"] for row in entry["points"])
    assert entry["discarded_rounds"] > 0


def test_some_disturbed_rounds_are_measured_again(sweep, pytester):
    pytester.makeconftest(DISTURBED.format(when="number == 2"))
    done, entry = sweep()
    assert done.ret == 0
    assert entry["discarded_rounds"] > 0
    assert all(len(rounds) == 3 for row in entry["points"] for rounds in row["launches"]["output_throughput"])


def test_ctrl_c_keeps_the_points_that_were_measured(perf, results, pytester):
    pytester.makeconftest("""
from pytest_slmperf.measuring.studies.adaptive_sweep import SweepMeasurement

point, calls = SweepMeasurement.measure_point, []

def stopping(self, key, launch):
    calls.append(key)
    if len(calls) == 3:
        raise KeyboardInterrupt
    return point(self, key, launch)

SweepMeasurement.measure_point = stopping
""")
    done = perf(suite=SWEEP, process=True)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    (entry,) = results()["results"]
    assert [row["key"] for row in entry["points"]] == [1, 8]
    assert verdict(entry)["verdict"] == "inconclusive"
    assert verdict(entry)["reason"] == "interrupted after 2 of 4 points"
    assert Path(pytester.path, ".slmperf", "report.html").exists()


def test_a_pick_that_cannot_be_measured_again_is_no_failure(perf, results):
    suite = """
def test_confirm(slmperf, request):
    sweep = slmperf.sweep(batch=[1, 8, 64], input_len=16, output_len=16)
    slo = sweep.slo(2, at=8)
    advice = sweep.advise(slo)
    # the session's time is over from here on
    from pytest_slmperf.pytest_plugin.context import CONTEXT
    measuring = request.config.stash[CONTEXT].measuring
    measuring.time_left = lambda: 0.0
    assert sweep.confirm(advice, slo).met is None
"""
    assert perf(suite=suite).ret == 0
    again = results()["results"][1]
    assert again["verdicts"][0]["verdict"] == "inconclusive"
    assert "time ended" in again["verdicts"][0]["reason"]


def test_what_a_sweep_cannot_answer_is_said_with_the_mend(perf, results):
    suite = """
import pytest
from pytest_slmperf.frontier.points import MetricBound

def test_left_out(slmperf):
    sweep = slmperf.sweep(batch=list(range(1, 65)), input_len=16, output_len=16)
    key = next(key for key in range(1, 65) if key not in sweep.keys)
    for ask in (lambda: sweep.at(key, "itl_mean"), lambda: sweep.slo(2, at=key)):
        with pytest.raises(LookupError, match=f"adaptive and did not measure {key}; adaptive=False measures every"):
            ask()
    with pytest.raises(LookupError, match=r"no point 65; measured are \\[1, .*, 64\\]$"):
        sweep.at(65, "itl_mean")
    with pytest.raises(ValueError, match="no advice: no point of the sweep keeps itl_mean ≤ 1e-06 and"):
        sweep.confirm(sweep.advise(slo := MetricBound("itl_mean", 1e-6)), slo)

def test_no_order(slmperf):
    grid = slmperf.sweep(batch=[1, 8], output_len=[8, 32], input_len=16)
    models = slmperf.sweep(model=["opt-125m", "opt-350m"], batch=8, input_len=16, output_len=16)
    for sweep, over in ((grid, "batch and output_len"), (models, "model")):
        for ask in (sweep.knee, sweep.kneedle, sweep.knee_uncertainty):
            with pytest.raises(LookupError, match=f"a sweep over {over} has no knee"):
                ask()
        assert sweep.knee(cost="kv_cache_peak").key in sweep.keys
        with pytest.raises(ValueError, match=f"values of {over}; sweep one of batch, requests, max_num_seqs alone"):
            sweep.advise()

def test_wrong_slos(slmperf):
    sweep = slmperf.sweep(batch=[1, 8], input_len=16, output_len=16)
    for times in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0|finite"):
            sweep.slo(times, at=8)
    with pytest.raises(ValueError, match=r"takes SLOs as slo\\(\\) makes them, not 5"):
        sweep.advise(5)

def test_limited(slmperf):
    sweep = slmperf.sweep(batch=[1, 8], max_num_seqs=4, input_len=16, output_len=16)
    with pytest.raises(ValueError, match=r"max_num_seqs=4 runs no more than that .* sweep max_num_seqs="):
        sweep.advise()

def test_no_batch(slmperf):
    sweep = slmperf.sweep(output_len=[8, 16], batch=8, input_len=16)
    with pytest.raises(ValueError, match="picks a batch, and the points of this sweep are values of output_len"):
        sweep.advise()
"""
    done = perf(suite=suite)
    assert done.ret == 0, done.stdout.str()
