"""Files that contradict themselves, and work that only a field or the number of requests tells apart."""

import json
import re
import shutil

import pytest
from support.result_files import AIPERF, GUIDELLM, INFERENCE_PERF, SERVE, SGLANG, STARTUP, THROUGHPUT, at_rate
from test_vllm_bench import write

from pytest_slmperf.model.results_file import load_results


@pytest.fixture
def lay(tmp_path):
    """``lay(name, document)``: files of three runs of a report of GuideLLM, with its first benchmark."""

    def write_three(name, document):
        first = document["benchmarks"][0]
        for number in range(3):
            write(tmp_path / f"{name}{number}.json", document | {"benchmarks": [first | {"run_id": f"{name}{number}"}]})
        return [f"{name}{number}.json" for number in range(3)]

    return write_three


@pytest.mark.parametrize(
    "document",
    [SERVE | {"completed": 170}, SGLANG | {"completed": 41, "errors": [""] * 40}],
    ids=["vllm", "sglang"],
)
def test_more_requests_completed_than_were_sent_are_refused(call, tmp_path, document):
    write(tmp_path / "x.json", document)
    code, _, err = call("import", "x.json")
    assert code == 4
    assert "x.json: " in err
    assert "requests were completed, more than the" in err
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("document", "metric", "contradicted"),
    [
        (SERVE, "output_throughput", {"duration": 100.0}),
        (SGLANG, "output_throughput", {"duration": 200.0}),
        (THROUGHPUT, "total_token_throughput", {"elapsed_time": 100.0}),
        (INFERENCE_PERF, "output_throughput", {"benchmark_time_seconds": 105.0}),
        (AIPERF, "output_throughput", {"benchmark_duration": {"unit": "sec", "avg": 100.0}}),
    ],
    ids=["vllm serve", "sglang", "vllm throughput", "inference-perf", "aiperf"],
)
def test_a_throughput_that_tokens_and_duration_contradict_can_fail_and_not_pass(
    call, three, judged, tmp_path, document, metric, contradicted
):
    code, verdicts = judged(three("sound", document), three("doubtful", document | contradicted))
    assert (code, verdicts[metric]["verdict"]) == (2, "incomparable")
    assert re.fullmatch(rf"doubtful0.json: {metric} of \d+ per s contradicts \d+ (output )?tokens in \d+ s \(.*\)",
                        verdicts[metric]["reason"])  # fmt: skip
    assert f"doubtful0.json: {metric} of " in call("import", "doubtful0.json")[1]
    shutil.rmtree(tmp_path / "baselines")
    code, verdicts = judged(three("doubtful", document | contradicted), three("sound", document))
    assert (code, verdicts[metric]["verdict"]) == (2, "incomparable")
    assert verdicts[metric]["reason"].startswith("the baseline: doubtful0.json")


def test_a_doubtful_throughput_that_is_lower_is_a_regression(three, judged):
    code, verdicts = judged(three("old", SERVE), three("new", SERVE | {"output_throughput": 320.0}))
    assert (code, verdicts["output_throughput"]["verdict"]) == (1, "regressed")


def test_a_doubtful_rate_that_is_judged_on_request_does_not_pass(call, three):
    for name, document in (("old", SERVE), ("new", SERVE | {"request_throughput": 20.0})):
        assert call("import", *three(name, document), "--as", "chat", "-o", f"{name}.res")[0] == 0
    code, out, _ = call("compare", "old.res", "new.res", "--metric", "request_throughput", "--json")
    assert (code, json.loads(out)["results"][0]["verdict"]) == (2, "incomparable")
    assert call("compare", "old.res", "new.res")[0] == 0  # by default, another rate is judged


