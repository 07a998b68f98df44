"""What every store must do, whatever it keeps the baselines in."""

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pytest_slmperf.baselines import lookup
from pytest_slmperf.baselines.open import open_store
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.result import Machine, Result, Session

WILD = "t.py::test[<script>'; DROP TABLE slmperf_baselines; --\n🎉\0]"


@pytest.fixture(params=["files", "sqlite", "postgres"])
def place(request, tmp_path):
    """The text that names the store, fresh for each test."""
    if request.param == "files":
        return str(tmp_path / "baselines")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/baselines.db"
    url = request.getfixturevalue("postgres_url")
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS slmperf_baselines, slmperf_history")
    return url


@pytest.fixture
def store(place, tmp_path):
    return open_store(place, tmp_path)


def test_an_empty_store_holds_nothing_and_is_not_made_by_looking(store, tmp_path, make_result, make_machine):
    assert store.load("f", "main", "t") is None
    assert store.elsewhere("main", "t") == store.all() == store.fingerprints() == store.history("f", "t") == []
    assert store.history_tests("f") == []
    assert lookup.find(store, make_machine(), make_result(), "main").verdict == "new"
    assert list(tmp_path.iterdir()) == []


def test_save_load_merge_put_delete(store, make_result, make_session, make_machine):
    name = fingerprint.of(make_machine(), make_result().engine)
    for number in (2, 1):
        store.save("main", make_result(WILD), make_session(number), make_machine(), "why")
    loaded = store.load(name, "main", WILD)
    assert [one.id for one in loaded.sessions] == ["session-1", "session-2"]
    assert loaded.newest.reason == "why"
    loaded.sessions.pop(0)
    store.put(loaded)
    assert store.all() == [loaded]
    assert store.all("main") == [loaded]
    assert store.all("other") == []
    assert store.elsewhere("main", WILD) == [loaded]
    assert store.fingerprints() == [name]
    store.delete(loaded)
    store.delete(loaded)
    assert store.all() == []


def test_history_is_ordered_counts_a_session_once_and_is_pruned(store, make_result, make_session, make_machine):
    name = fingerprint.of(make_machine(), make_result().engine)
    for number in (3, 1, 2, 3):
        result = make_result(WILD, output_throughput=[[float(number), number + 2.0], [9.0]])
        store.remember(result, make_session(number), make_machine(), approved=number == 2)
    points = store.history(name, WILD)
    assert [point.session for point in points] == ["session-1", "session-2", "session-3"]
    assert points[0].launches == {"output_throughput": [2.0, 9.0]}
    assert [point.approved for point in points] == [False, True, False]
    assert store.fingerprints() == [name]
    assert len(store.history_tests(name)) == 1
    assert store.prune_history(2) >= 1
    assert [point.session for point in store.history(name, WILD)] == ["session-2", "session-3"]
    assert store.prune_history(2) == 0


def _save_one(place: str, encoded: tuple[bytes, ...]) -> None:
    types = (Result, Session, Machine)
    result, session, machine = (msgspec.json.decode(data, type=kind) for data, kind in zip(encoded, types, strict=True))
    store = open_store(place, Path("/"))
    store.save("main", result, session, machine)
    store.remember(result, session, machine)


def test_sessions_that_save_at_once_lose_nothing(place, store, make_result, make_session, make_machine):
    jobs = [
        tuple(msgspec.json.encode(value) for value in (make_result(), make_session(number), make_machine()))
        for number in range(1, 9)
    ]
    with ProcessPoolExecutor(4) as pool:
        for future in [pool.submit(_save_one, place, job) for job in jobs]:
            future.result()
    (baseline,) = store.all()
    assert {one.id for one in baseline.sessions} == {f"session-{number}" for number in range(1, 9)}
    assert len(store.history(baseline.fingerprint, baseline.id)) == 8


def test_an_error_in_the_middle_changes_nothing(store, make_result, make_session, make_machine):
    store.save("main", make_result(), make_session(1), make_machine())
    before = store.all()
    with pytest.raises(InvalidInput):
        store.save("main", make_result(output_throughput=[[float("nan")]]), make_session(2), make_machine())
    assert store.all() == before


@pytest.mark.parametrize("scheme", ["mysql://x", "http://x", "s3://bucket"])
def test_other_urls_are_refused(scheme, tmp_path):
    with pytest.raises(InvalidInput, match="is not known; give a folder, sqlite"):
        open_store(scheme, tmp_path)


def test_an_empty_place_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="is empty"):
        open_store(" ", tmp_path)


