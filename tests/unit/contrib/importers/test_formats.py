"""One small file a format, made by hand from its published fields; the figures on the right are checked by hand."""

import json
from typing import Any, NamedTuple

import pytest
from test_vllm_bench import LATENCY, SERVE, THROUGHPUT, write

from pytest_slmperf.contrib.importers.formats import FORMATS, runs_of
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.results_file import load_results

SGLANG = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": 8,
    "sharegpt_output_len": None, "random_input_len": 128, "random_output_len": 32, "random_range_ratio": 1.0,
    "duration": 20.0, "completed": 40, "total_input_tokens": 5120, "total_output_tokens": 1280,
    "total_output_tokens_retokenized": 1279, "request_throughput": 2.0, "input_throughput": 256.0,
    "output_throughput": 64.0, "total_throughput": 320.0, "mean_e2e_latency_ms": 900.0, "median_e2e_latency_ms": 880.0,
    "p99_e2e_latency_ms": 1200.0, "mean_ttft_ms": 90.0, "median_ttft_ms": 80.0, "std_ttft_ms": 9.0, "p99_ttft_ms": 150.0,
    "mean_tpot_ms": 26.0, "median_tpot_ms": 25.0, "p99_tpot_ms": 40.0, "mean_itl_ms": 26.0, "median_itl_ms": 24.0,
    "p95_itl_ms": 39.0, "p99_itl_ms": 41.0, "max_itl_ms": 70.0, "concurrency": 7.2, "accept_length": None,
}  # fmt: skip


def status(mean, median=None, **percentiles):
    found = {"mean": mean, "median": median or mean, "std_dev": 1.0, "count": 30, "percentiles": percentiles}
    return {"successful": found, "errored": None, "incomplete": None, "total": found}


GUIDELLM = {
    "metadata": {"version": 1, "guidellm_version": "0.3.1"},
    "args": {"model": "org/model", "data": "prompt_tokens=256,output_tokens=64"},
    "benchmarks": [
        {
            "type_": "generative_benchmark",
            "config": {"strategy": {"type_": "concurrent", "streams": streams}},
            "duration": 30.0,
            "metrics": {
                "request_totals": {"successful": 30, "errored": 0, "incomplete": 2, "total": 32},
                "requests_per_second": status(1.0 * streams),
                "output_tokens_per_second": status(64.0 * streams),
                "tokens_per_second": status(320.0 * streams),
                "request_latency": status(2.0, 1.9, p99=2.5),
                "time_to_first_token_ms": status(50.0, 45.0, p90=70.0, p95=80.0, p99=90.0),
                "time_per_output_token_ms": status(31.0),
                "inter_token_latency_ms": status(30.0, 29.0, p99=40.0),
                "prompt_token_count": status(256.0),
                "output_token_count": status(64.0),
            },
        }
        for streams in (1, 4)
    ],
}


def unit(name, **statistics):
    return {"unit": name, **statistics}


