"""One order of verdicts: pytest's closing line, the reports and ``slmperf compare`` name the same one of several."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest

from pytest_slmperf.model.verdict import Verdict, VerdictRecord, worst
from pytest_slmperf.pytest_plugin.outcome import category
from pytest_slmperf.reports.view import OUTCOMES, outcome_of


def test_the_worst_comes_first():
    words = ["regressed", "incomparable", "inconclusive", "new", "improved", "same"]
    assert list(Verdict) == words
    assert [Verdict(word).severity for word in words] == [0, 1, 2, 3, 4, 5]
    assert [name for name in OUTCOMES if name in words] == words


@pytest.mark.parametrize("both", list(permutations(Verdict, 2)))
def test_every_door_names_the_worse_of_two_verdicts(both, make_result):
    worse = min(both, key=lambda verdict: verdict.severity)
    assert worst(both) is worse
    result = make_result(fields={"verdicts": [VerdictRecord(metric=word, verdict=word) for word in both]})
    assert outcome_of(result) == worse
    report = pytest.TestReport("t.py::test_x", ("t.py", 0, "test_x"), {}, "passed", None, "call")
    report.slmperf_results = [result]  # type: ignore[attr-defined]
    assert category(report) in (None, worse)
    assert (category(report) is None) == (worse in ("regressed", "improved", "same"))


def test_nothing_judged_has_no_verdict():
    assert worst([]) is None


def test_a_verdict_is_the_plain_word_in_a_file_and_read_back_from_it():
    record = VerdictRecord(
        metric="output_throughput", verdict=Verdict.NEW, detail={"of": {Verdict.SAME: [Verdict.NEW]}}
    )
    plain = msgspec.to_builtins(record)
    assert type(plain["verdict"]) is str
    assert (plain["verdict"], plain["detail"]) == ("new", {"of": {"same": ["new"]}})
    assert msgspec.convert(plain, VerdictRecord).verdict is Verdict.NEW