def test_a_relative_folder_is_below_the_root(tmp_path):
    store = open_store("baselines", tmp_path)
    assert isinstance(store, FileStore)
    assert store.root == tmp_path / "baselines"


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path, make_result, make_session, make_machine):
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    before = path.read_bytes()
    store = open_store(f"sqlite:///{path}", tmp_path)
    with pytest.raises(BaselineError, match=r"x\.db: file is not a database"):
        store.all()
    with pytest.raises(BaselineError, match="file is not a database"):
        store.save("main", make_result(), make_session(), make_machine())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "not valid JSON"),
        ("{}", "not a slmperf"),
        ('{"schema_version": 99}', "upgrade"),
        ("x" * 9 * 2**20, "too much"),
    ],
)
def test_a_broken_row_is_refused_and_named(tmp_path, document, message, make_result, make_session, make_machine):
    store = open_store(f"sqlite:///{tmp_path}/x.db", tmp_path)
    store.save("main", make_result(), make_session(), make_machine())
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("UPDATE slmperf_baselines SET document = ?", (document,))
    connection.close()
    with pytest.raises(BaselineError, match=message) as caught:
        store.save("main", make_result(), make_session(2), make_machine())
    assert "x.db: row amd-epyc" in str(caught.value)


def test_a_password_is_never_shown(postgres_url, tmp_path):
    store = open_store(postgres_url, tmp_path)
    assert "not-shown" not in str(store)
    gone = open_store("postgresql://slm:s3cret@127.0.0.1:9/none?password=s3cret", tmp_path)
    with pytest.raises(BaselineError) as caught:
        gone.all()
    assert "postgresql://slm:…@127.0.0.1:9/none" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_postgres_without_its_package_says_which_extra(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidInput, match=r"pytest-slmperf\[postgres\]") as caught:
        open_store("postgresql://slm:s3cret@host/db", tmp_path)
    assert "s3cret" not in str(caught.value)


def test_rename_keeps_every_name_and_the_history(store, make_result, make_session, make_machine):
    place = fingerprint.of(make_machine(), make_result().engine)
    for name in ("main", "v1"):
        store.save(name, make_result(WILD), make_session(1), make_machine(), "why")
    store.remember(make_result(WILD), make_session(1), make_machine())
    store.save("main", make_result("u.py::other"), make_session(1), make_machine())
    store.rename(place, WILD, "t.py::new[1]")
    assert store.load(place, "main", WILD) is store.load(place, "v1", WILD) is None
    assert store.load(place, "main", "t.py::new[1]").newest.reason == "why"
    assert store.load(place, "v1", "t.py::new[1]").newest.reason == "why"
    assert store.history(place, WILD) == []
    assert [point.session for point in store.history(place, "t.py::new[1]")] == ["session-1"]
    assert store.history_tests(place) == ["t.py::new[1]"]
    with pytest.raises(BaselineError, match="has a baseline 'main' already"):
        store.rename(place, "t.py::new[1]", "u.py::other")
    assert {one.id for one in store.all()} == {"t.py::new[1]", "u.py::other"}


def test_rename_passes_over_folders_that_are_no_baselines(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    place = fingerprint.of(make_machine(), make_result().engine)
    store.save("main", make_result("t.py::old"), make_session(1), make_machine())
    (tmp_path / place / "_notes").mkdir()
    store.rename(place, "t.py::old", "t.py::new")
    assert [one.id for one in store.all()] == ["t.py::new"]


def test_an_interrupted_rename_is_ended_by_the_next(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    place = fingerprint.of(make_machine(), make_result().engine)
    for number in (1, 2):
        store.save("main", make_result("t.py::old"), make_session(number), make_machine())
        store.remember(make_result("t.py::old"), make_session(number), make_machine())

    class Killed(FileStore):
        left = 0  # files that it may still remove

        def _remove(self, path: Path) -> None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super()._remove(path)

    for left in (0, 1):  # before the old baseline goes, and before its history does
        killed = Killed(tmp_path)
        killed.left = left
        with pytest.raises(KeyboardInterrupt):
            killed.rename(place, "t.py::old", "t.py::new")
    store.rename(place, "t.py::old", "t.py::new")
    (only,) = store.all()
    assert (only.id, len(only.sessions)) == ("t.py::new", 2)
    assert store.history_tests(place) == ["t.py::new"]
    (file,) = tmp_path.glob("*/.history/*/*.jsonl")
    assert len(file.read_text().splitlines()) == 3  # its head, and each session once


def test_rename_joins_the_histories(store, make_result, make_session, make_machine):
    place = fingerprint.of(make_machine(), make_result().engine)
    for number, test in ((1, "t.py::old"), (2, "t.py::new"), (2, "t.py::old"), (3, "t.py::new")):
        store.remember(make_result(test), make_session(number), make_machine())
    store.rename(place, "t.py::old", "t.py::new")
    assert [point.session for point in store.history(place, "t.py::new")] == ["session-1", "session-2", "session-3"]
