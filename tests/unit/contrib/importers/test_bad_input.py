"""Bad input ends in one line that names the file and the field, with exit code 4 and nothing stored."""

import json

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
)
from test_vllm_bench import write

from pytest_slmperf.contrib.importers import files


def text(document, **changes):
    """The document as JSON text, values of fields as given (``NaN`` for instance)."""
    kept = {name: value for name, value in document.items() if name not in changes}
    rows = [f"{json.dumps(name)}: {value}" for name, value in changes.items()]
    return f"{json.dumps(kept)[:-1]}, {', '.join(rows)}}}"


BAD = {
    "empty": ("", "the file is empty"),
    "blank": ("  \n", "the file is empty"),
    "cut": (json.dumps(SERVE)[:-40], "not valid JSON"),
    "nan": (text(SERVE, output_throughput="NaN"), "field 'output_throughput' is NaN, not a finite number"),
    "infinite": (text(SERVE, mean_ttft_ms="Infinity"), "field 'mean_ttft_ms' is Infinity, not a finite number"),
    "overflow": (text(SERVE, duration="1e999"), "field 'duration' is Infinity"),
    "negative duration": (text(SERVE, duration="-10.0"), "field 'duration' is -10.0, not a finite number of at least 0"),
    "no duration": (text(SERVE, duration="0"), "field 'duration' is 0, not a positive number of seconds"),
    "negative time": (text(SERVE, mean_tpot_ms="-1"), "field 'mean_tpot_ms' is -1"),
    "text for a number": (text(SERVE, output_throughput='"640"'), "field 'output_throughput' is \"640\""),
    "text for a count": (text(SERVE, num_prompts='"100"'), "field 'num_prompts' is \"100\", not a whole number"),
    "half a request": (text(SERVE, completed="99.5"), "field 'completed' is 99.5, not a whole number"),
    "long integer": (text(SERVE, total_output_tokens="1" + "0" * 100_000), "number of thousands of digits"),
    "integer beyond floats": (text(SERVE, total_output_tokens="1" + "0" * 400), "field 'total_output_tokens'"),
    "beyond all readings": (text(SERVE, mean_ttft_ms="1e300"), "field 'mean_ttft_ms' is 1e+300, not a finite number"),
    "a time of nothing": (text(LATENCY, latencies="[1e-300]"), "field 'latencies' is [1e-300], not a list of positive"),
    "twice": (json.dumps(SERVE)[:-1] + ', "failed": 3}', "field 'failed' stands twice in one object"),
    "deep": ("[" * 100_000, "not valid JSON"),
    "list of lists": ("[[1]]", "holds no result object"),
    "unknown": ('{"hello": 1}', "not a result of vllm bench"),
    "guidellm without benchmarks": ('{"benchmarks": []}', "field 'benchmarks' is empty"),
    "guidellm nan": (json.dumps(GUIDELLM).replace("64.0", "NaN"), "field 'benchmarks[0].metrics.output_token"),
    "aiperf text": (text(AIPERF, request_count='"50"'), "field 'request_count' is \"50\", not an object"),
    "inference-perf": (text(INFERENCE_PERF, failures='{"count": -1}'), "field 'failures.count' is -1"),
    "inferencex": (text(INFERENCEX, tput_per_gpu="-1"), "field 'tput_per_gpu' is -1"),
    "optimum": (json.dumps(OPTIMUM).replace("0.2", "-0.2"), "field 'report.prefill.latency.values'"),
    "sglang": (text(SGLANG, median_ttft_ms="[]"), "field 'median_ttft_ms' is []"),
    "startup without starts": (text(STARTUP, cold_startup_times="[]", warm_startup_times="null"), "without a run in it"),
    "startup": (text(STARTUP, cold_startup_times="[0]"), "field 'cold_startup_times' is [0]"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=list(BAD))
def test_one_line_names_file_and_field_and_nothing_is_stored(call, tmp_path, content, words):
    write(tmp_path / "x.json", content)
    code, out, err = call("import", "x.json", "--save", "main", "--csv", "p.csv")
    assert (code, out, len(err.splitlines())) == (4, "", 1)
    assert err.startswith("slmperf import: x.json")
    assert words in err
    assert {path.name for path in tmp_path.iterdir()} == {"x.json"}


def test_another_encoding(call, tmp_path):
    (tmp_path / "x.json").write_bytes(json.dumps(SERVE).encode("utf-16"))
    code, _, err = call("import", "x.json")
    assert (code, len(err.splitlines())) == (4, 1)
    assert "x.json: not UTF-8 text" in err


def test_a_file_too_large_is_not_read(call, tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(200 * 2**20)
    code, _, err = call("import", "x.json")
    assert (code, len(err.splitlines())) == (4, 1)
    assert f"200 MiB is more than the {files.MAX_BYTES // 2**20} MiB" in err


def test_folders_without_results(call, tmp_path):
    (tmp_path / "void/deep").mkdir(parents=True)
    (tmp_path / "void/readme.txt").write_text("nothing")
    code, _, err = call("import", "void")
    assert (code, len(err.splitlines())) == (4, 1)
    assert "void: no result file in it" in err


DOCUMENTS = {
    "serve": SERVE, "latency": LATENCY, "throughput": THROUGHPUT, "startup": STARTUP, "sglang": SGLANG,
    "guidellm": GUIDELLM, "aiperf": AIPERF, "inferencex": INFERENCEX, "inference-perf": INFERENCE_PERF, "optimum": OPTIMUM,
}  # fmt: skip
WRONG = [None, "x", [], [1], {"a": 1}, True, -1, float("nan"), float("inf"), 10**400, "\x1b[31m"]


def broken(document, path=()):
    """Every document with one field, at any depth, replaced by something wrong."""
    for name, value in document.items() if isinstance(document, dict) else enumerate(document):
        for wrong in WRONG:
            yield (*path, name), wrong
        if isinstance(value, (dict, list)):
            yield from broken(value, (*path, name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_value_anywhere_in_a_document_ends_in_a_traceback(name, cases):
    from pytest_slmperf.contrib.importers.combinations import Combination
    from pytest_slmperf.contrib.importers.formats import runs_of
    from pytest_slmperf.contrib.importers.result import Origin, Shape, result_of
    from pytest_slmperf.errors import InvalidInput
    from pytest_slmperf.model.results_file import encode

    document = DOCUMENTS[name]
    every = list(broken(document))
    step = cases(1 + len(every) // 2000, 1)  # of a long document some wrong values a field, others for its neighbour
    for path, wrong in every[::step]:
        changed = json.loads(json.dumps(document))
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = wrong
        try:
            for run in runs_of(changed, "x.json", False):
                encode(result_of(Combination("x", [run]), shape=Shape(), origin=Origin()))
        except InvalidInput as refused:
            assert str(refused).startswith("x.json: "), (path, wrong)  # noqa: PT017
