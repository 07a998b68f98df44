"""Failures in fields that no format knows, and files of other devices: never green."""

import json

import pytest
from support.result_files import AIPERF, GUIDELLM, INFERENCE_PERF, INFERENCEX, OPTIMUM, SERVE, SGLANG, seconds
from test_vllm_bench import write

from pytest_slmperf.model.results_file import load_results

FAILED = {
    "a field of no known format": (SERVE, SERVE | {"failed_requests": 7}, "failed_requests is 7"),
    "sglang, several processes": (
        SGLANG | {"num_prompts": 40, "failed": 0}, SGLANG | {"num_prompts": 40, "failed": 5}, "15 requests failed",
    ),
    "sglang, none counted": (
        SGLANG | {"num_prompts": 40},
        SGLANG | {"num_prompts": 40, "completed": 35, "total_input_tokens": 4480, "total_output_tokens": 1120,
                  "duration": 17.5},
        "15 requests failed",
    ),
    "inferencex": (INFERENCEX | {"errors": 0}, INFERENCEX | {"errors": 3}, "errors is 3"),
    "inference-perf": (INFERENCE_PERF, INFERENCE_PERF | {"error_rate": 0.2}, "error_rate is 0.2"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), FAILED.values(), ids=FAILED)
def test_failures_that_stand_in_another_field_are_failures(three, judged, before, after, words):
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert words in verdicts["ttft_p50"]["reason"]
    assert verdicts["tpot_mean"]["verdict"] == "incomparable"


def test_errors_outside_the_time_that_guidellm_measures_are_failures(three, judged):
    def counted(name, **made):
        files = []
        for number in range(3):
            first = GUIDELLM["benchmarks"][0] | {
                "run_id": f"{name}{number}",
                "scheduler_metrics": {"requests_made": made},
            }
            files += three(f"{name}{number}-", GUIDELLM | {"benchmarks": [first]})[:1]
        return files

    fine, failed = counted("old", successful=33, errored=0), counted("new", successful=33, errored=7)
    assert judged(fine, counted("again", successful=33, errored=0))[0] == 0
    code, verdicts = judged(fine, failed)
    assert code == 2
    assert "21 requests failed" in verdicts["ttft_p50"]["reason"]


def of(document, *path, **more):
    """The document with more fields in the object at the path."""
    return document | ({path[0]: of(document.get(path[0], {}), *path[1:], **more)} if path else more)


def watched(name):
    return {
        "telemetry_data": {
            "endpoints": {"x:9400": {"gpus": {"gpu_0": {"gpu_name": name}, "gpu_1": {"gpu_name": name}}}}
        }
    }


