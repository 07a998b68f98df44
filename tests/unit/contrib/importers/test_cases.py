"""Files on which an earlier version gave a wrong verdict; each stands for a kind (cases/, numbers of public files)."""

import json
import shutil
from pathlib import Path

import pytest
from support.result_files import SERVE, SGLANG, THROUGHPUT
from test_vllm_bench import write

from pytest_slmperf.model.results_file import load_results

CASES = Path(__file__).parent / "cases"


@pytest.fixture
def case(tmp_path):
    """``case(NAME)`` lays the files of a case into the current folder."""

    def lay(name):
        for path in (CASES / name).iterdir():
            shutil.copy(path, tmp_path)

    return lay


def names(prefix, count):
    return [f"{prefix}{number}.json" for number in range(count)]


def test_a_ttft_three_times_as_long_is_a_regression(case, judged):
    case("ttft-tripled")
    code, verdicts = judged(names("old", 3), names("new", 3))
    assert code == 1
    assert {name: one["verdict"] for name, one in verdicts.items()} == {
        "output_throughput": "same",
        "ttft_p50": "regressed",
        "tpot_p50": "regressed",
    }
    assert verdicts["ttft_p50"]["change"] == pytest.approx(2.0, abs=0.01)
    assert verdicts["tpot_p50"]["change"] == pytest.approx(1.0, abs=0.01)


def test_requests_that_did_not_complete_failed_and_their_latencies_are_never_green(case, judged, tmp_path):
    case("failed-without-field")
    code, verdicts = judged(names("monday-", 4), names("tuesday-", 4))
    assert code == 2
    assert verdicts["ttft_p50"]["verdict"] == verdicts["tpot_p50"]["verdict"] == "incomparable"
    assert "160 requests failed" in verdicts["ttft_p50"]["reason"]
    (result,) = load_results(tmp_path / "new.res").results
    assert "640 requests sent, 480 completed, 160 failed, 2400000 input tokens, 120000 output tokens" in result.notes


def test_latencies_twice_as_long_at_the_same_throughput_regress(case, judged):
    case("failed-without-field")
    code, verdicts = judged(names("monday-", 4), names("slow-", 4))
    assert code == 1
    assert verdicts["ttft_p50"]["verdict"] == verdicts["tpot_p50"]["verdict"] == "regressed"
    assert verdicts["ttft_p50"]["change"] == pytest.approx(1.0, abs=0.01)


def test_answers_of_other_lengths_are_other_work(case, judged):
    case("lengths-differ")
    code, verdicts = judged(names("long", 3), names("short", 3))
    assert code == 2
    assert {one["verdict"] for one in verdicts.values()} == {"incomparable"}
    reason = verdicts["output_throughput"]["reason"]
    assert "input_tokens_per_request 8000 → 5000" in reason
    assert "output_tokens_per_request 1000 → 250" in reason


def test_answers_of_other_lengths_are_no_launches_of_one_result(case, call, tmp_path):
    case("lengths-differ")
    assert call("import", *names("long", 3), *names("short", 3), "--as", "chat")[0] == 0
    found = {
        result.scenario["output_tokens_per_request"]: len(result.metrics["output_throughput"].launches)
        for result in load_results(tmp_path / "results.json").results
        if result.scenario["kind"] == "serving"
    }
    assert found == {1000: 3, 250: 3}


def test_what_the_rust_client_measures_is_no_setting(case, judged):
    case("rust-client")
    code, verdicts = judged(names("old", 3), names("new", 3))
    assert code == 1
    assert verdicts["output_throughput"]["verdict"] == "regressed"
    assert verdicts["output_throughput"]["change"] == pytest.approx(-0.5, abs=0.01)


