"""One small file a format, made by hand from its published fields; the figures on the right are checked by hand."""

import json
from typing import Any, NamedTuple

import pytest
from support.result_files import (
    AIPERF,
    GUIDELLM,
    INFERENCE_PERF,
    INFERENCEX,
    LATENCY,
    OPTIMUM,
    SERVE,
    SGLANG,
    STARTUP,
    THROUGHPUT,
    status,
    unit,
)
from test_vllm_bench import write

from pytest_slmperf.contrib.importers.formats import FORMATS, runs_of
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.results_file import load_results


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
        {"max_concurrency": 32, "input_len": 1024, "output_len": 512, "precision": "fp8", "tp": 2},
    ),
    Right(
        INFERENCE_PERF, "inference-perf", "unknown",
        {"output_throughput": 95, "total_token_throughput": 285, "request_throughput": 1.9, "ttft_p50": 90, "ttft_p99": 200,
         "tpot_mean": 30, "tpot_p50": 29, "itl_p50": 28, "e2el_p90": 3500},
        {"output_throughput", "ttft_p50", "tpot_p50"},
        {"request_rate": 2.0, "input_tokens_per_request": 100, "output_tokens_per_request": 50},
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
        (SGLANG | {"errors": [""] * 40 + ["timeout"]}, 1),
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


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"was_cancelled": True}, "the run was cancelled"),
        ({"is_complete": False, "incomplete_reason": "stalled"}, "the run was not complete (stalled)"),
    ],
    ids=["cancelled", "incomplete"],
)
def test_a_run_that_did_not_end_has_no_latencies(call, tmp_path, ended, reason):
    write(tmp_path / "x.json", AIPERF | ended)
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert result.metrics["ttft_p50"].reason == reason


def test_throughputs_per_gpu_are_of_the_gpus_that_they_were_divided_by(call, tmp_path):
    """Tokens out per decoding GPU, all tokens per GPU of either kind."""
    pools = {"is_multinode": True, "disagg": True, "num_prefill_gpu": 20, "num_decode_gpu": 8}
    write(tmp_path / "x.json", INFERENCEX | pools)
    write(tmp_path / "untold.json", INFERENCEX | {"is_multinode": True})
    assert call("import", "x.json", "untold.json")[0] == 0
    x, untold = load_results(tmp_path / "results.json").results
    assert x.metrics["output_throughput"].value == pytest.approx(8 * 100)
    assert x.metrics["total_token_throughput"].value == pytest.approx(28 * 300)
    assert untold.metrics["output_throughput"].value is None
    assert untold.metrics["ttft_p50"].value == pytest.approx(180)


def guidellm(first: dict[str, Any], **whole: Any) -> dict[str, Any]:
    """GuideLLM's report with one benchmark in another version's layout."""
    kept = {name: value for name, value in GUIDELLM["benchmarks"][0].items() if name != "config"}
    return {"benchmarks": [kept | first], **whole}


