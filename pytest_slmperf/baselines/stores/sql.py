"""Baselines in a database: the common part of SQLite and PostgreSQL, and each of the two (connecting, locking)."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

from pytest_slmperf import redaction
from pytest_slmperf.baselines import builder, codec
from pytest_slmperf.baselines.store import Store, check_name
from pytest_slmperf.environment import fingerprint as fingerprints
from pytest_slmperf.errors import BaselineError, InvalidInput, StoreUnavailable
from pytest_slmperf.model.baseline import Baseline, HistoryPoint
from pytest_slmperf.model.result import Machine, Result, Session
from pytest_slmperf.util import files, read_file

TABLES = (
    """CREATE TABLE IF NOT EXISTS slmperf_baselines (
        fingerprint TEXT NOT NULL, name TEXT NOT NULL, test TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (fingerprint, name, test))""",
    """CREATE TABLE IF NOT EXISTS slmperf_history (
        fingerprint TEXT NOT NULL, test TEXT NOT NULL, session TEXT NOT NULL, started_at TEXT NOT NULL,
        document TEXT NOT NULL, PRIMARY KEY (fingerprint, test, session))""",
)
Row = Sequence[Any]


class Cursor(Protocol):
    """The part of a DB-API cursor that is used here."""

    rowcount: int

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class SqlStore(Store):
    """A ``Store`` on tables. ``place``: name of the database in messages, without a password."""

    place: str
    placeholder = "?"

    @abstractmethod
    def _transaction(self, lock: str | None) -> AbstractContextManager[Cursor | None]:
        """A transaction. ``lock`` None: for reading, with None as the cursor if there is no database yet; else the tables
        are created, and writers with the same ``lock`` wait for each other. Database errors become BaselineError."""

    def __str__(self) -> str:
        return self.place

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        baselines = self._select(
            "fingerprint = ? AND name = ? AND test = ?", fingerprint, check_name(name), _key(test_id)
        )
        return baselines[0] if baselines else None

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        return self._select("name = ? AND test = ?", check_name(name), _key(test_id))

    def all(self, name: str | None = None) -> list[Baseline]:
        return self._select("1 = 1") if name is None else self._select("name = ?", name)

    def update(
        self, fingerprint: str, name: str, test_id: str, change: Callable[[Baseline | None], Baseline]
    ) -> Baseline:
        with self._transaction(lock=fingerprint) as cursor:
            assert cursor is not None
            where = "fingerprint = ? AND name = ? AND test = ?"
            stored = self._read(cursor, where, (fingerprint, name, _key(test_id)))
            baseline = change(stored[0] if stored else None)
            self._write(cursor, baseline)
        return baseline

    def put(self, baseline: Baseline) -> None:
        with self._transaction(lock=baseline.fingerprint) as cursor:
            assert cursor is not None
            self._write(cursor, baseline)

    def delete(self, baseline: Baseline) -> None:
        with self._transaction(lock=baseline.fingerprint) as cursor:
            assert cursor is not None
            key = (baseline.fingerprint, baseline.name, _key(baseline.id))
            self._run(cursor, "DELETE FROM slmperf_baselines WHERE fingerprint = ? AND name = ? AND test = ?", key)

    def rename(self, fingerprint: str, test_id: str, new_id: str) -> None:
        old, new = _key(test_id), _key(new_id)
        where = "fingerprint = ? AND test = ?"
        with self._transaction(lock=fingerprint) as cursor:
            assert cursor is not None
            taken = {baseline.name: baseline for baseline in self._read(cursor, where, (fingerprint, new))}
            moved = self._read(cursor, where, (fingerprint, old))
            for baseline in moved:
                baseline.id = new_id
                if taken.get(baseline.name, baseline) != baseline:
                    raise BaselineError(
                        f"{self.place}: {new_id!r} has a baseline {baseline.name!r} already; delete one of the two first"
                    )
            self._run(cursor, f"DELETE FROM slmperf_baselines WHERE {where}", (fingerprint, old))
            for baseline in moved:
                self._write(cursor, baseline)
            self._run(
                cursor,
                f"DELETE FROM slmperf_history WHERE {where} AND session IN "
                f"(SELECT session FROM slmperf_history WHERE {where})",
                (fingerprint, old, fingerprint, new),
            )
            self._run(cursor, f"UPDATE slmperf_history SET test = ? WHERE {where}", (new, fingerprint, old))

    def remember(self, result: Result, session: Session, machine: Machine, *, approved: bool = False) -> None:
        point = builder.point_of(result, session, approved)
        fingerprint, test = fingerprints.of(machine, result.engine), _key(result.id)
        with self._transaction(lock=fingerprint) as cursor:
            assert cursor is not None
            self._run(
                cursor,
                "INSERT INTO slmperf_history (fingerprint, test, session, started_at, document) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (fingerprint, test, session) DO UPDATE SET document = excluded.document",
                (fingerprint, test, _key(session.id), session.started_at, codec.line(point).decode()),
            )
            self._keep(cursor, fingerprint, test, codec.KEPT_HISTORY)
            self._thin(cursor, fingerprint, test)

    def history(self, fingerprint: str, test_id: str) -> list[HistoryPoint]:
        with self._transaction(lock=None) as cursor:
            if cursor is None:
                return []
            statement = (
                "SELECT document FROM slmperf_history WHERE fingerprint = ? AND test = ? ORDER BY started_at, session"
            )
            self._run(cursor, statement, (fingerprint, _key(test_id)))
            where = f"{self.place}: history of {test_id}"
            return [codec.decode_row(row[0].encode(), where, HistoryPoint) for row in cursor.fetchall()]

    def fingerprints(self) -> list[str]:
        statement = "SELECT fingerprint FROM slmperf_baselines UNION SELECT fingerprint FROM slmperf_history ORDER BY 1"
        return self._column(statement, ())

    def history_tests(self, fingerprint: str) -> list[str]:
        return self._column(
            "SELECT DISTINCT test FROM slmperf_history WHERE fingerprint = ? ORDER BY test", (fingerprint,)
        )

    def prune_history(self, keep: int) -> int:
        removed = 0
        with self._transaction(lock="history") as cursor:
            assert cursor is not None
            self._run(cursor, "SELECT DISTINCT fingerprint, test FROM slmperf_history", ())
            for fingerprint, test in cursor.fetchall():
                removed += self._keep(cursor, fingerprint, test, keep)
        return removed

    def _run(self, cursor: Cursor, statement: str, values: Sequence[Any]) -> None:
        cursor.execute(statement.replace("?", self.placeholder), tuple(values))

    def _column(self, statement: str, values: Sequence[Any]) -> list[str]:
        with self._transaction(lock=None) as cursor:
            if cursor is None:
                return []
            self._run(cursor, statement, values)
            return [row[0] for row in cursor.fetchall()]

    def _select(self, where: str, *values: str) -> list[Baseline]:
        with self._transaction(lock=None) as cursor:
            return [] if cursor is None else self._read(cursor, where, values)

    def _read(self, cursor: Cursor, where: str, values: Sequence[str]) -> list[Baseline]:
        columns = "fingerprint, name, test, document"
        self._run(
            cursor, f"SELECT {columns} FROM slmperf_baselines WHERE {where} ORDER BY fingerprint, name, test", values
        )
        return [self._document(row) for row in cursor.fetchall()]

    def _document(self, row: Row) -> Baseline:
        fingerprint, name, test, stored = row
        where = f"{self.place}: row {fingerprint}/{name}/{test}"
        data = str(stored).encode()
        if len(data) > read_file.MOST_BASELINE:
            raise BaselineError(
                f"{where}: {len(data) / 2**20:.0f} MiB is too much for a baseline; it was left untouched"
            )
        baseline = codec.decode(data, where, fingerprint, name)
        if _key(baseline.id) != test:
            raise BaselineError(f"{where}: its field 'id' is {baseline.id!r}; was it edited by hand? Delete the row")
        return baseline

    def _write(self, cursor: Cursor, baseline: Baseline) -> None:
        document = codec.line(baseline)
        read_file.room(f"{self.place}: {baseline.id}", len(document), read_file.MOST_BASELINE, codec.SMALLER)
        self._run(
            cursor,
            "INSERT INTO slmperf_baselines (fingerprint, name, test, document) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (fingerprint, name, test) DO UPDATE SET document = excluded.document",
            (baseline.fingerprint, baseline.name, _key(baseline.id), document.decode()),
        )

    def _keep(self, cursor: Cursor, fingerprint: str, test: str, keep: int) -> int:
        """Delete all but the newest ``keep`` points of a test; returns the number of deleted points."""
        self._run(
            cursor,
            "DELETE FROM slmperf_history WHERE fingerprint = ? AND test = ? AND session NOT IN (SELECT session FROM "
            "slmperf_history WHERE fingerprint = ? AND test = ? ORDER BY started_at DESC, session DESC LIMIT ?)",
            (fingerprint, test, fingerprint, test, keep),
        )
        return max(0, cursor.rowcount)

    def _thin(self, cursor: Cursor, fingerprint: str, test: str) -> None:
        """Keep a test's points within the limit of reading."""
        where = "fingerprint = ? AND test = ?"
        ordered = f"SELECT session, length(document) FROM slmperf_history WHERE {where} ORDER BY started_at, session"
        self._run(cursor, ordered, (fingerprint, test))
        rows = cursor.fetchall()
        kept = {rows[place][0] for place in codec.kept_places([row[1] for row in rows], read_file.MOST_HISTORY)}
        for session in (row[0] for row in rows if row[0] not in kept):
            self._run(
                cursor, f"DELETE FROM slmperf_history WHERE {where} AND session = ?", (fingerprint, test, session)
            )


