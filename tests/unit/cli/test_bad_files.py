"""What nobody should have to read, for every command and reader that takes a file: one line names it and what to do.

Exit code 4, nothing written; the imports' own list is in ``tests/unit/contrib/importers/test_bad_input.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.sample_results import sample_results

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.results_file import encode
from pytest_slmperf.scenarios.serving_options import scenario as serving

LONG = "1" + "0" * 100_000
RESULTS = encode(sample_results(1)).decode()
TABLE = "batch,tput,itl\n1,100,5\n8,700,6.5\n32,2100,9\n"
TRACE = (
    '{"arrival_time": 0, "input_len": 12, "output_len": 3}\n{"arrival_time": 1.5, "input_len": 8, "output_len": 2}\n'
)


def first(text: str, name: str, value: str) -> str:
    """The JSON text, the first value of that field (no array, no object) as given: ``NaN`` for instance."""
    at = text.index(f'"{name}": ') + len(name) + 4
    end = at + min(map(text[at:].index, ",\n"))
    return f"{text[:at]}{value}{text[end:]}"


BAD_RESULTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the file is empty; "),
    "blank": (" \n", "the file is empty; "),
    "cut": (RESULTS[:-400], "not valid JSON, perhaps cut short"),
    "another tool's": ('{"duration": 3}', "`schema_version`"),
    "two files in one": (RESULTS + RESULTS, "not valid JSON"),
    "nan": (first(RESULTS, "value", "NaN"), "field 'value', holds NaN"),
    "infinity": (first(RESULTS, "t_end", "Infinity"), "field 't_end', holds Infinity"),
    "text for a number": (first(RESULTS, "value", '"12"'), "Expected `float | null`, got `str` - at `$.results[0].metrics"),
    "text for a list": (RESULTS.replace('"launches": [', '"launches": "x", "was": [', 1), "Expected `array`, got `str`"),
    "long integer": (first(RESULTS, "memory_bytes", LONG), "Integer value out of range - at `$.machine"),
    "twice": (RESULTS.replace('"results":', '"results": [], "results":', 1), "field 'results' stands twice in one object"),
    "twice, deep": (RESULTS.replace('"unit":', '"unit": "s", "unit":', 1), "field 'unit' stands twice in one object"),
    "deep": ('{"schema_version": 1, "session": ' + "[" * 100_000, "nested too deeply"),
    "utf-16": (RESULTS.encode("utf-16"), "not UTF-8 text"),
    "latin-1": (first(RESULTS, "id", '"café"').encode("latin-1"), "not UTF-8 text"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD_RESULTS.values(), ids=BAD_RESULTS)
@pytest.mark.parametrize("journal", [False, True], ids=["results", "journal"])
@pytest.mark.parametrize("line", [("compare", "{}", "good.json"), ("compare", "good.json", "{}"), ("report", "{}")],
                         ids=["compare-base", "compare-candidate", "report"])  # fmt: skip
def test_results(command, tmp_path, line, journal, content, words):
    if journal and words.startswith(("two files", "another")):
        pytest.skip("a journal is another format")
    name = "bad.jsonl" if journal else "bad.json"
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.json").write_text(RESULTS)
    run = command(*(word.format(name) for word in line))
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert f"{line[0]}: {name}" in run.err
    if not journal:
        assert words in run.err
    assert {path.name for path in tmp_path.iterdir()} == {name, "good.json"}


BAD_TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the file is empty; it needs a header line"),
    "header only": ("batch,tput,itl\n", "there is a header and no point below it"),
    "json": (RESULTS, "this is JSON; the table must be CSV"),
    "text for a number": (TABLE.replace("700", "fast"), "point 2 (batch 8): 'fast' in column 'tput' is not a number"),
    "two formats": ("batch,tput,itl\n1,100,5\nsize;rate;gap\n8;700;6\n", "line 3 is parted by ';'"),
    "more cells": (TABLE.replace("700", "7,00,1"), "line 3 has 5 cells, the header has 3"),
    "twice": (TABLE.replace("itl", "tput", 1).replace("batch,", "batch,itl,").replace("\n", ",1\n"), "twice"),
    "both decimals": ("batch;tput;itl\n1;100,5;5.25\n", "a decimal comma"),
    "utf-16": (TABLE.encode("utf-16"), "not UTF-8 text"),
    "latin-1": (TABLE.replace("8,700", "é,700").encode("latin-1"), "not UTF-8 text"),
    "binary": (b"\x00\xff" * 50, "not UTF-8 text"),
    "quote left open": ('batch,tput,itl\n1,"100,5\n', "line 2"),
}


@pytest.mark.parametrize(("content", "words"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_tables(command, tmp_path, content, words):
    (tmp_path / "bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    run = command("frontier", "bad.csv", "--key", "batch", "--max", "tput", "--min", "itl")
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert "frontier: bad.csv: " in run.err
    assert words in run.err


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e999", LONG], ids=["nan", "inf", "-inf", "overflow", "long"])
def test_cells_that_are_no_finite_number_drop_their_point_by_name(command, tmp_path, cell):
    (tmp_path / "bad.csv").write_text(TABLE.replace("700", cell))
    run = command("frontier", "bad.csv", "--key", "batch", "--max", "tput", "--min", "itl")
    assert run.code == 0
    assert "frontier: 1, 32 (2 of 2 points)" in run.out
    assert "dropped:  batch 8: " in run.out
    assert len(run.out) < 3000


BAD_TRACES: dict[str, tuple[str | bytes, str, str]] = {
    "empty": ("", "jsonl", "holds no request"),
    "empty table": ("", "csv", "no header line"),
    "header only": ("arrival_time,input_len,output_len\n", "csv", "holds no request"),
    "cut": (TRACE[:-20], "jsonl", "bad.jsonl:2: not JSON"),
    "two formats": (TRACE + "1.5,8,2\n", "jsonl", "bad.jsonl:3: not JSON"),
    "two headers": ("input_len,output_len\n5,6\ninput_len,output_len\n", "csv", "bad.csv:3: input length"),
    "nan": (TRACE.replace("1.5", "NaN"), "jsonl", "bad.jsonl:2: arrival time must be finite"),
    "infinity": (TRACE.replace("1.5", "Infinity"), "jsonl", "bad.jsonl:2: arrival time must be finite"),
    "nan length": (TRACE.replace("8", "NaN"), "jsonl", "bad.jsonl:2: input length must be a whole number"),
    "negative length": (TRACE.replace("8", "-8"), "jsonl", "bad.jsonl:2: input length must be a whole number"),
    "negative delay": ('{"turns": [{"text": "a", "output_length": 2}, {"text": "b", "output_length": 2, "delay": -5}]}\n',
                       "jsonl", "bad.jsonl:1: field 'delay' must be milliseconds of 0 or more"),
    "endless delay": (f'{{"turns": [{{"text": "a", "n_out": 2}}, {{"text": "b", "n_out": 2, "delay": 1{"0" * 400}}}]}}\n',
                      "jsonl", "bad.jsonl:1: field 'delay' must be milliseconds of 0 or more"),
    "text for a number": (TRACE.replace("8", '"eight"'), "jsonl", "bad.jsonl:2: input length must be a whole number"),
    "text for a time": (TRACE.replace("1.5", '"soon"'), "jsonl", "bad.jsonl:2: arrival time must be a number or"),
    "long integer": (TRACE.replace("8", LONG), "jsonl", "bad.jsonl:2: "),
    "long integer in a table": (f"input_len,output_len\n{LONG},6\n", "csv", "bad.csv:2: input length must be"),
    "twice": (TRACE.replace('"input_len": 8', '"input_len": 8, "input_len": 9'), "jsonl",
              "bad.jsonl:2: field 'input_len' stands twice"),
    "twice but for case": (TRACE.replace('"input_len": 8', '"input_len": 8, "Input_Len": 9'), "jsonl",
                           "bad.jsonl:2: field 'input_len' stands twice"),
    "column twice": ("input_len,output_len,input_len\n5,6,7\n", "csv", "bad.csv: the header names 'input_len' twice"),
    "twice in a list": ('[{"input_len": 8, "input_len": 9, "output_len": 1}]', "json", "field 'input_len' stands twice"),
    "fewer cells": ("input_len,output_len\n5\n", "csv", "bad.csv:2: fewer cells"),
    "utf-16": (TRACE.encode("utf-16"), "jsonl", "not UTF-8 text"),
    "latin-1": ('{"prompt": "café", "output_len": 3}\n'.encode("latin-1"), "jsonl", "not UTF-8 text"),
    "deep": ("[" * 100_000, "jsonl", "bad.jsonl:1: not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "ending", "words"), BAD_TRACES.values(), ids=BAD_TRACES)
def test_traces(tmp_path, monkeypatch, content, ending, words):
    monkeypatch.chdir(tmp_path)
    path = Path(f"bad.{ending}")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput) as refused:
        serving(workload=path)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"bad.{ending}")
    assert words in message
    assert len(message) < 1000


def test_a_trace_that_goes_back_in_time_is_sorted_and_begins_at_its_first_request(tmp_path):
    """A negative time is as good as any: only the differences between times are played."""
    path = tmp_path / "t.jsonl"
    path.write_text(TRACE.replace("1.5", "-1.5"))
    assert serving(workload=path).arrivals.at == (0.0, 1.5)  # type: ignore[attr-defined, union-attr]


LARGE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "compare": ("x.json", ("compare", "x.json", "x.json"), "x.json"),
    "frontier": (
        "x.csv",
        ("frontier", "x.csv", "--max", "a", "--min", "b"),
        "x.csv: 200 MiB is more than the 64 MiB",
    ),
    "import": ("x.json", ("import", "x.json"), "x.json: 200 MiB is more than the 128 MiB"),
}


@pytest.mark.parametrize(("name", "line", "words"), LARGE.values(), ids=LARGE)
def test_200_mib_of_nothing(command, tmp_path, name, line, words):
    with (tmp_path / name).open("wb") as file:
        file.truncate(200 * 2**20)
    run = command(*line)
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1)
    assert words in run.err


@pytest.mark.parametrize(
    "line",
    [("compare", "void", "void"), ("report", "void"), ("import", "void"), ("frontier", "void", "--max", "a", "--min", "b")],
    ids=lambda line: line[0],
)  # fmt: skip
def test_folders_without_results(command, tmp_path, line):
    (tmp_path / "void/deep").mkdir(parents=True)
    (tmp_path / "void/readme.txt").write_text("nothing")
    run = command(*line)
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert "void" in run.err
    assert [path.name for path in tmp_path.iterdir()] == ["void"]


def test_two_formats_are_never_launches_of_one_result(command, tmp_path):
    from support.result_files import AIPERF, SERVE

    (tmp_path / "a.json").write_text(json.dumps(SERVE))
    (tmp_path / "b.json").write_text(json.dumps(AIPERF))
    run = command("import", "a.json", "b.json", "--as", "chat")
    assert run.code == 4
    assert "b.json is of aiperf and a.json of vllm bench serve; import each format apart" in run.err
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}


LAUNCHES = re.compile(rb'("launches": \[\s*\[)')
Spoil = Callable[[bytes], bytes]
BAD_BASELINES: dict[str, tuple[Spoil, str]] = {
    "negative": (lambda data: LAUNCHES.sub(rb"\1-1, ", data, count=1), "a baseline holds finite numbers > 0"),
    "nan": (lambda data: LAUNCHES.sub(rb"\1NaN, ", data, count=1), "holds NaN"),
    "text": (lambda data: LAUNCHES.sub(rb'\1"1", ', data, count=1), "got `str`"),
    "twice": (
        lambda data: data.replace(b'"unit"', b'"unit": "s", "unit"', 1),
        "field 'unit' stands twice in one object",
    ),
    "long integer": (lambda data: LAUNCHES.sub(rb"\g<1>" + LONG.encode() + b", ", data, count=1), ""),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_BASELINES.values(), ids=BAD_BASELINES)
def test_baselines(command, tmp_path, spoil, words):
    (tmp_path / "good.json").write_text(RESULTS)
    assert command("baselines", "approve", "good.json", "--reason", "r").code == 0
    (path,) = tmp_path.glob("baselines/*/main/*/*.json")
    spoilt = spoil(path.read_bytes())
    assert spoilt != path.read_bytes()
    path.write_bytes(spoilt)
    run = command("compare", "baselines", "good.json")
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert path.name in run.err
    assert words in run.err
    assert path.read_bytes() == spoilt


# What mutated files once ended in a traceback with (benchmarks/fuzz_readers.py), a line each.
REPOSITORY = Path(__file__).parents[3]


def changed(document: Any, path: Sequence[str | int], value: Any) -> bytes:
    """The document as JSON, the value at that path replaced."""
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("machine", "gpus", 0, "memory_bytes"), {}, "machine.gpus[0].memory_bytes' must be a number"),
        (("machine", "gpus", 0, "memory_bytes"), "80", "machine.gpus[0].memory_bytes' must be a number"),
        (
            ("machine", "gpus", 0, "memory_bytes"),
            1e308,
            "memory_bytes' must be a number of bytes that a machine can have",
        ),
        (("machine", "memory_bytes"), 2**62, "memory_bytes' must be a number of bytes that a machine can have"),
        (("machine", "memory_bytes"), -1, "memory_bytes' must be a number of bytes that a machine can have"),
    ],
)
def test_mutated_facts_of_a_machine(command, tmp_path, path, value, words):
    (tmp_path / "x.json").write_bytes(changed(json.loads(RESULTS), path, value))
    run = command("compare", "x.json", "x.json")
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert f"x.json: field '{words}" in run.err


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("objectives", [{"a": 1}, "itl_mean"], "'scenario.objectives' must be a list of metrics, each once"),
        ("objectives", 3, "'scenario.objectives' must be a list of metrics, each once"),
        ("objectives", ["itl_mean", "itl_mean"], "'scenario.objectives' must be a list of metrics, each once"),
        ("objectives", ["ouut_throughput"], "'work.objectives' names 'ouut_throughput', which is no metric"),
        ("varied", {"output_len": 16}, "'scenario.varied' must be a list of values for each setting"),
        ("varied", [1], "'scenario.varied' must be a list of values for each setting"),
    ],
)
def test_mutated_work_of_a_stored_sweep(command, tmp_path, field, value, words):
    (stored,) = (REPOSITORY / "baselines").glob("*/main/perf_tests.test_context/test_output_length-*.json")
    path = tmp_path / stored.relative_to(REPOSITORY)
    path.parent.mkdir(parents=True)
    path.write_bytes(changed(json.loads(stored.read_text()), ("work", field), value))
    run = command("compare", "baselines", "baselines")
    assert (run.code, run.out, len(run.err.splitlines())) == (4, "", 1), run.err
    assert path.name in run.err
    assert words in run.err


def test_a_line_of_a_history_that_is_nested_too_deeply_is_passed_over(command, tmp_path):
    (stored,) = (REPOSITORY / "baselines").glob("*/.history/perf_tests.test_cold_start/*.jsonl")
    path = tmp_path / stored.relative_to(REPOSITORY)
    path.parent.mkdir(parents=True)
    path.write_bytes(stored.read_bytes() + b"[" * 50_000 + b"\n")
    run = command("history", "test_cold_start")
    assert (run.code, run.err) == (0, "")


@pytest.mark.parametrize(
    "head", [b'{"schema_version": 1, "test": "\xff"}', b'{"schema_version": 1}', b'{"schema_version": 1, "x": \xe2}']
)
def test_a_history_whose_first_line_names_no_test_is_refused(command, tmp_path, head):
    (stored,) = (REPOSITORY / "baselines").glob("*/.history/perf_tests.test_cold_start/*.jsonl")
    path = tmp_path / "baselines" / stored.relative_to(REPOSITORY / "baselines")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\n".join([head, *stored.read_bytes().splitlines()[1:]]) + b"\n")
    run = command("history", "test_cold_start")
    assert run.code == 4
    assert path.name in run.err
    assert run.err.count("\n") == 1
