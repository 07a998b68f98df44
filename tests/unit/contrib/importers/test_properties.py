"""What holds for every file of vllm bench serve: counts are kept or the file is refused, and nothing slow is green."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.result_files import SERVE

from pytest_slmperf.cli.main import main
from pytest_slmperf.contrib.importers.formats import runs_of
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.results_file import load_results

RUNS_CLI = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**7),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)
counts = st.fixed_dictionaries(
    {
        "num_prompts": st.integers(0, 10**6),
        "completed": st.integers(0, 10**6),
        "total_input_tokens": st.integers(0, 10**9),
        "total_output_tokens": st.integers(0, 10**9),
    },
    optional={"failed": st.integers(0, 10**6)},
)


@settings(deadline=None)
@given(counted=counts, more=st.dictionaries(st.sampled_from([*SERVE, "novel", "input_throughput"]), values, max_size=3))
def test_requests_tokens_and_failures_are_kept_exactly_or_the_file_is_refused_by_name(counted, more):
    document = SERVE | {"failed": None} | more | counted
    try:
        (run,) = runs_of(document, "x.json", False)
    except InvalidInput as refused:
        assert str(refused).startswith("x.json: ")  # noqa: PT017
        return
    found = run.counts
    assert (found.requests, found.completed) == (counted["num_prompts"], counted["completed"])
    assert (found.input_tokens, found.output_tokens) == (counted["total_input_tokens"], counted["total_output_tokens"])
    failed = document["failed"] or 0
    assert found.failed == failed
    assert found.lost == max(failed, counted["num_prompts"] - counted["completed"])
    assert not (found.lost and [name for name in run.readings if name.startswith(("ttft", "tpot", "itl", "e2el"))])


def imported(folder, name, runs):
    for number, run in enumerate(runs):
        (folder / f"{name}{number}.json").write_text(json.dumps(run | {"date": f"20261101-15000{number}"}))
    files = [str(folder / f"{name}{number}.json") for number in range(len(runs))]
    out = str(folder / f"{name}.res")
    assert main(["import", *files, "--as", "chat", "-o", out]) == 0
    return out


def compared(capsys, old, new):
    capsys.readouterr()
    code = main(["compare", old, new, "--json"])
    (row,) = json.loads(capsys.readouterr().out)["results"]
    return code, {one["metric"]: one["verdict"] for one in row["verdicts"]}


latency = st.floats(0.01, 10_000).map(lambda value: float(f"{value:.6g}"))
spread = st.lists(st.floats(0.99, 1.01), min_size=3, max_size=3)


@RUNS_CLI
@given(ttft=latency, tpot=latency, rate=st.floats(1, 10**5), wobble=spread)
def test_a_comparison_with_itself_never_regresses_and_twice_the_latency_is_never_green(
    capsys, tmp_path, ttft, tpot, rate, wobble
):
    """Three runs a side, within 1 % of each other."""

    def run(by, factor):
        times = {"median_ttft_ms": ttft * by * factor, "mean_ttft_ms": ttft * by * factor,
                 "median_tpot_ms": tpot * by * factor, "mean_tpot_ms": tpot * by * factor}  # fmt: skip
        return SERVE | times | {"output_throughput": rate * factor, "mean_itl_ms": tpot * by * factor}

    old = imported(tmp_path, "old", [run(1, factor) for factor in wobble])
    code, verdicts = compared(capsys, old, old)
    assert code == 0 or "regressed" not in verdicts.values()
    assert "regressed" not in verdicts.values()
    code, verdicts = compared(capsys, old, imported(tmp_path, "slow", [run(2, factor) for factor in wobble]))
    assert code != 0
    assert {verdicts["ttft_p50"], verdicts["tpot_p50"]} <= {"regressed", "inconclusive"}


@pytest.mark.parametrize("name", ["ttft", "tpot"])
def test_a_gated_latency_that_is_gone_is_never_green(capsys, tmp_path, name):
    gone = dict.fromkeys((f"mean_{name}_ms", f"median_{name}_ms", "mean_itl_ms", "median_itl_ms"))
    old = imported(tmp_path, "old", [SERVE | {"median_tpot_ms": 20.0}] * 3)
    new = imported(tmp_path, "new", [SERVE | {"median_tpot_ms": 20.0} | gone] * 3)
    code, verdicts = compared(capsys, old, new)
    assert code == 2
    assert verdicts[f"{name}_p50"] == "incomparable"
    assert load_results(tmp_path / "new.res").results[0].metrics[f"{name}_p50"].value is None
