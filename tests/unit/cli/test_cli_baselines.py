import json

import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model.result import FailedTest

TEST = "perf_tests/test_offline.py::test_batch[16]"


@pytest.fixture
def results(make_result, make_results, write):
    """results.json of session 1: one measured test and one that failed."""
    failed = make_result("t.py::failed", output_throughput=[], fields={"failure": "out of memory"})
    return write("results.json", make_results(make_result(), failed))


def approve(command, results, *words):
    return command("baselines", "approve", results, "--reason", "first figures", *words)


def test_approve_shows_what_changes_and_records_the_reason(command, results, tmp_path):
    run = approve(command, results)
    assert run.code == 2  # one was refused, the other is saved
    assert f"{TEST}: added\n  output_throughput: 347 tok/s" in run.out
    assert "t.py::failed: refused (nothing was measured, so there is nothing to save (out of memory))" in run.out
    assert "1 of 2 saved as 'main'" in run.out
    (baseline,) = FileStore(tmp_path / "baselines").all()
    assert baseline.newest.reason == "first figures"
    assert baseline.newest.approved_at.endswith("Z")
    (point,) = FileStore(tmp_path / "baselines").history(baseline.fingerprint, TEST)
    assert point.approved


def test_approve_of_a_slower_session_shows_old_and_new(command, results, make_result, make_results, write):
    approve(command, results)
    slower = make_result(output_throughput=[[300.0], [301.0]], engine={"version": "0.33.0"})
    run = approve(command, write("next.json", make_results(slower, number=2)))
    assert "replaced (engine version 0.32.0 → 0.33.0)" in run.out
    assert "output_throughput: 347 → 300.5 tok/s (−13.4 %)" in run.out


def test_approve_of_the_like_adds_a_session(command, results, make_result, make_results, write):
    approve(command, results)
    run = approve(command, write("next.json", make_results(make_result(), number=2)), "--json")
    assert [(row["action"], row["why"]) for row in json.loads(run.out)] == [("extended", "2 sessions")]


def test_dry_run_changes_nothing(command, results, tmp_path):
    run = command("baselines", "approve", results, "--dry-run", "--test", TEST)
    assert run.code == 0
    assert "1 of 1 would be saved" in run.out
    assert not (tmp_path / "baselines").exists()


def test_only_the_named_test(command, results):
    assert approve(command, results, "--test", "t.py::failed").code == 4  # nothing could be saved
    run = approve(command, results, "--test", "t.py::nonesuch")
    assert run.code == 4
    assert "no result of 't.py::nonesuch'" in run.err


def test_a_test_failed_by_its_own_assertion_is_approved_by_name_only(
    command, make_result, make_results, write, tmp_path
):
    measured = make_results(make_result("t.py::slo::batch-2"), make_result("t.py::slo_of_another"))
    measured.session.failed_tests = [FailedTest(id="t.py::slo", reason="AssertionError: too slow")]
    file = write("results.json", measured)
    for words in (["--dry-run"], []):
        run = approve(command, file, *words)
        assert run.code == 2
        assert "t.py::slo::batch-2: refused (its test failed: AssertionError: too slow; slmperf" in run.out
        assert "1 of 2 " in run.out
    assert [one.id for one in FileStore(tmp_path / "baselines").all()] == ["t.py::slo_of_another"]
    for words in (["--dry-run"], []):
        assert approve(command, file, "--test", "t.py::slo::batch-2", *words).code == 0
    assert len(FileStore(tmp_path / "baselines").all()) == 2


def test_a_session_that_is_not_in_the_history_is_a_failure(command, make_result, make_results, write, monkeypatch):
    def full(*_, **__):
        raise BaselineError("the disk is full")

    monkeypatch.setattr(FileStore, "remember", full)
    file = write("results.json", make_results(make_result()))
    run = approve(command, file)
    assert run.code == 3
    assert "not in the history: the disk is full" in run.out
    again = approve(command, file, "--json")
    assert (again.code, json.loads(again.out)[0]["lost"]) == (3, "the disk is full")


