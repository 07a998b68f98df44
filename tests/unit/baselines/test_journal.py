import pytest

from pytest_slmperf.baselines.journal import KEPT_JOURNALS, Journal, read
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model.charts import FrontierChart, SweepCharts


@pytest.fixture
def journal(tmp_path, make_session, make_machine):
    return Journal(tmp_path, make_session(), make_machine())


def test_each_result_is_on_disk_when_append_returns(journal, make_result):
    assert not journal.path.exists()
    assert journal.results().results == []
    for number in (1, 2):
        journal.append(make_result(f"t.py::test[{number}]"))
        assert [result.id for result in read(journal.path).results] == [
            f"t.py::test[{n}]" for n in range(1, number + 1)
        ]
    assert read(journal.path).session.id == "session-1"
    assert journal.results() == read(journal.path)


def test_the_last_result_of_a_test_counts(journal, make_result):
    journal.append(make_result("t.py::a", output_throughput=[[1.0]]))
    journal.append(make_result("t.py::b"))
    journal.append(make_result("t.py::a", output_throughput=[[2.0]]))
    results = read(journal.path).results
    assert [result.id for result in results] == ["t.py::b", "t.py::a"]
    assert results[1].metrics["output_throughput"].launches == [[2.0]]


def test_a_later_state_of_a_result_replaces_the_earlier(journal, make_result):
    sweep = make_result("t.py::sweep")
    journal.append(sweep)
    sweep.charts.sweep = SweepCharts(key="batch", frontiers=[FrontierChart(max="a", min="b", advice=8)])
    sweep.notes.append("advised: 8")
    journal.append(sweep)
    assert read(journal.path).results == [sweep]


def test_a_line_cut_short_loses_that_line_only(journal, make_result):
    for name in "abc":
        journal.append(make_result(f"t.py::{name}"))
    journal.path.write_bytes(journal.path.read_bytes()[:-40])
    results = read(journal.path)
    assert [result.id for result in results.results] == ["t.py::a", "t.py::b"]
    assert results.session.notes == ["line 4 of the journal was cut short; its result is lost"]
    journal.append(make_result("t.py::d"))  # a session that goes on appends on a line of its own
    assert [result.id for result in read(journal.path).results] == ["t.py::a", "t.py::b", "t.py::d"]


def test_wild_ids_survive(journal, make_result):
    wild = "t.py::test[<script>\n🎉\"'\u2028]"
    journal.append(make_result(wild))
    assert read(journal.path).results[0].id == wild


def test_not_a_number_is_refused_not_written_as_missing(journal, make_result):
    with pytest.raises(ValueError, match="Out of range float"):
        journal.append(make_result(output_throughput=[[float("nan")]]))
    assert journal.results().results == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"nonsense", "not valid JSON"),
        (b'{"schema_version": 9}', "upgrade"),
        (b'{"schema_version": 1}', "not a journal"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path, data, message):
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(BaselineError, match=message):
        read(path)


def test_old_journals_are_dropped(tmp_path, make_session, make_machine, make_result):
    for number in range(1, KEPT_JOURNALS + 5):
        Journal(tmp_path, make_session(number), make_machine()).append(make_result())
    assert len(list((tmp_path / "journal").iterdir())) == KEPT_JOURNALS


def test_a_full_disk_is_a_clear_error(journal, make_result, monkeypatch):
    import os

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BaselineError, match="the disk is full"):
        journal.append(make_result())
