"""A machine's own baseline: kept in the user's cache where no stored baseline can be compared with."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

ONE = "def test_one(slmperf): slmperf.offline(batch=4, input_len=16, output_len=16)\n"
SLOWER = ("--slmperf-set", "slowdown=0.3")


def kept(pytester: pytest.Pytester) -> list[Path]:
    return sorted((pytester.path / ".cache/pytest-slmperf/provisional").rglob("*.json"))


@pytest.fixture
def perf(perf):
    return partial(perf, local=True)


def verdict(results) -> dict[str, object]:
    (record,) = [row for row in results()["results"][0]["verdicts"] if row["metric"] == "output_throughput"]
    return record


def notes(results) -> list[str]:
    return results()["session"]["notes"]


def test_the_second_session_judges(perf, results, pytester):
    first = perf(suite=ONE)
    first.stdout.fnmatch_lines(["slmperf: nothing decided yet: 1 new; run the same command again*"])
    assert verdict(results)["verdict"] == "new"
    assert len(kept(pytester)) == 1
    assert not (pytester.path / "baselines").exists()
    second = perf(suite=ONE)
    second.stdout.fnmatch_lines(
        ["*= same ~", "~ provisional: compared with this machine's last sessions*", "slmperf: 1 same, provisional"]
    )
    assert (verdict(results)["verdict"], verdict(results)["provisional"]) == ("same", True)
    assert str(verdict(results)["baseline"]).startswith("provisional")
    (file,) = kept(pytester)
    assert len(json.loads(file.read_text())["sessions"]) == 2


def test_a_slower_session_regresses_and_never_becomes_usual(perf, results, pytester):
    perf(suite=ONE)
    before = [file.read_bytes() for file in kept(pytester)]
    for _ in range(2):
        result = perf(*SLOWER, suite=ONE)
        result.assert_outcomes(failed=1)
        assert verdict(results)["verdict"] == "regressed"
    assert [file.read_bytes() for file in kept(pytester)] == before


def test_answers_of_another_length_are_other_work_and_not_new(perf, results, pytester):
    perf(suite=ONE)
    for _ in range(2):
        perf("--slmperf-set", "answer_share=0.5", suite=ONE)
        record = verdict(results)
        assert (record["verdict"], record["provisional"]) == ("incomparable", True)
        assert record["reason"] == "other work (answers of 100 % → 50 % of the output tokens asked for)"


def test_in_ci_only_where_it_is_asked_for(perf, results, pytester, monkeypatch):
    perf(suite=ONE)
    monkeypatch.setenv("CI", "true")
    result = perf(*SLOWER, suite=ONE)
    assert (result.ret, verdict(results)["verdict"]) == (0, "new")
    result = perf(*SLOWER, "--slmperf-provisional", "always", suite=ONE)
    assert (result.ret, verdict(results)["verdict"]) == (1, "regressed")


@pytest.mark.parametrize("option", [("--slmperf-no-local",), ("--slmperf-provisional", "never")])
def test_neither_kept_nor_compared_with(perf, results, pytester, option):
    perf(*option, suite=ONE)
    assert kept(pytester) == []
    perf(suite=ONE)
    perf(*option, suite=ONE)
    assert verdict(results)["verdict"] == "new"


def test_an_approved_baseline_takes_its_place(perf, results, pytester):
    perf(suite=ONE)
    perf("--slmperf-approve", suite=ONE)
    assert kept(pytester) == []
    result = perf(suite=ONE)
    result.stdout.fnmatch_lines(["*= same", "slmperf: 1 same"])
    assert verdict(results)["provisional"] is False
    assert kept(pytester) == []


def test_a_baseline_of_another_machine_is_said_and_stands_aside(perf, results, pytester):
    perf("--slmperf-approve", suite=ONE)
    (stored,) = (pytester.path / "baselines").glob("*/main/*/*.json")
    document = json.loads(stored.read_text())
    document["identity"]["engine"] = "another"
    folder = stored.parents[2].with_name("elsewhere-00000000")
    stored.parents[2].rename(folder)
    document["fingerprint"] = folder.name
    (folder / stored.relative_to(stored.parents[2])).write_text(json.dumps(document))
    perf(suite=ONE)
    assert verdict(results)["verdict"] == "incomparable"
    assert "another system" in str(verdict(results)["reason"])
    perf(suite=ONE)
    assert (verdict(results)["verdict"], verdict(results)["provisional"]) == ("same", True)


def test_another_project_has_its_own(perf, results, pytester):
    perf(suite=ONE)
    other = pytester.mkdir("other")
    (other / "pytest.ini").write_text("[pytest]\n")
    (other / "test_perf.py").write_text(ONE)
    result = perf("--rootdir", "other", "other", suite=ONE)
    result.stdout.fnmatch_lines(["slmperf: nothing decided yet: 1 new*"])


def test_a_sweep_is_compared_too(perf, results):
    suite = "def test_curve(slmperf): slmperf.sweep(batch=[1, 4, 16], input_len=16, output_len=16)\n"
    perf(suite=suite)
    perf(suite=suite)
    records = results()["results"][0]["verdicts"]
    assert {(row["verdict"], row["provisional"]) for row in records} == {("same", True)}


def test_an_unreadable_file_is_said_and_made_anew(perf, results, pytester):
    perf(suite=ONE)
    (file,) = kept(pytester)
    file.write_text("{")
    result = perf(suite=ONE)
    assert result.ret == 0
    assert any("the provisional baseline was unreadable and is made anew" in note for note in notes(results))
    assert verdict(results)["verdict"] == "new"
    perf(suite=ONE)
    assert verdict(results)["verdict"] == "same"


def test_a_cache_that_cannot_be_written_loses_nothing_else(perf, results, pytester):
    (pytester.path / ".cache/pytest-slmperf").mkdir(parents=True, exist_ok=True)
    (pytester.path / ".cache/pytest-slmperf/provisional").write_text("a file, where a folder is needed")
    result = perf(suite=ONE)
    assert (result.ret, verdict(results)["verdict"]) == (0, "new")
    result.stdout.fnmatch_lines(["slmperf: nothing decided yet: 1 new"])  # and no promise of the next session
    assert [note for note in notes(results) if "not kept as" in note] != [], notes(results)


def test_a_failed_assertion_is_not_kept(perf, pytester):
    perf(suite=ONE.replace("\n", "; assert 0\n"))
    assert kept(pytester) == []


def test_the_cache_stays_small(tmp_path, monkeypatch):
    from support.sample_results import sample_results

    from pytest_slmperf.baselines import provisional

    whole = sample_results()
    few = type(whole)(session=whole.session, machine=whole.machine, results=whole.results[:1])
    few.results[0].baseline = None
    few.results[0].verdicts = []
    store = provisional.ProvisionalBaselines(tmp_path / "project", pytest.fail, tmp_path)
    old = tmp_path / "provisional/gone/x/provisional/t/a.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    os.utime(old, (0, 0))
    assert store.keep(few) == 1
    assert not old.exists()
    assert len(store.readable()) == 1
    monkeypatch.setattr(provisional, "MOST_BYTES", 10)
    store.keep(few)
    assert store.readable() == []