def test_answers_shorter_than_asked_are_counted_and_are_other_work(call, tmp_path, judged):
    """Of 64 tokens asked for, an engine that ends at its own end token gives 40."""
    for number in range(2):
        write(tmp_path / f"full{number}.json", SERVE | {"date": f"20261101-15000{number}"})
        write(
            tmp_path / f"cut{number}.json",
            SERVE | {"date": f"20261102-15000{number}", "total_output_tokens": 4000, "output_throughput": 400.0},
        )
    assert call("import", *names("cut", 2), "--as", "chat", "--output-len", 64)[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert any("answers are shorter than asked: 4000 of 6400 output tokens" in note for note in result.notes)
    code, verdicts = judged(names("full", 2), names("cut", 2))
    assert code == 2
    assert "output_tokens_per_request 64 → 40" in verdicts["output_throughput"]["reason"]


def test_withheld_latencies_are_incomparable_with_those_of_a_sound_run_on_either_side(case, call):
    """Neither `new` nor green: how long the requests took is not known, and the verdict says why."""
    case("failed-without-field")
    for name in ("tuesday", "monday"):
        assert call("import", *names(f"{name}-", 4), "--as", "chat", "-o", f"{name}.res")[0] == 0
    code, out, _ = call("compare", "tuesday.res", "monday.res", "--json")
    assert code == 2
    verdicts = {row["metric"]: row for row in json.loads(out)["results"][0]["verdicts"]}
    assert verdicts["output_throughput"]["verdict"] == "same"
    for metric in ("ttft_p50", "tpot_p50"):
        assert verdicts[metric]["verdict"] == "incomparable"
        assert "the baseline has no reading of this metric: 160 requests failed" in verdicts[metric]["reason"]


def test_two_runs_of_equally_short_answers_are_compared_and_named(call, judged, tmp_path):
    """They did the same work, which is not the work that was asked for."""
    for name, speed in (("old", 400.0), ("new", 200.0)):
        for number in range(3):
            run = {"date": f"20261101-15000{number}", "total_output_tokens": 4000, "output_throughput": speed + number}
            write(tmp_path / f"{name}{number}.json", SERVE | run)
    assert call("import", *names("old", 3), "--as", "chat", "--output-len", 64)[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert sum("4000 of 6400 output tokens" in note for note in result.notes) == 3
    code, verdicts = judged(names("old", 3), names("new", 3))
    assert (code, verdicts["output_throughput"]["verdict"]) == (1, "regressed")


def test_lengths_that_differ_a_little_are_one_work(judged, tmp_path):
    for number, tokens in enumerate((6400, 6420, 6390)):
        write(tmp_path / f"old{number}.json", SERVE | {"date": f"20261101-15000{number}"})
        run = SERVE | {
            "date": f"20261102-15000{number}",
            "total_output_tokens": tokens,
            "output_throughput": 640.0 + number,
        }
        write(tmp_path / f"new{number}.json", run)
    code, verdicts = judged(names("old", 3), names("new", 3))
    assert (code, verdicts["output_throughput"]["verdict"]) == (0, "same")


@pytest.mark.parametrize(
    ("rates", "counts", "swept"),
    [
        ((1.0, 31.4, 61.79, 92.19), (60, 1884, 3707, 5531), True),  # the requests of 60 s, as a public sweep has them
        ((1.0, 31.4, 61.79, 92.19), (60, 1884, 3709, 5531), False),
        ((1.0, 2.0, 3.0, 4.0), (1, 1, 2, 2), False),
    ],
)
def test_requests_of_a_time_at_a_rate_are_in_lockstep_though_they_are_rounded(call, tmp_path, rates, counts, swept):
    for rate, count in zip(rates, counts, strict=True):
        fields = {"request_rate": rate, "num_prompts": count, "completed": count, "total_input_tokens": 32 * count,
                  "total_output_tokens": 64 * count, "output_throughput": 64 * rate, "mean_itl_ms": 5.0 + rate}  # fmt: skip
        write(tmp_path / f"exp/{rate}.json", SERVE | fields)
    code, out, _ = call("import", "exp")
    assert (code, "4 sweep points" in out, "num_prompts and request_rate differ" in out) == (0, swept, not swept)


def test_settings_in_lockstep_are_one_sweep_and_stand_in_the_ids(call, tmp_path):
    for concurrency in (1, 4, 16):
        fields = {"max_concurrency": concurrency, "num_prompts": 10 * concurrency, "completed": 10 * concurrency,
                  "total_input_tokens": 320 * concurrency, "total_output_tokens": 640 * concurrency,
                  "output_throughput": 100.0 * concurrency**0.5, "mean_itl_ms": 5.0 + concurrency}  # fmt: skip
        write(tmp_path / f"exp/c{concurrency}/result.json", SERVE | fields)
    code, out, _ = call("import", "exp", "--as", "exp")
    assert (code, "3 sweep points" in out) == (0, True)
    *settings, sweep = load_results(tmp_path / "results.json").results
    assert sweep.scenario["key"] == "max_concurrency"
    assert sweep.scenario["keys"] == [1, 4, 16]
    assert {one.id for one in settings} == {
        f"exp::c={concurrency}, max_concurrency={concurrency}, num_prompts={10 * concurrency}"
        for concurrency in (1, 4, 16)
    }


def test_a_folder_a_setting_gives_the_setting_that_no_file_says(call, tmp_path):
    for size in (1, 2, 4):
        write(
            tmp_path / f"exp/tp={size}/result.json",
            SERVE | {"output_throughput": 100.0 * size, "duration": 10.0 + size},
        )
    assert call("import", "exp")[0] == 0
    *settings, sweep = load_results(tmp_path / "results.json").results
    assert (sweep.scenario["key"], sweep.scenario["keys"]) == ("tp", [1, 2, 4])
    assert [one.id for one in settings] == [f"vllm bench serve::tp={size}" for size in (1, 2, 4)]


def test_runs_of_one_file_are_named_by_their_setting(call, tmp_path):
    write(tmp_path / "all.json", [SERVE | {"max_concurrency": n, "date": f"20261101-15000{n}"} for n in (1, 2)])
    assert call("import", "all.json")[0] == 0
    ids = [result.id for result in load_results(tmp_path / "results.json").results]
    assert ids == ["vllm bench serve::all[max_concurrency=1]", "vllm bench serve::all[max_concurrency=2]"]


def test_a_result_with_nothing_to_judge_is_refused_by_name(call, tmp_path):
    bare = {name: SERVE[name] for name in ("date", "model_id", "num_prompts", "completed", "duration")}
    write(tmp_path / "x.json", bare | {"request_throughput": None})
    code, _, err = call("import", "x.json")
    assert code == 4
    assert err.startswith("slmperf import: x.json: holds none of output_throughput, ttft_p50, ttft_mean, tpot_p50")
    assert not (tmp_path / "results.json").exists()


def test_fields_that_nobody_knows_are_listed_and_tell_nothing_apart(call, tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.json", SERVE | {"date": f"20261101-15000{number}", "novel": number})
    assert call("import", "0.json", "1.json", "--as", "chat")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert len(result.metrics["output_throughput"].launches) == 2
    assert "fields that are not known and were left out: novel" in result.notes


def test_a_baseline_with_withheld_latencies_leaves_those_of_a_sound_run_undecided(case, judged):
    case("failed-without-field")
    code, verdicts = judged(names("tuesday-", 4), names("monday-", 4))
    assert code == 2
    for metric in ("ttft_p50", "tpot_p50"):  # the stored baseline keeps the reason
        assert verdicts[metric]["verdict"] == "incomparable"
        assert "the baseline has no reading of this metric: 160 requests failed" in verdicts[metric]["reason"]


def test_several_files_in_the_folder_of_a_setting_are_its_runs(call, tmp_path):
    for concurrency in (1, 8):
        for number in range(2):
            date, speed = f"20261101-15000{number}", 100.0 * concurrency
            fields = {"max_concurrency": concurrency, "date": date, "output_throughput": speed}
            write(tmp_path / f"exp/c{concurrency}/{number}.json", SERVE | fields)
    assert call("import", "exp")[0] == 0
    *settings, sweep = load_results(tmp_path / "results.json").results
    assert [len(one.metrics["output_throughput"].launches[0]) for one in settings] == [2, 2]
    assert sweep.scenario["keys"] == [1, 8]


def test_what_benchmarks_write_beside_their_results_is_skipped_by_name(call, tmp_path):
    from support.result_files import AIPERF, INFERENCE_PERF, OPTIMUM

    for concurrency in (1, 8):
        config = AIPERF["input_config"] | {"loadgen": {"concurrency": concurrency, "request_count": 50}}
        write(tmp_path / f"aiperf/c{concurrency}/profile_export_aiperf.json", AIPERF | {"input_config": config})
        write(tmp_path / f"aiperf/c{concurrency}/inputs.json", {"data": []})
        write(tmp_path / f"aiperf/c{concurrency}/profile_export.jsonl", {"metadata": {}})
    write(tmp_path / "optimum/benchmark.json", OPTIMUM)
    write(tmp_path / "optimum/benchmark_report.json", OPTIMUM["report"])
    write(tmp_path / "optimum/benchmark_config.json", OPTIMUM["config"])
    for stage in (0, 1):
        load = INFERENCE_PERF["load_summary"] | {"requested_rate": 1.0 + stage}
        write(tmp_path / f"perf/stage_{stage}_lifecycle_metrics.json", INFERENCE_PERF | {"load_summary": load})
    write(tmp_path / "perf/summary_lifecycle_metrics.json", INFERENCE_PERF)
    write(tmp_path / "perf/per_request_lifecycle_metrics.json", [{"request": ""}])
    write(tmp_path / "perf/stage_0_prometheus_metrics.json", {"load_summary": {}, "successes": {"count": 9}})
    code, _, err = call("import", "aiperf", "optimum", "perf")
    assert code == 0
    assert len(err.splitlines()) == 9
    results = load_results(tmp_path / "results.json").results
    assert [one.scenario.get("keys") for one in results if one.scenario["kind"] == "sweep"] == [[1, 8], [1.0, 2.0]]
    assert len(results) == 2 + 1 + 1 + 2 + 1


def test_a_run_without_tokens_is_judged_by_its_requests(call, tmp_path):
    """``vllm bench serve --backend openai-embeddings`` writes neither output tokens nor their times."""
    fields = ("date", "model_id", "num_prompts", "completed", "duration", "total_input_tokens", "request_throughput")
    embeddings = {name: SERVE[name] for name in fields} | {"mean_e2el_ms": 20.0, "median_e2el_ms": 19.0}
    write(tmp_path / "x.json", embeddings | {"total_token_throughput": 320.0})
    assert call("import", "x.json", "--save", "main")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert {name for name, value in result.metrics.items() if value.gate} == {"total_token_throughput", "e2el_p50"}


def test_many_runs_in_one_file_are_results_of_their_own(call, tmp_path):
    runs = [SERVE | {"max_concurrency": number + 1, "date": None} for number in range(300)]
    write(tmp_path / "all.jsonl", "\n".join(map(json.dumps, runs)))
    code, out, _ = call("import", "all.jsonl")
    assert (code, "300 results" in out) == (0, True)


def three_quarters(document):
    """The document with a quarter of its requests gone, at the same rates: what is left when they fail early."""
    counts = ("completed", "total_input_tokens", "total_output_tokens")
    return document | {name: document[name] * 3 // 4 for name in counts}


@pytest.mark.parametrize(
    "document",
    [SGLANG, {name: value for name, value in SERVE.items() if name not in ("num_prompts", "failed")}],
    ids=["sglang", "vllm without num_prompts"],
)
def test_fewer_requests_are_other_work_where_a_file_does_not_say_how_many_were_sent(three, judged, document):
    code, verdicts = judged(three("old", document), three("new", three_quarters(document)))
    whole, left = document["completed"], document["completed"] * 3 // 4
    assert code == 2
    assert {row["verdict"] for row in verdicts.values()} == {"incomparable"}
    assert all(f"requests {whole} → {left}" in row["reason"] for row in verdicts.values())


def test_a_rate_of_nothing_is_no_reading_and_does_not_silence_the_others(three, judged):
    code, verdicts = judged(three("old", SERVE), three("new", SERVE | {"output_throughput": 0.0}))
    assert code == 2
    assert {name: row["verdict"] for name, row in verdicts.items()} == {
        "output_throughput": "incomparable",
        "ttft_p50": "same",
        "tpot_mean": "same",
    }


def test_a_time_that_rounding_put_below_0_is_0_and_no_reading(call, three, judged, tmp_path):
    """SGLang's time per token of answers that came in one piece."""
    whole = SGLANG | {"median_tpot_ms": -0.0, "mean_tpot_ms": -1.2e-13}
    judged(three("old", whole), three("new", whole))
    (result,) = load_results(tmp_path / "new.res").results
    assert "tpot_p50" not in result.metrics
    write(tmp_path / "x.json", SGLANG | {"median_tpot_ms": -0.5})
    assert call("import", "x.json")[0] == 4


def test_a_number_and_its_text_are_one_setting(call, tmp_path):
    for number, streams in enumerate((8, "8", 8.0)):
        write(tmp_path / f"{number}.json", SGLANG | {"max_concurrency": streams, "duration": 20.0 + number / 100})
    assert call("import", *(f"{number}.json" for number in range(3)), "--as", "chat")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert (result.id, len(result.metrics["output_throughput"].launches)) == ("chat", 3)


def test_a_throughput_of_nothing_is_not_judged_by_another_rate(three, judged):
    code, verdicts = judged(three("old", THROUGHPUT), three("new", THROUGHPUT | {"tokens_per_second": 0}))
    assert (code, [row["verdict"] for row in verdicts.values()]) == (2, ["incomparable"])


def test_embeddings_of_sglang_are_judged_by_what_they_have(call, three, judged):
    """Their file holds rates and times of tokens that nobody asked for, all 0."""
    nothing = {name: 0.0 for name in SGLANG if "ttft" in name or "tpot" in name or "itl" in name}
    embeddings = SGLANG | nothing | {
        "backend": "sglang-embedding", "total_output_tokens": 0, "output_throughput": 0.0, "total_throughput": 256.0,
    }  # fmt: skip
    slower = embeddings | {"mean_e2e_latency_ms": 1800.0, "median_e2e_latency_ms": 1760.0}
    code, verdicts = judged(three("old", embeddings), three("new", slower))
    assert code == 1
    assert {name: row["verdict"] for name, row in verdicts.items()} == {
        "total_token_throughput": "same",
        "e2el_p50": "regressed",
    }
    assert "shorter than asked" not in call("import", "old0.json")[1]


def test_one_and_one_point_zero_are_one_setting(call, tmp_path):
    for number, burstiness in enumerate((1, 1.0)):
        write(tmp_path / f"{number}.json", SERVE | {"burstiness": burstiness, "duration": 20.0 + number})
    assert call("import", "0.json", "1.json", "--as", "chat")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert len(result.metrics["ttft_p50"].launches) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--csv", "a.json"], "--csv a.json: is an input of this import"),
        (["--csv", "r.json", "-o", "r.json"], "--csv r.json: is the results file of this import"),
        (["--save", ""], "baseline name ''"),
        (["--save", "a/b"], "baseline name 'a/b'"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_anything_is_written(call, tmp_path, options, words):
    text = write(tmp_path / "a.json", SERVE).read_text()
    code, out, err = call("import", "a.json", *options)
    assert (code, out, len(err.splitlines())) == (4, "", 1)
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == text


def of_concurrency(document, number, share=1.0):
    """The document at another concurrency, with a share of its requests completed."""
    counts = ("completed", "total_input_tokens", "total_output_tokens")
    return document | {"max_concurrency": number} | {name: int(document[name] * share) for name in counts}


@pytest.mark.parametrize(
    ("document", "share"), [(SERVE, 0.0), (SGLANG, 0.0), (SGLANG, 0.75)], ids=["vllm", "sglang", "sglang, a part"]
)
def test_failed_requests_of_one_setting_do_not_rename_the_others(call, three, document, share):
    slow = document | {"mean_ttft_ms": 3 * document["mean_ttft_ms"], "median_ttft_ms": 3 * document["median_ttft_ms"]}
    old = [*three("a", of_concurrency(document, 8)), *three("b", of_concurrency(document, 16))]
    new = [*three("c", of_concurrency(slow, 8)), *three("d", of_concurrency(document, 16, share))]
    assert call("import", *old, "--as", "chat", "-o", "old.res")[0] == 0
    assert call("import", *new, "--as", "chat", "-o", "new.res")[0] == 0
    code, out, _ = call("compare", "old.res", "new.res", "--json")
    rows = {row["id"]: {one["metric"]: one["verdict"] for one in row["verdicts"]} for row in json.loads(out)["results"]}
    assert code == 1
    assert rows["chat::max_concurrency=8"]["ttft_p50"] == "regressed"
    assert set(rows["chat::max_concurrency=16"].values()) == {"incomparable"}