STEADY = of(OPTIMUM, "report", prefill=seconds(0.1, 0.1001), decode=seconds(0.9, 0.9001))
CUDA = of(STEADY, "config", environment={"gpu": ["A100", "A100"], "cpu": " EPYC"})
OTHER_DEVICES = {
    "optimum-benchmark, GPU": (CUDA, of(CUDA, "config", environment={"gpu": ["H100"]}), "device cuda, a100 → cuda, h100"),
    "optimum-benchmark, several": (
        of(CUDA, "config", "backend", device_ids="0"), of(CUDA, "config", "backend", device_ids="0,1"),
        "device cuda, a100 → cuda, 2 × a100",
    ),
    "optimum-benchmark, dtype": (
        of(STEADY, "config", "backend", torch_dtype="float16"), of(STEADY, "config", "backend", torch_dtype="float32"),
        "dtype float16 → float32",
    ),
    "aiperf": (AIPERF | watched("A100"), AIPERF | watched("H100"), "device a100 → h100"),
    "inferencex, pipeline": (INFERENCEX, INFERENCEX | {"pp": 4}, "pp 2 → 4"),
    "inferencex, public data": (
        {"hardware": "b300", "precision": "fp8", "isl": 1024, "osl": 1024, "conc": 64, "tp": 2,
         "metrics": {"tput_per_gpu": 2000.0, "output_tput_per_gpu": 1000.0, "mean_ttft": 0.1, "mean_tpot": 0.02}},
        {"hardware": "b200", "precision": "fp8", "isl": 1024, "osl": 1024, "conc": 64, "tp": 2,
         "metrics": {"tput_per_gpu": 2000.0, "output_tput_per_gpu": 1000.0, "mean_ttft": 0.1, "mean_tpot": 0.02}},
        "device b300 → b200",
    ),
    "inferencex, files of others": (
        {name: value for name, value in INFERENCEX.items() if name != "hw"} | {"device": "h200"},
        {name: value for name, value in INFERENCEX.items() if name != "hw"} | {"device": "h100"}, "device h200 → h100",
    ),
    "inferencex, context": (INFERENCEX, INFERENCEX | {"pcp_size": 2}, "pcp_size none → 2"),
    "inferencex, roles": (
        INFERENCEX | {"num_prefill_gpu": 2, "num_decode_gpu": 2}, INFERENCEX | {"num_prefill_gpu": 2, "num_decode_gpu": 4},
        "num_decode_gpu 2 → 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), OTHER_DEVICES.values(), ids=OTHER_DEVICES)
def test_other_devices_are_not_compared(three, judged, before, after, words):
    assert judged(three("old", before), three("again", before))[0] == 0
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert all(words in row["reason"] for row in verdicts.values())


def served(concurrency, **more):
    """Ten requests for each of ``concurrency`` streams."""
    asked = {"max_concurrency": concurrency, "num_prompts": 10 * concurrency, "completed": 10 * concurrency}
    tokens = {
        "total_input_tokens": 320 * concurrency,
        "total_output_tokens": 640 * concurrency,
        "duration": concurrency,
    }
    return SERVE | asked | tokens | {"mean_tpot_ms": 5.0 + concurrency} | more


def test_failures_that_change_the_lengths_of_one_point_leave_the_others_as_they_are(call, tmp_path):
    """The lengths of the requests that did not fail made the sweep none, and renamed its points."""
    for concurrency in (1, 2, 4):
        write(tmp_path / f"old/{concurrency}.json", served(concurrency))
        failed = {"failed": 4, "completed": 16, "total_output_tokens": 640, "duration": 1.0} if concurrency == 2 else {}
        write(tmp_path / f"new/{concurrency}.json", served(concurrency, **failed))
    assert call("import", "old", "--as", "chat", "--save", "main")[0] == 0
    code, out, _ = call("import", "new", "--as", "chat", "-o", "new.res")
    assert code == 0
    assert "max_concurrency 2 is left out of the frontier: 4 requests failed" in out
    rows = json.loads(call("compare", "baselines", "new.res", "--json")[1])["results"]
    ids = [f"chat::max_concurrency={size}, num_prompts={10 * size}" for size in (1, 2, 4)]
    assert [row["id"] for row in rows] == [*ids, "chat"]
    assert [row["verdict"] for row in rows if row["id"] == ids[1]] == ["incomparable"]
    assert "new" not in {verdict["verdict"] for row in rows for verdict in row["verdicts"]}


@pytest.mark.parametrize("first", [0, 1])
def test_a_failed_run_of_other_lengths_is_no_other_work_among_the_runs_of_one_setting(call, tmp_path, first):
    runs = [served(2), served(2, failed=4, completed=16, total_output_tokens=640, duration=1.0, date="20261123-150001")]
    for number, run in enumerate(runs if first == 0 else runs[::-1]):
        write(tmp_path / f"exp/BENCH--max_concurrency=2/run={number}.json", run)
    code, out, err = call("import", "exp", "-o", "x.res")
    assert (code, err) == (0, "")
    assert "4 requests failed" in out
    (result,) = load_results(tmp_path / "x.res").results
    assert (result.metrics["ttft_p50"].value, result.scenario["output_tokens_per_request"]) == (None, 64)


def test_a_failed_run_of_other_lengths_is_no_launch_of_a_sound_one(call, tmp_path):
    write(tmp_path / "a.json", served(2))
    write(tmp_path / "b.json", served(2, failed=4, completed=16, total_output_tokens=640, duration=1.0))
    assert call("import", "a.json", "b.json", "--as", "chat", "-o", "x.res")[0] == 0
    ids = {result.id: result.metrics["ttft_p50"].value for result in load_results(tmp_path / "x.res").results}
    assert len(ids) == 2
    assert sorted(ids.values(), key=str) == [28.0, None]


def of_phases(phase, dataset):
    """AIPerf's export in the layout that names its data sets and phases (schema 1.3)."""
    config = {"models": {"items": [{"name": "org/model"}]}, "endpoint": {"type": "chat"}, "datasets": [dataset]}
    return AIPERF | {"schema_version": "1.3", "input_config": config | {"phases": [{"name": "profiling", **phase}]}}


SHAREGPT = {"name": "main", "type": "public", "dataset": "sharegpt", "entries": 50}
STREAMS = {"type": "concurrency", "requests": 50, "concurrency": 10}
OTHER_LOADS = {
    "public data": (
        of_phases(STREAMS, SHAREGPT), of_phases(STREAMS, SHAREGPT | {"dataset": "aimo"}), "dataset sharegpt → aimo",
    ),
    "a file": (
        of_phases(STREAMS, {"type": "file", "path": "/a/one.jsonl", "format": "multi_turn"}),
        of_phases(STREAMS, {"type": "file", "path": "/b/two.jsonl", "format": "multi_turn"}),
        "dataset multi_turn one.jsonl → multi_turn two.jsonl",
    ),
    "arrivals": (
        of_phases({"type": "poisson", "rate": 2.0, "requests": 50}, SHAREGPT),
        of_phases({"type": "constant", "rate": 2.0, "requests": 50}, SHAREGPT), "arrivals poisson → constant",
    ),
    "shared prefixes": (
        AIPERF, of(AIPERF, "input_config", "input", "prompt", prefix_prompt={"pool_size": 4, "length": 500}),
        "dataset none → 4 prefixes of 500 tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), OTHER_LOADS.values(), ids=OTHER_LOADS)
def test_other_loads_of_aiperf_are_other_work(three, judged, before, after, words):
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert all(words in row["reason"] for row in verdicts.values())


def test_a_share_of_failures_without_their_number_withholds_latencies(three, judged):
    failed = AIPERF | {"request_error_rate": {"unit": "%", "avg": 4.0}}
    code, verdicts = judged(three("old", AIPERF), three("new", failed))
    assert code == 2
    assert "4 % of the requests failed" in verdicts["ttft_p50"]["reason"]


def test_files_of_the_user_beside_results_are_skipped_by_name(call, tmp_path):
    for streams in (2, 8):
        load = of_phases(STREAMS | {"concurrency": streams}, SHAREGPT)
        write(tmp_path / f"agent/c{streams}/profile_export_aiperf.json", load)
        write(tmp_path / f"agent/c{streams}/meta.json", {"node": "a", "start": 1783056078, "reqs": 96})
        write(tmp_path / f"agent/c{streams}/prom.json", {"window_s": 75, "gen_tok_s": 868.4})
    code, out, err = call("import", "agent")
    assert (code, "3 results, 2 sweep points" in out) == (0, True)
    assert sorted(line.split(": ")[1:] for line in err.splitlines()) == [
        [f"agent/c{streams}/{name}.json", "not a result of a known benchmark"]
        for streams in (2, 8)
        for name in ("meta", "prom")
    ]
    write(tmp_path / "agent/c8/other.json", {"model": "m", "mean_ttft_ms": 3.0})  # a result, of an unknown tool
    code, _, err = call("import", "agent")
    assert code == 4
    assert "other.json: not a result of vllm bench or another known benchmark" in err
    assert call("import", "agent/c2/meta.json")[0] == 4


OTHER_ENGINES = {
    "aiperf, model": (AIPERF, of(AIPERF, "input_config", "endpoint", model_names=["org/other"]), "model=org/other"),
    "aiperf, GPU": (AIPERF | watched("A100"), AIPERF | watched("H100"), "device=H100"),
    "sglang, settings": (
        SGLANG | {"server_info": {"model_path": "m", "version": "1", "tp_size": 1}},
        SGLANG | {"server_info": {"model_path": "m", "version": "1", "tp_size": 2}}, "tp_size=2",
    ),
    "sglang, version": (
        SGLANG | {"server_info": {"model_path": "m", "version": "1"}},
        SGLANG | {"server_info": {"model_path": "m", "version": "2"}}, "engine_version=2",
    ),
    "guidellm": (GUIDELLM, of(GUIDELLM, "args", model="org/other"), "model=org/other"),
    "optimum-benchmark": (STEADY, of(STEADY, "config", "backend", quantization_scheme="awq"), "quantization_scheme=awq"),
    "inferencex": (INFERENCEX, INFERENCEX | {"hw": "b300"}, "hw=b300"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "setting"), OTHER_ENGINES.values(), ids=OTHER_ENGINES)
def test_runs_of_other_models_engines_or_devices_are_no_launches_of_one_result(call, tmp_path, one, other, setting):
    for name, document in (("one", one), ("other", other)):
        first = {"benchmarks": document["benchmarks"][:1]} if "benchmarks" in document else {}
        write(tmp_path / f"{name}.json", document | first)
    assert call("import", "one.json", "other.json", "--as", "chat", "-o", "x.res")[0] == 0
    results = [result for result in load_results(tmp_path / "x.res").results if result.scenario["kind"] != "sweep"]
    assert len(results) == 2
    assert any(setting in result.id for result in results)
    assert all(len(value.launches) < 2 for result in results for value in result.metrics.values())