AIPERF = {
    "schema_version": "1.0",
    "aiperf_version": "0.3.0",
    "request_throughput": unit("requests/sec", avg=5.0),
    "request_count": unit("requests", avg=50.0),
    "error_request_count": unit("requests", avg=0.0),
    "time_to_first_token": unit("ms", avg=30.0, p50=28.0, p90=40.0, p95=45.0, p99=60.0, std=5.0),
    "time_to_second_token": unit("ms", avg=12.0),
    "inter_token_latency": unit("ms", avg=11.0, p50=10.5, p99=15.0),
    "request_latency": unit("ms", avg=1000.0, p50=990.0, p99=1200.0),
    "output_token_throughput": unit("tokens/sec", avg=500.0),
    "output_sequence_length": unit("tokens", avg=100.0),
    "input_sequence_length": unit("tokens", avg=550.0),
    "total_isl": unit("tokens", avg=27500.0),
    "total_osl": unit("tokens", avg=5000.0),
    "input_config": {
        "endpoint": {"model_names": ["org/model"]},
        "loadgen": {"concurrency": 10, "request_count": 50},
        "input": {"prompt": {"output_tokens": {"mean": 100}}},
    },
    "was_cancelled": False,
    "error_summary": [],
}
INFERENCEX = {
    "hw": "b200", "tp": 4, "ep": 1, "dp_attention": "false", "conc": 32, "model": "org/model", "framework": "sglang",
    "precision": "fp8", "image": "img:1", "isl": 1024, "osl": 512, "tput_per_gpu": 300.0, "output_tput_per_gpu": 100.0,
    "input_tput_per_gpu": 200.0, "mean_ttft": 0.2, "median_ttft": 0.18, "p99_ttft": 0.5, "mean_tpot": 0.02,
    "median_tpot": 0.019, "p99_tpot": 0.03, "mean_intvty": 50.0, "median_intvty": 52.6, "mean_itl": 0.02,
    "median_itl": 0.018, "mean_e2el": 10.0, "median_e2el": 9.8, "p99_e2el": 12.0,
}  # fmt: skip
INFERENCE_PERF = {
    "load_summary": {"count": 20, "requested_rate": 2.0, "achieved_rate": 1.9, "send_duration": 10.0},
    "successes": {
        "count": 20,
        "latency": {
            "request_latency": {"mean": 3.0, "p50": 2.9, "p90": 3.5},
            "time_to_first_token": {"mean": 0.1, "p50": 0.09, "p99": 0.2},
            "time_per_output_token": {"mean": 0.03, "p50": 0.029},
            "normalized_time_per_output_token": {"mean": 0.031},
            "inter_token_latency": {"mean": 0.03, "p50": 0.028},
        },
        "throughput": {"input_tokens_per_sec": 190.0, "output_tokens_per_sec": 95.0, "total_tokens_per_sec": 285.0,
                       "requests_per_sec": 1.9},
        "prompt_len": {"mean": 100.0},
        "output_len": {"mean": 50.0},
    },
    "failures": {"count": 0},
}  # fmt: skip


def seconds(*values):
    return {"latency": {"unit": "s", "count": len(values), "values": list(values), "mean": sum(values) / len(values)}}


OPTIMUM = {
    "config": {
        "backend": {"name": "pytorch", "version": "2.6", "model": "org/model", "device": "cuda"},
        "scenario": {
            "input_shapes": {"batch_size": 2, "sequence_length": 16},
            "generate_kwargs": {"max_new_tokens": 11, "min_new_tokens": 11},
        },
    },
    "report": {
        "load": seconds(4.0),
        "prefill": seconds(0.1, 0.2),
        "decode": seconds(0.9, 0.8),
        "per_token": seconds(0.09),
    },
}
STARTUP = {
    "avg_cold_startup_time": 30.0, "cold_startup_times": [29.0, 31.0], "cold_startup_percentiles": {"50": 30.0},
    "avg_warm_startup_time": 9.0, "warm_startup_times": [9.0], "warm_startup_percentiles": {"50": 9.0},
}  # fmt: skip


class Right(NamedTuple):
    document: Any
    format: str
    engine: str
    values: dict[str, float]  # of the first run
    gates: set[str]
    scenario: dict[str, Any]  # part of it
    counts: str = ""


