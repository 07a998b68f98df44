"""Databases that are locked, broken, full, gone or slow: named without a password, nothing lost, nobody waits for ever."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.postgres import PASSWORD, Server

from pytest_slmperf.baselines.open import open_store
from pytest_slmperf.baselines.store import Store
from pytest_slmperf.baselines.stores import sql
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.result import Machine, Result, Session

MakeSession = Callable[..., Session]
MakeResult = Callable[..., Result]


@pytest.fixture
def save(
    make_result: MakeResult, make_session: MakeSession, make_machine: Callable[..., Machine]
) -> Callable[..., None]:
    """Saves session ``number`` of one test."""

    def saved(store: Store, number: int) -> None:
        store.save("main", make_result(), make_session(number), make_machine())
        store.remember(make_result(), make_session(number), make_machine())

    return saved


def sessions(store: Store) -> list[str]:
    return [session.id for baseline in store.all() for session in baseline.sessions]


@pytest.fixture
def database(tmp_path: Path, save: Callable[..., None]) -> Path:
    path = tmp_path / "b.db"
    save(open_store(f"sqlite:///{path}", tmp_path), 1)
    return path


def test_sqlite_that_another_holds_is_waited_for_and_named(
    database: Path, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_WAIT_S", 0.2)
    store = open_store(f"sqlite:///{database}", database)
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        for act in (lambda: save(store, 2), store.all, lambda: store.prune_history(1)):
            with pytest.raises(BaselineError, match=r"b\.db: another process has held it for more than 0 s"):
                act()
        other.execute("ROLLBACK")
    other.close()
    assert sessions(store) == ["session-1"]


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)


BROKEN: dict[str, Callable[[Path], object]] = {
    "none": lambda path: path.write_bytes(b"no database " * 1000),
    "spoilt": spoil,
    "cut": lambda path: os.truncate(path, 5000),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_sqlite_file_is_named_and_left(database: Path, save: Callable[..., None], how: str) -> None:
    BROKEN[how](database)
    before = database.read_bytes()
    store = open_store(f"sqlite:///{database}", database)
    for act in (store.all, lambda: save(store, 2)):
        with pytest.raises(BaselineError, match=r"b\.db: .*restore the file from a copy, or remove it to start anew"):
            act()
    assert database.read_bytes() == before


FULL = """
import resource, sys
from pathlib import Path
from pytest_slmperf.cli.main import main
place, results = sys.argv[1:]
size = Path(place.removeprefix("sqlite:///")).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, resource.RLIM_INFINITY))
sys.exit(main(["baselines", "approve", results, "--reason", "r", "--baselines", place]))
"""


def test_a_full_disk_is_said_and_what_was_there_stays(
    database: Path, tmp_path: Path, make_results: Callable[..., Any], make_result: MakeResult, make_session: MakeSession
) -> None:
    from pytest_slmperf.model.results_file import encode

    results = make_results(*(make_result(f"t.py::test_{number}") for number in range(50)))
    (tmp_path / "r.json").write_bytes(encode(results))
    place = f"sqlite:///{database}"
    done = subprocess.run([sys.executable, "-c", FULL, place, str(tmp_path / "r.json")], capture_output=True, text=True)
    assert done.returncode == 4, done
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr
    assert "free some space" in done.stderr
    assert "rollback" not in done.stderr
    assert "session-1" in sessions(open_store(place, tmp_path))


def test_a_wrong_password_is_said_without_it(own_server: Server, tmp_path: Path) -> None:
    store = open_store(own_server.url.replace(PASSWORD, "wr0ng-word#?"), tmp_path)
    with pytest.raises(BaselineError, match="password authentication failed") as raised:
        store.all()
    assert "wr0ng" not in str(raised.value) + str(store)
    assert sessions(open_store(own_server.url, tmp_path)) == []


def test_a_server_killed_in_the_middle_of_a_write_loses_nothing(
    own_server: Server, tmp_path: Path, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(own_server.url, tmp_path)
    save(store, 1)
    write = sql.PostgresStore._write  # noqa: SLF001 - the middle of a write

    def killed(self: Any, cursor: Any, baseline: Any) -> None:
        write(self, cursor, baseline)
        own_server.stop()

    with monkeypatch.context() as patched:
        patched.setattr(sql.PostgresStore, "_write", killed)
        with pytest.raises(BaselineError, match=r"postgresql://slm:…@/postgres\?…: .*Nothing was changed") as raised:
            save(store, 2)
    assert PASSWORD not in str(raised.value)
    own_server.start()
    assert sessions(store) == ["session-1"]
    save(store, 2)
    assert sessions(store) == ["session-1", "session-2"]


def test_a_server_that_stops_answering_is_not_waited_for(
    own_server: Server, tmp_path: Path, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(own_server.url, tmp_path)
    save(store, 1)
    write = sql.PostgresStore._write  # noqa: SLF001
    monkeypatch.setattr(sql, "_WAIT_S", 0.5)

    def frozen(self: Any, cursor: Any, baseline: Any) -> None:
        with own_server.frozen():
            write(self, cursor, baseline)

    with monkeypatch.context() as patched:
        patched.setattr(sql.PostgresStore, "_write", frozen)
        with pytest.raises(BaselineError, match="no answer for more than 0 s"):
            save(store, 2)
    assert sessions(store) == ["session-1"]


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra 'postgres')")
    monkeypatch.setattr(sql, "_CONNECT_S", 2)  # the least that libpq takes
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(BaselineError, match=rf"postgresql://u:…@127\.0\.0\.1:{port}/d: ") as raised:
            open_store(f"postgresql://u:not-shown@127.0.0.1:{port}/d", tmp_path).all()
    assert "not-shown" not in str(raised.value)


def test_a_table_that_another_holds_is_not_waited_for(
    own_server: Server, tmp_path: Path, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    store = open_store(own_server.url, tmp_path)
    save(store, 1)
    monkeypatch.setattr(sql, "_WAIT_S", 0.5)
    with psycopg.connect(own_server.url) as other:
        other.execute("LOCK TABLE slmperf_baselines IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BaselineError, match="postgresql://slm:…@/postgres"):
            store.all()
    assert sessions(store) == ["session-1"]


@pytest.mark.parametrize("kind", ["files", "sqlite", "postgres"])
def test_twenty_writers_at_once_lose_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, make_result: MakeResult, make_session: MakeSession,
    make_machine: Callable[..., Machine],
) -> None:  # fmt: skip
    place = {"files": str(tmp_path / "b"), "sqlite": f"sqlite:///{tmp_path}/b.db"}.get(kind)
    place = place or request.getfixturevalue("own_server").url
    begin = threading.Barrier(20)

    def write(number: int) -> None:
        store = open_store(place, tmp_path)
        begin.wait()
        store.save("main", make_result(f"t.py::test_{number}"), make_session(1), make_machine())
        store.remember(make_result("t.py::test_shared"), make_session(number + 1), make_machine())

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(20)))
    store = open_store(place, tmp_path)
    machine = fingerprint.of(make_machine(), make_result().engine)
    assert len(store.all()) == 20
    assert len(store.history(machine, "t.py::test_shared")) == 20


@pytest.mark.parametrize("place", ["host=h password=not-shown-1 dbname=d", "password='not-shown-1' host=h", "dbname=d"])
def test_the_form_of_libpq_is_no_folder(tmp_path: Path, place: str) -> None:
    with pytest.raises(InvalidInput, match="write postgresql://") as raised:
        open_store(place, tmp_path)
    assert "not-shown-1" not in str(raised.value)