def _key(name: str) -> str:
    """A name in a form that every database accepts (PostgreSQL refuses the character NUL)."""
    return codec.clean(name).replace("\0", "\N{REPLACEMENT CHARACTER}")


# Baselines in an SQLite file: ``--slmperf-baselines sqlite:///PATH``.

_WAIT_S = 60.0  # longest wait for another session's write, which takes milliseconds


class SqliteStore(SqlStore):
    """A store in one file, which the first save creates."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.place = f"sqlite:///{self.path}"

    @contextmanager
    def _transaction(self, lock: str | None) -> Iterator[Cursor | None]:
        there = read_file.exists(self.path)
        if there:
            read_file.check(self.path)
        elif lock is None:
            yield None
            return
        else:
            files.make_folder(self.path.parent)
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                cursor = connection.cursor()
                # IMMEDIATE takes the write lock before reading, so that two sessions cannot update the same state.
                cursor.execute("BEGIN" if lock is None else "BEGIN IMMEDIATE")
                try:
                    if lock is not None:
                        for table in TABLES:
                            cursor.execute(table)
                    # A failed save (a full disk) may have left an empty database, in which nothing is stored yet.
                    yield cast(Cursor, cursor) if lock is not None or _has_tables(cursor) else None
                except BaseException:
                    with suppress(sqlite3.Error):  # after some failures there is no transaction to undo
                        cursor.execute("ROLLBACK")
                    raise
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.place}: {_explained(error)}. Nothing was changed") from error


def _explained(error: sqlite3.Error) -> str:
    """Cause and fix of SQLite's error."""
    code = vars(error).get("sqlite_errorcode", 0) & 0xFF  # absent in some errors of Python's own module
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process has held it for more than {_WAIT_S:.0f} s; run again when it is done"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"cannot be written ({error}); the disk may be full: free some space and save again"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{error}; restore the file from a copy, or remove it to start anew"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"{error}; may it and its folder be written?"
    return f"{error}; is it a database of pytest-slmperf?"