RIGHT = [
    Right(
        SERVE, "vllm bench serve", "vllm",
        {"output_throughput": 640, "total_token_throughput": 960, "request_throughput": 10, "ttft_p50": 28,
         "ttft_p99": 60, "tpot_mean": 20, "itl_p50": 19},
        {"output_throughput", "ttft_p50", "tpot_mean"},
        {"max_concurrency": 16, "num_prompts": 100, "input_tokens_per_request": 32, "output_tokens_per_request": 64},
        "100 requests sent, 100 completed, 0 failed, 3200 input tokens, 6400 output tokens",
    ),
    Right(LATENCY, "vllm bench latency", "vllm", {"e2el_mean": 500}, {"e2el_mean"}, {"kind": "offline"}),
    Right(
        THROUGHPUT, "vllm bench throughput", "vllm", {"total_token_throughput": 640, "request_throughput": 10},
        {"total_token_throughput"}, {"kind": "offline", "num_prompts": 100, "tokens_per_request": 64},
        "100 requests sent, 100 completed, 0 failed, 6400 tokens",
    ),
    Right(STARTUP, "vllm bench startup", "vllm", {"engine_start_time": 30}, {"engine_start_time"},
          {"kind": "cold_start", "start": "cold"}),
    Right(
        SGLANG, "sglang.bench_serving", "sglang",
        {"output_throughput": 64, "total_token_throughput": 320, "request_throughput": 2, "ttft_p50": 80, "tpot_p50": 25,
         "itl_p95": 39, "e2el_mean": 900, "e2el_p99": 1200},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"request_rate": 4.0, "max_concurrency": 8, "random_output_len": 32, "dataset_name": "random",
         "output_tokens_per_request": 32},
        "40 completed, 0 failed, 5120 input tokens, 1280 output tokens",
    ),
    Right(
        GUIDELLM, "guidellm", "unknown",
        {"output_throughput": 64, "total_token_throughput": 320, "request_throughput": 1, "ttft_p50": 45, "ttft_p95": 80,
         "tpot_mean": 30, "tpot_p50": 29, "e2el_mean": 2000, "e2el_p50": 1900},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"strategy": "concurrent", "max_concurrency": 1, "dataset": "prompt_tokens=256,output_tokens=64",
         "input_tokens_per_request": 256},
        "30 completed, 0 failed, 7680 input tokens, 1920 output tokens",
    ),
    Right(
        AIPERF, "aiperf", "unknown",
        {"output_throughput": 500, "request_throughput": 5, "ttft_p50": 28, "ttft_mean": 30, "tpot_p50": 10.5,
         "tpot_p99": 15, "e2el_p50": 990},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"max_concurrency": 10, "num_prompts": 50, "input_tokens_per_request": 550, "output_tokens_per_request": 100},
        "50 requests sent, 50 completed, 0 failed, 27500 input tokens, 5000 output tokens",
    ),
    Right(
        INFERENCEX, "inferencex", "sglang",
        {"output_throughput": 400, "total_token_throughput": 1200, "ttft_p50": 180, "ttft_p99": 500, "tpot_p50": 19,
         "itl_mean": 20, "e2el_mean": 10000},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"max_concurrency": 32, "input_len": 1024, "output_len": 512, "precision": "fp8", "tp": 4},
    ),
    Right(
        INFERENCE_PERF, "inference-perf", "unknown",
        {"output_throughput": 95, "total_token_throughput": 285, "request_throughput": 1.9, "ttft_p50": 90, "ttft_p99": 200,
         "tpot_mean": 30, "tpot_p50": 29, "itl_p50": 28, "e2el_p90": 3500},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"request_rate": 2.0, "num_prompts": 20, "input_tokens_per_request": 100, "output_tokens_per_request": 50},
        "20 requests sent, 20 completed, 0 failed, 2000 input tokens, 1000 output tokens",
    ),
    Right(
        OPTIMUM, "optimum-benchmark", "pytorch",
        # 2 · 11 tokens in 1.0 s each; 900 and 800 ms of decode for 10 tokens after the first
        {"output_throughput": 22, "ttft_mean": 150, "tpot_mean": 85, "itl_mean": 90, "e2el_mean": 1000},
        {"output_throughput", "ttft_mean", "tpot_mean"}, {"kind": "offline", "batch": 2, "input_len": 16, "output_len": 11},
    ),
]  # fmt: skip


def test_every_recogniser_has_a_row():
    assert {right.format for right in RIGHT} == {known.NAME for known in FORMATS}


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.format)
def test_figures_units_gates_and_counts(call, tmp_path, right):
    write(tmp_path / "x.json", right.document)
    code, _, err = call("import", "x.json")
    assert (code, err) == (0, "")
    result = load_results(tmp_path / "results.json").results[0]
    assert result.id.startswith(f"{right.format}::x")
    assert result.engine.name == right.engine
    read = {name: value.value for name, value in result.metrics.items()}
    assert {name: read[name] for name in right.values} == pytest.approx(right.values)
    assert {name for name, value in result.metrics.items() if value.gate} == right.gates
    assert right.scenario.items() <= result.scenario.items()
    assert not [note for note in result.notes if "not known" in note]
    if right.counts:
        assert right.counts in result.notes


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.format)
def test_each_document_is_recognised_by_one_format_only(right):
    assert next(known.NAME for known in FORMATS if known.recognises(right.document)) == right.format
    others = [known.NAME for known in FORMATS if known.recognises(right.document) and right.format != known.NAME]
    assert others in ([], ["vllm bench serve"])  # SGLang's has all of vLLM's fields, and is asked first