SYNTHETIC = {"kind": "synthetic_text", "prompt_tokens": 256, "prompt_tokens_stdev": None, "output_tokens": 64}
SPEC = {"backend": {"kind": "openai_http", "target": "http://x", "model": "org/model"}, "data": [SYNTHETIC]}
RATE = {"type_": "constant", "rate": 2.0, "max_concurrency": None}
LOADED = {"name": "profiling", "type": "concurrency", "concurrency": 10, "requests": 50, "rate": None}
AIPERF_NOW = AIPERF | {
    "schema_version": "1.4", "is_complete": True, "incomplete_reason": None, "run_info": {"trial": 0},
    "input_config": {"models": {"items": [{"name": "org/model"}]}, "phases": [{"name": "warmup", "concurrency": 2}, LOADED]},
}  # fmt: skip
PERF_BEFORE = {
    "load_summary": {"count": 20, "schedule_delay": None},
    "successes": {
        name: value
        for name, value in INFERENCE_PERF["successes"].items()
        if name not in ("prompt_tokens", "output_tokens", "output_len")
    }
    | {"prompt_len": {"mean": 100.0, "median": 100.0}, "output_len": {"mean": 50.0}},
    "failures": {"count": 0, "request_latency": None, "prompt_len": None},
}
# (what another version of the same tool writes, its model, part of the scenario)
LAYOUTS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "guidellm 0.7": (
        guidellm({"config": {"strategy": RATE}}, metadata={"version": 2}, config={"metadata": {}, "spec": SPEC}),
        "org/model",
        {"request_rate": 2.0, "strategy": "constant",
         "dataset": '{"kind": "synthetic_text", "output_tokens": 64, "prompt_tokens": 256}'},
    ),
    "guidellm 0.3": (
        guidellm({"args": {"strategy": RATE, "max_duration": 30}, "run_stats": {}, "request_samples": None,
                  "worker": {"backend_model": "org/model"}, "request_loader": {"data": "prompts.jsonl", "processor": "x"}}),
        "org/model", {"request_rate": 2.0, "dataset": "prompts.jsonl"},
    ),
    "aiperf 0.13": (AIPERF_NOW, "org/model", {"max_concurrency": 10, "num_prompts": 50}),
    "inference-perf 0.5": (
        PERF_BEFORE, "unknown", {"num_prompts": 20, "input_tokens_per_request": 100, "output_tokens_per_request": 50}
    ),
    "inference-perf, users": (
        INFERENCE_PERF | {"load_summary": {"count": 20, "requested_rate": 7.0, "concurrency": 4}}, "unknown",
        {"max_concurrency": 4, "num_prompts": 20},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("document", "model", "scenario"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_other_versions(call, tmp_path, document, model, scenario):
    write(tmp_path / "x.json", document)
    code, _, err = call("import", "x.json")
    assert (code, err) == (0, "")
    (result,) = load_results(tmp_path / "results.json").results
    assert result.engine.model == model
    assert scenario.items() <= result.scenario.items()
    assert not [note for note in result.notes if "not known" in note or "shorter" in note]
    assert {name for name, value in result.metrics.items() if value.gate} == {
        "output_throughput",
        "ttft_p50",
        "tpot_p50",
    }


def shorter(document: dict[str, Any]) -> dict[str, Any]:
    """GuideLLM's report, its answers 40 tokens long."""
    metrics = document["benchmarks"][0]["metrics"] | {"output_token_count": status(40.0)}
    return document | {"benchmarks": [document["benchmarks"][0] | {"metrics": metrics}]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (shorter(GUIDELLM), "1200 of 1920 output tokens"),
        (shorter(LAYOUTS["guidellm 0.7"][0]), "1200 of 1920 output tokens"),
        (AIPERF | {"total_osl": unit("tokens", avg=4000.0)}, "4000 of 5000 output tokens"),
        (AIPERF_NOW | {"osl_mismatch_diff_pct": unit("%", avg=-50.0)}, "5000 of 10000 output tokens"),
        (SGLANG | {"total_output_tokens": 640}, "640 of 1280 output tokens"),
    ],
    ids=["guidellm", "guidellm-0.7", "aiperf", "aiperf-0.13", "sglang"],
)
def test_answers_shorter_than_asked_are_named(call, tmp_path, document, words):
    write(tmp_path / "x.json", document)
    assert call("import", "x.json")[0] == 0
    result = load_results(tmp_path / "results.json").results[0]
    assert any(words in note for note in result.notes)


def test_what_the_server_says_of_itself_is_no_result_of_inference_perf(call, tmp_path):
    """``stage_0_prometheus_metrics.json`` counts requests of others too."""
    server = {
        "count": 1140,
        "rate": 14.4,
        "prompt_len": {"mean": 4936},
        "request_latency": {"mean": 2.5, "median": 3.0},
    }
    write(tmp_path / "stage_0_prometheus_metrics.json", {"load_summary": {}, "successes": server, "failures": {}})
    code, _, err = call("import", "stage_0_prometheus_metrics.json")
    assert code == 4
    assert "holds the server's own metrics; import the *_lifecycle_metrics.json beside it" in err


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


def test_errors_that_aiperf_lists_and_does_not_count_are_failures(three, judged):
    errors = [{"error_details": {"code": 500, "message": "x"}, "count": 9}, {"error_details": {}, "count": 3}]
    code, verdicts = judged(three("old", AIPERF), three("new", AIPERF | {"error_summary": errors}))
    assert code == 2
    assert "36 requests failed" in verdicts["ttft_p50"]["reason"]


@pytest.mark.parametrize(
    ("part", "old", "new", "words"),
    [
        ("input", {"public_dataset": "sharegpt"}, {"public_dataset": "aimo"}, "dataset sharegpt → aimo"),
        ("input", {"file": "/home/a/one.jsonl"}, {"file": "/home/b/two.jsonl"}, "dataset one.jsonl → two.jsonl"),
        ("endpoint", {"type": "chat"}, {"type": "completions"}, "endpoint_type chat → completions"),
        ("loadgen", {"request_rate_mode": "poisson"}, {"arrival_pattern": "constant"}, "arrivals poisson → constant"),
    ],
)
def test_what_aiperf_was_asked_for_is_the_work(three, judged, part, old, new, words):
    before, after = ({**AIPERF, "input_config": {**AIPERF["input_config"], part: asked}} for asked in (old, new))
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert all(words in row["reason"] for row in verdicts.values())


def test_models_that_sglang_names_are_other_work_and_its_version_is_recorded(three, judged, tmp_path):
    one = SGLANG | {"server_info": {"model_path": "org/one", "version": "0.5.3", "tp_size": 1, "api_key": "hidden"}}
    other = SGLANG | {"server_info": {"decode": [{"model_path": "org/other", "version": "0.5.4", "tp_size": 2}]}}
    code, verdicts = judged(three("old", one), three("new", other))
    assert code == 2
    assert {row["verdict"] for row in verdicts.values()} == {"incomparable"}
    assert "model org/one → org/other" in verdicts["ttft_p50"]["reason"]
    (result,) = load_results(tmp_path / "new.res").results
    assert (result.engine.version, result.engine.settings) == ("0.5.4", {"tp_size": 2})
    stored = "".join(path.read_text() for path in (tmp_path / "baselines").rglob("*") if path.is_file())
    assert "hidden" not in stored