def _has_tables(cursor: sqlite3.Cursor) -> bool:
    cursor.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'slmperf%'")
    return int(cursor.fetchone()[0]) == len(TABLES)


# Baselines in PostgreSQL: ``--slmperf-baselines postgresql://USER@HOST/DATABASE`` (extra ``postgres``). The password comes
# from the URL, or better from ``PGPASSWORD`` or ``~/.pgpass``; it is never shown or written.

_CONNECT_S = 10
_LOCK_CLASS = 0x51E9  # class of the advisory locks, which keeps them apart from other applications' locks


class PostgresStore(SqlStore):
    """A store in a PostgreSQL database, whose tables the first save creates."""

    placeholder = "%s"

    def __init__(self, url: str) -> None:
        self.place = redaction.address(url)
        redaction.remember_address(url)
        self._url = url
        try:
            import psycopg
        except ImportError as error:
            raise InvalidInput(
                f"{self.place}: baselines in PostgreSQL need psycopg: pip install 'pytest-slmperf[postgres]' ({error})"
            ) from error
        self._psycopg: Any = psycopg

    @contextmanager
    def _transaction(self, lock: str | None) -> Iterator[Cursor | None]:
        given_up = threading.Event()
        try:
            with (
                self._psycopg.connect(self._url, connect_timeout=_CONNECT_S) as connection,
                _bounded(connection, given_up),
                connection.cursor() as cursor,
            ):
                waits = f"{_WAIT_S * 1e3:.0f}"
                cursor.execute(
                    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
                    (waits, waits),
                )
                if lock is None:
                    cursor.execute("SELECT to_regclass('slmperf_baselines')")
                    yield cast(Cursor, cursor) if cursor.fetchone()[0] is not None else None
                    return
                # A lock for all tables comes first: simultaneous CREATE TABLE IF NOT EXISTS in two sessions can fail.
                cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK_CLASS,))
                for table in TABLES:
                    cursor.execute(table)
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_CLASS, _number(lock)))
                yield cast(Cursor, cursor)
        except self._psycopg.Error as error:
            # A failed connection's message may repeat the connection string.
            said = str(error).replace(self._url, self.place).strip().split("\n")[0] or type(error).__name__
            if given_up.is_set():
                said = f"no answer for more than {_WAIT_S:.0f} s"
            raise StoreUnavailable(f"{self.place}: {said}. Nothing was changed") from error


@contextmanager
def _bounded(connection: Any, given_up: threading.Event) -> Iterator[None]:
    """End a transaction whose server no longer answers, when the server's own limits have no effect. Sets ``given_up``."""

    def shut() -> None:
        given_up.set()
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(2 * _WAIT_S, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _number(name: str) -> int:
    """A positive 31-bit number for an advisory lock: equal for equal names, and never 0, the lock of the tables."""
    return (zlib.crc32(name.encode()) & 0x7FFFFFFF) or 1