def test_a_session_older_than_all_that_are_kept_is_not_said_to_be_added(command, make_result, make_results, write):
    for number in range(2, 10):
        assert approve(command, write("results.json", make_results(make_result(), number=number))).code == 0
    old = write("old.json", make_results(make_result(), number=1))
    for words in (["--dry-run"], []):
        assert f"{TEST}: unchanged (older than the 8 sessions that are kept)" in approve(command, old, *words).out
    (shown,) = json.loads(command("baselines", "show", TEST, "--json").out)
    assert [one["id"] for one in shown["sessions"]] == [f"session-{number}" for number in range(2, 10)]


@pytest.mark.parametrize("reason", [[], ["--reason", "  "]])
def test_a_reason_is_asked_for(command, results, reason):
    run = command("baselines", "approve", results, *reason)
    assert run.code == 4
    assert "--reason" in run.err


def test_list_and_show(command, results):
    assert (
        "no baselines in baselines; pytest --slmperf --slmperf-save main makes one" in command("baselines", "list").out
    )
    approve(command, results)
    listed = command("baselines", "list").out
    assert "amd-epyc-2c-vllm-cpu-dummy-" in listed
    assert f"  {TEST}  1 session, newest 2026-11-01 @ 1111111111" in listed
    assert json.loads(command("baselines", "list", "--json").out)[0]["reason"] == "first figures"
    assert command("baselines", "list", "--name", "other", "--json").out.strip() == "[]"
    shown = command("baselines", "show", "test_batch").out
    assert "first figures" in shown
    assert "output_throughput: 347.0, 347.0 tok/s (2/2 rounds)" in shown
    assert json.loads(command("baselines", "show", TEST, "--json").out)[0]["id"] == TEST
    assert command("baselines", "show", "nonesuch").code == 4


def test_prune(command, tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path / "baselines")
    for number in range(1, 6):
        store.save("main", make_result(), make_session(number), make_machine())
        store.remember(make_result(), make_session(number), make_machine())
    store.save("main", make_result("t.py::old"), make_session(1), make_machine())
    words = ["baselines", "prune", "--sessions", "2", "--history", "3", "--older-than", "2026-11-03"]
    before = sorted(path.read_bytes() for path in tmp_path.rglob("*.json*"))
    dry = command(*words, "--dry-run")
    assert "1 baseline, 3 sessions, 2 points of history would be removed" in dry.out
    assert sorted(path.read_bytes() for path in tmp_path.rglob("*.json*")) == before
    run = command(*words, "--json")
    removed = json.loads(run.out)
    assert [row["id"] for row in removed["baselines"]] == ["t.py::old"]
    assert (removed["sessions"], removed["history"]) == (3, 2)
    (left,) = store.all()
    assert [one.id for one in left.sessions] == ["session-4", "session-5"]
    assert len(store.history(left.fingerprint, left.id)) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to remove"),
        (["--sessions", "0"], "--sessions must be at least 1"),
        (["--history", "-1"], "--history must be at least 1"),
        (["--older-than", "yesterday"], "YYYY-MM-DD"),
        (["--sessions", "x"], "invalid int value"),
    ],
)
def test_wrong_pruning_is_refused(command, words, said):
    run = command("baselines", "prune", *words)
    assert run.code == 4
    assert said in run.err


def test_a_broken_file_is_named(command, results, tmp_path):
    approve(command, results)
    (path,) = FileStore(tmp_path / "baselines").paths()
    path.write_text("{")
    run = command("baselines", "list")
    assert run.code == 4
    assert path.name in run.err
    assert path.read_text() == "{"


def test_a_wrong_place_names_the_option_that_was_used(command):
    run = command("baselines", "list", "--baselines", "mysql://host/db")
    assert run.code == 4
    assert "--baselines: mysql:// is not known" in run.err
    assert "--slmperf" not in run.err


def test_baselines_in_a_database(command, results, tmp_path):
    place = f"sqlite:///{tmp_path}/b.db"
    assert approve(command, results, "--baselines", place, "--test", TEST).code == 0
    assert TEST in command("baselines", "list", "--baselines", place).out


def test_a_session_that_measured_nothing_approves_nothing(command, make_results, write):
    run = approve(command, write("results.json", make_results()))
    assert run.code == 4
    assert "nothing was measured in that session, so there is nothing to approve" in run.err