def test_guidellm_makes_a_sweep_of_its_benchmarks(call, tmp_path):
    write(tmp_path / "bench/benchmarks.json", GUIDELLM)
    assert call("import", "bench")[0] == 0
    *settings, sweep = load_results(tmp_path / "results.json").results
    assert [one.id for one in settings] == [f"guidellm::benchmarks[max_concurrency={streams}]" for streams in (1, 4)]
    assert (sweep.id, sweep.scenario["key"], sweep.scenario["keys"]) == (
        "guidellm sweep::bench",
        "max_concurrency",
        [1, 4],
    )


def test_sglang_writes_a_line_a_run(call, tmp_path):
    lines = [SGLANG | {"max_concurrency": n, "output_throughput": 64.0 + n} for n in (1, 8)]
    write(tmp_path / "s.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    assert call("import", "s.jsonl")[0] == 0
    ids = [one.id for one in load_results(tmp_path / "results.json").results]
    assert ids == [f"sglang.bench_serving::s[max_concurrency={n}]" for n in (1, 8)]


@pytest.mark.parametrize(
    ("document", "failed"),
    [
        (SERVE | {"completed": 90}, 10),
        (SERVE | {"failed": 10, "completed": 90}, 10),
        (AIPERF | {"error_request_count": unit("requests", avg=3.0), "request_count": unit("requests", avg=47.0)}, 3),
        (INFERENCE_PERF | {"failures": {"count": 4}}, 4),
        (SGLANG | {"errors": ["", "timeout", ""]}, 1),
    ],
    ids=["serve", "serve-with-failed", "aiperf", "inference-perf", "sglang"],
)
def test_failures_withhold_the_latencies(call, tmp_path, document, failed):
    write(tmp_path / "x.json", document)
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    latencies = [value for name, value in result.metrics.items() if name.startswith(("ttft", "tpot", "itl", "e2el"))]
    assert {value.value for value in latencies} == {None}
    assert {value.gate for name, value in result.metrics.items() if name == "ttft_p50"} == {True}
    noun = "request" if failed == 1 else "requests"
    assert all(f"{failed} {noun} failed" in value.reason for value in latencies)


def test_a_cancelled_run_has_no_latencies(call, tmp_path):
    write(tmp_path / "x.json", AIPERF | {"was_cancelled": True})
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert result.metrics["ttft_p50"].reason == "the run was cancelled"


def test_sglang_answers_shorter_than_asked_are_named(call, tmp_path):
    write(tmp_path / "x.json", SGLANG | {"total_output_tokens": 640})
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert any("640 of 1280 output tokens" in note for note in result.notes)


def test_throughput_of_several_pools_of_gpus_is_not_guessed(call, tmp_path):
    write(tmp_path / "x.json", INFERENCEX | {"is_multinode": True})
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert result.metrics["output_throughput"].value is None
    assert result.metrics["ttft_p50"].value == pytest.approx(180)


def test_an_unknown_unit_is_refused(call, tmp_path):
    write(tmp_path / "x.json", AIPERF | {"time_to_first_token": unit("fortnights", avg=1.0)})
    code, _, err = call("import", "x.json")
    assert code == 4
    assert "x.json: field 'time_to_first_token.unit' is \"fortnights\", not one of ns, us, ms" in err


def test_two_formats_under_one_name_are_refused(call, tmp_path):
    write(tmp_path / "mixed/a.json", SERVE)
    write(tmp_path / "mixed/b.json", SGLANG)
    for arguments in (["mixed"], ["mixed/a.json", "mixed/b.json", "--as", "chat"]):
        code, _, err = call("import", *arguments)
        assert (code, len(err.splitlines())) == (4, 1)
        assert "import each format apart" in err
    assert not (tmp_path / "results.json").exists()


def test_what_nobody_knows_is_refused_and_the_known_formats_are_named():
    with pytest.raises(InvalidInput) as refused:
        runs_of({"hello": 1}, "x.json", False)
    assert all(known.NAME in str(refused.value) for known in FORMATS)