def test_a_point_of_a_sweep_that_its_own_file_contradicts_does_not_pass(call, tmp_path):
    def lay(day, **wrong):
        for launch in range(2):
            for size in (1, 2, 4):
                fields = {"max_concurrency": size, "date": f"202611{day:02d}-15000{launch}", "mean_itl_ms": 5.0 + size}
                fields |= at_rate(100.0 * size) | (wrong if size == 2 else {})
                write(tmp_path / f"{day}-{launch}/{size}.json", SERVE | fields)
        return [f"{day}-{launch}" for launch in range(2)]

    assert call("import", *lay(1), "--as", "sweep", "--save", "main")[0] == 0
    assert call("import", *lay(2, duration=10.0), "--as", "sweep", "-o", "new.res")[0] == 0
    code, out, _ = call("compare", "baselines", "new.res", "--json")
    (sweep,) = [row for row in json.loads(out)["results"] if row["id"] == "sweep"]
    assert (code, sweep["verdict"]) == (2, "incomparable")
    assert "contradicts 6400 output tokens in 10 s" in json.dumps(sweep)


def test_a_run_limited_by_time_that_ends_fewer_requests_is_judged_by_its_throughput(lay, judged):
    """GuideLLM sends for a time, so that the number of requests is a result and no part of the work."""

    def run(share, rates):
        changed = json.loads(json.dumps(GUIDELLM))
        for benchmark in changed["benchmarks"]:
            metrics = benchmark["metrics"]
            metrics["request_totals"]["successful"] = round(30 * share)
            for name in ("requests_per_second", "output_tokens_per_second", "tokens_per_second"):
                metrics[name]["successful"]["mean"] *= rates
            for name in ("prompt_token_count", "output_token_count"):
                metrics[name]["successful"]["total_sum"] *= share
        return changed

    shorter = judged(lay("old", run(1, 1)), lay("new", run(0.5, 1)))
    assert shorter[0] == 0
    assert {row["verdict"] for row in shorter[1].values()} == {"same"}
    slower = judged(lay("old", run(1, 1)), lay("new", run(0.5, 0.5)))
    assert (slower[0], slower[1]["output_throughput"]["verdict"]) == (1, "regressed")


