"""Whatever stands in a file's fields ends in a record or in one line that names the file and the field."""

import json

import pytest
from support.result_files import LATENCY, SERVE, THROUGHPUT
from test_vllm_bench import sweep_folder, write

WRONG = [
    "null", '"x"', "[]", "[1]", "[null]", '{"a": 1}', "true", "-1", "NaN", "Infinity", "1e999", "1" + "0" * 400, "[NaN]",
    '"\\ud800"', "",
]  # fmt: skip


def with_value(run, name, value):
    """The run as JSON text with the field's value as given, which JSON's own writer would refuse; absent where empty."""
    text = json.dumps({key: own for key, own in run.items() if key != name})
    return f"{text[:-1]}, {json.dumps(name)}: {value}}}" if value else text


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("run", [SERVE, LATENCY, THROUGHPUT], ids=["serve", "latency", "throughput"])
def test_no_value_of_a_field_ends_in_a_traceback(call, tmp_path, run, value):
    write(tmp_path / "exp/a/run=0.json", run | {"max_num_seqs": 7})
    for name in run:
        broken = with_value(run, name, value)
        write(tmp_path / "x.json", broken)
        write(tmp_path / "exp/b/run=0.json", broken)
        for source, file in (("x.json", "x.json"), ("exp", "exp/b/run=0.json")):
            code, _, err = call("import", source, "--output-len", 8, "--csv", "points.csv")
            assert (code, err) == (0, "") or (code == 4 and len(err.splitlines()) == 1 and f"{file}: " in err), name


@pytest.mark.parametrize(
    ("run", "name", "value", "words"),
    [
        (LATENCY, "latencies", "null", "is null, not a list of positive times"),
        (LATENCY, "latencies", "3", "is 3, not a list of positive times"),
        (LATENCY, "latencies", "[0.5, 0]", "is [0.5, 0], not a list of positive times"),
        (THROUGHPUT, "requests_per_second", "", "is missing, which vllm bench throughput writes"),
        (THROUGHPUT, "tokens_per_second", "null", "is null, not a finite number"),
        (SERVE, "failed", '"x"', 'is "x", not a whole number'),
        (SERVE, "failed", "[1]", "is [1], not a whole number"),
        (SERVE, "mean_ttft_ms", '"fast"', 'is "fast", not a finite number'),
        (SERVE, "num_prompts", "[1]", "is [1], not a word or a finite number"),
    ],
)
def test_the_message_names_file_field_and_mend(call, tmp_path, run, name, value, words):
    write(tmp_path / "x.json", with_value(run, name, value))
    code, _, err = call("import", "x.json")
    assert code == 4
    assert err.startswith(f"slmperf import: x.json: field {name!r} {words}")
    assert err.endswith("; measure it again, or leave the file out\n")


def test_in_folders_and_lists_the_message_names_the_file_inside(call, tmp_path):
    sweep_folder(tmp_path / "exp")
    summary = tmp_path / "exp/SERVE--max_num_seqs=8/summary.json"
    rows = json.loads(summary.read_text())
    rows[2]["output_throughput"] = "fast"
    write(summary, rows)
    assert "exp/SERVE--max_num_seqs=8/summary.json, run 2: field 'output_throughput'" in call("import", "exp")[2]
    write(tmp_path / "plain/a.json", SERVE | {"failed": "x"})
    assert "plain/a.json: field 'failed'" in call("import", "plain")[2]


def test_an_empty_file_is_not_told_to_be_a_baseline(call, tmp_path):
    write(tmp_path / "x.json", "")
    code, _, err = call("import", "x.json")
    assert (code, "version control" in err) == (4, False)
    assert "x.json: the file is empty; vllm bench was perhaps stopped before it wrote it" in err


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000, '{"model_id": "\\ud800"}'])
def test_json_that_python_cannot_hold(call, tmp_path, content):
    write(tmp_path / "x.json", content)
    code, _, err = call("import", "x.json")
    assert (code, len(err.splitlines())) == (4, 1)
    assert "x.json: " in err


def test_a_latency_of_0_is_no_reading(call, tmp_path):
    from pytest_slmperf.model.results_file import load_results

    write(tmp_path / "x.json", SERVE | {"mean_itl_ms": 0.0})  # as vLLM writes it where answers have one token
    assert call("import", "x.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert "itl_mean" not in result.metrics
    assert result.metrics["itl_p50"].value == 19
