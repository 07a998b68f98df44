"""How a results file looks: readable in a diff, arrays of numbers on one line, nothing lost."""

from __future__ import annotations

import json

import msgspec
import pytest

from pytest_slmperf.model.result import Results
from pytest_slmperf.model.results_file import encode, load_results


def test_a_launch_is_a_line_and_nothing_is_lost(make_result, make_session, make_machine, tmp_path):
    result = make_result("t", output_throughput=[[1.0, 2.5], [3.0]])
    result.notes = ["line\nbreak", "emoji 🚀", 'quote"', "\udcff"]
    results = Results(session=make_session(), machine=make_machine(), results=[result])
    text = encode(results).decode()
    assert "[1.0, 2.5],\n" in text
    path = tmp_path / "results.json"
    path.write_text(text)
    again = load_results(path)
    result.notes[-1] = "?"  # what UTF-8 cannot hold
    assert again == results
    old = json.dumps(msgspec.to_builtins(again), indent=1)  # as earlier versions wrote it
    path.write_text(old)
    assert load_results(path) == again
    assert text.count("\n") < old.count("\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused(make_result, make_session, make_machine, value):
    result = make_result("t")
    result.samples = {"a": [value]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Results(session=make_session(), machine=make_machine(), results=[result]))