ARGS, SPEC = GUIDELLM["args"], {"data": GUIDELLM["args"]["data"]}
ENDPOINTS = {
    "0.4 to 0.6": lambda name: {"args": ARGS | {"data_request_formatter": name}},
    "0.6": lambda name: {"args": ARGS | {"backend_kwargs": {"request_format": name}}},
    "0.7": lambda name: {
        "args": {}, "config": {"spec": SPEC | {"backend": {"kind": "openai_http", "request_format": name}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", ENDPOINTS.values(), ids=ENDPOINTS)
def test_guidellm_over_another_endpoint_is_other_work(lay, judged, layout):
    chat = GUIDELLM | layout("chat_completions")
    code, verdicts = judged(lay("chat", chat), lay("text", GUIDELLM | layout("/v1/completions")))
    assert code == 2
    assert all("request_format none → completions" in row["reason"] for row in verdicts.values())
    code, verdicts = judged(lay("chat", chat), lay("same", GUIDELLM | layout("/v1/chat/completions")))
    assert (code, {row["verdict"] for row in verdicts.values()}) == (0, {"same"})


def test_starts_have_one_id_whichever_kinds_a_file_holds(call, tmp_path):
    """A file of warm starts alone was compared with a baseline of cold ones."""
    warm = {name: value for name, value in STARTUP.items() if "cold" not in name}
    write(tmp_path / "both.json", STARTUP)
    write(tmp_path / "warm.json", warm)
    for options, kept in (((), "vllm bench startup::{}[start={}]"), (("--as", "start"), "start::start={1}")):
        for file, kinds in (("both", ("cold", "warm")), ("warm", ("warm",))):
            assert call("import", f"{file}.json", *options)[0] == 0
            ids = [result.id for result in load_results(tmp_path / "results.json").results]
            assert ids == [kept.format(file, kind) for kind in kinds]


def test_answers_shorter_than_a_sweep_asked_for_are_named(call, tmp_path):
    for length, came in ((64, 64), (128, 80)):
        rate = {"total_output_tokens": 100 * came, "duration": 100 * came / 640}
        row = SERVE | rate | {"random_output_len": length, "request_throughput": 64000 / (100 * came)}
        write(tmp_path / f"exp/BENCH--random_output_len={length}/run=0.json", row)
    code, out, _ = call("import", "exp")
    assert code == 0
    assert "answers are shorter than asked: 8000 of 12800 output tokens" in out
    assert out.count("answers are shorter") == 1


def test_a_wrong_value_of_an_option_is_one_line(call, capsys):
    with pytest.raises(SystemExit, match="4"):
        call("import", "x.json", "--batch", "1e9")
    said = "slmperf import: argument --batch: must be a positive whole number, not '1e9'\n"
    assert capsys.readouterr().err == said


def test_a_run_over_a_whole_data_set_says_no_number_and_is_no_contradiction(call, three, judged, tmp_path):
    """``vllm bench serve --num-prompts -1`` sends all that a data set of its user holds, and writes the -1."""
    whole = SERVE | {"num_prompts": -1, "latencies": [0.1], "queue_times": [0.0], "rps_change_events": []}
    code, verdicts = judged(three("old", whole), three("new", whole))
    assert (code, {row["verdict"] for row in verdicts.values()}) == (0, {"same"})
    (result,) = load_results(tmp_path / "new.res").results
    assert "300 completed, 0 failed, 9600 input tokens, 19200 output tokens" in result.notes
    assert not [note for note in result.notes if "queue_times" in note]
    fewer = {"completed": 50, "total_input_tokens": 1600, "total_output_tokens": 3200, "duration": 5.0}
    code, verdicts = judged(three("old", whole), three("new", whole | fewer))
    assert code == 2
    assert "requests 100 → 50" in verdicts["ttft_p50"]["reason"]


WHOLE = {name: value for name, value in SERVE.items() if not name.endswith("_ms")} | {"median_e2el_ms": 990.0}


def test_a_latency_of_whole_answers_is_judged_where_a_file_has_no_other(three, judged):
    """As with --percentile-metrics e2el: three times as long was the same."""
    code, verdicts = judged(three("old", WHOLE), three("new", WHOLE))
    assert (code, {name: row["verdict"] for name, row in verdicts.items()}) == (
        0,
        {"output_throughput": "same", "e2el_p50": "same"},
    )
    code, verdicts = judged(three("old", WHOLE), three("new", WHOLE | {"median_e2el_ms": 2970.0}))
    assert (code, verdicts["e2el_p50"]["verdict"]) == (1, "regressed")
    code, verdicts = judged(three("old", WHOLE), three("new", SERVE))
    assert code == 2
    assert verdicts["ttft_p50"]["verdict"] == "incomparable"


def test_a_file_without_any_latency_says_that_its_throughput_alone_is_judged(call, tmp_path):
    """Of times in other units, for instance, which are not guessed."""
    write(
        tmp_path / "x.json",
        {name: value for name, value in WHOLE.items() if name != "median_e2el_ms"} | {"mean_ttft_s": 0.03},
    )
    code, out, _ = call("import", "x.json")
    assert code == 0
    assert "x.json: holds no latency that is known; its throughput alone is judged" in out


@pytest.mark.parametrize("field", ["max_concurrency", "request_rate"])
def test_a_load_that_cannot_have_been_asked_for_is_refused(call, tmp_path, field):
    """A find of the fuzzer: it was imported, and could not be compared with itself."""
    write(tmp_path / "x.json", SERVE | {field: -1})
    code, _, err = call("import", "x.json")
    assert code == 4
    assert f"x.json: {field} is -1, and must not be negative" in err
    assert not (tmp_path / "results.json").exists()


def test_results_of_one_id_name_their_files(call, tmp_path):
    """A find of the fuzzer: the same setting as a text and as a truth value."""
    point = {
        "hw": "b200", "tp": 2, "is_multinode": False, "conc": 32, "model": "m", "framework": "sglang", "precision": "fp8",
        "isl": 1024, "osl": 512, "tput_per_gpu": 300.0, "output_tput_per_gpu": 100.0, "mean_ttft": 0.2, "median_ttft": 0.18,
    }  # fmt: skip
    write(tmp_path / "a.json", point | {"disagg": False})
    write(tmp_path / "b.json", point | {"disagg": "False", "max_concurrency": 3})
    code, _, err = call("import", "a.json", "b.json", "--as", "chat")
    assert code == 4
    assert "a.json, b.json: two of the results have the id 'chat::disagg=False'" in err