def test_approve_takes_the_name_that_the_session_compared_with(command, make_result, make_results, write, tmp_path):
    session = make_results(make_result())
    session.session.options["baseline"] = "nightly"
    assert "saved as 'nightly'" in approve(command, write("results.json", session)).out
    assert "saved as 'other'" in approve(command, write("results.json", session), "--name", "other").out
    assert [one.name for one in FileStore(tmp_path / "baselines").all()] == ["nightly", "other"]


@pytest.mark.parametrize("place", ["baselines", "baselines/below"])
def test_a_link_to_nowhere_is_not_taken_for_no_baselines(command, tmp_path, place):
    (tmp_path / "baselines").symlink_to("gone")
    run = command("baselines", "list", "--baselines", place)
    assert run.code == 4
    assert "baselines is a link to gone, which is not there" in run.err


@pytest.mark.parametrize(
    ("old", "new", "renamed"),
    [
        (
            "perf/test_a.py",
            "perf/b/test_a.py",
            {"perf/b/test_a.py::t[1]", "perf/b/test_a.py::t#2", "perf/test_a.py2::t"},
        ),
        (
            "perf/test_a.py::t",
            "perf/test_a.py::u",
            {"perf/test_a.py::u[1]", "perf/test_a.py::u#2", "perf/test_a.py2::t"},
        ),
        (
            "perf/test_a.py::t[1]",
            "perf/test_a.py::t[2]",
            {"perf/test_a.py::t[2]", "perf/test_a.py::t#2", "perf/test_a.py2::t"},
        ),
    ],
    ids=["file", "test", "parameters"],
)
def test_rename_of_a_file_a_test_and_its_parameters(
    command, make_result, make_results, write, tmp_path, old, new, renamed
):
    names = ("perf/test_a.py::t[1]", "perf/test_a.py::t#2", "perf/test_a.py2::t")
    approve(command, write("results.json", make_results(*map(make_result, names))))
    assert "would be renamed" in command("baselines", "rename", old, new, "--dry-run").out
    assert {one.id for one in FileStore(tmp_path / "baselines").all()} == set(names)
    assert f"is now {new}" in command("baselines", "rename", old, new).out
    assert {one.id for one in FileStore(tmp_path / "baselines").all()} == renamed
    again = command("baselines", "rename", old, new)
    assert again.code == 4
    assert f"no baseline of {old!r}" in again.err


@pytest.mark.parametrize("kind", ["files", "sqlite"])
def test_rename_onto_another_test_renames_nothing(command, make_result, make_results, write, tmp_path, kind):
    place = ("--baselines", "baselines" if kind == "files" else f"sqlite:///{tmp_path}/b.db")
    names = ("old.py::a", "old.py::b", "new.py::b")
    found = [make_result(name, output_throughput=[[100.0 + number]]) for number, name in enumerate(names)]
    command("baselines", "approve", write("r.json", make_results(*found)), "--reason", "first", *place)
    for words in (("--dry-run",), ()):
        run = command("baselines", "rename", "old.py", "new.py", *place, *words)
        assert run.code == 4
        assert "'new.py::b' has a baseline 'main'" in run.err
    assert [one["id"] for one in json.loads(command("baselines", "list", "--json", *place).out)] == sorted(names)


@pytest.mark.parametrize(("old", "new"), [("t.py", "t.py::T"), ("t.py::T", "t.py")])
def test_rename_into_a_class_and_out_of_it_again(command, make_result, make_results, write, tmp_path, old, new):
    names = [f"{old}::t", f"{old}::T::t", f"{old}::a", f"{old}::T::a"]
    found = [make_result(name, output_throughput=[[100.0 + number]]) for number, name in enumerate(names)]
    approve(command, write("r.json", make_results(*found)))
    run = command("baselines", "rename", old, new)
    assert run.code == 0, run.err
    assert {one.id for one in FileStore(tmp_path / "baselines").all()} == {name.replace(old, new, 1) for name in names}


def test_rename_of_a_test_to_a_file_is_refused(command, make_result, make_results, write):
    approve(command, write("r.json", make_results(make_result("t.py::t[1]"))))
    run = command("baselines", "rename", "t.py::t", "u.py")
    assert run.code == 4
    assert "write the test's new id in full: u.py::…" in run.err
