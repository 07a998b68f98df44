"""Baselines in an SQLite file: ``--slmperf-baselines sqlite:///PATH``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

from pytest_slmperf.baselines.stores.sql import TABLES, Cursor, SqlStore
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import atomic_write

_WAIT_S = 60.0  # for another session's write, which takes milliseconds


class SqliteStore(SqlStore):
    """A store in one file, made at the first save."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.place = f"sqlite:///{self.path}"

    @contextmanager
    def _transaction(self, lock: str | None) -> Iterator[Cursor | None]:
        if lock is None and not self.path.is_file():
            yield None
            return
        if lock is not None:
            atomic_write.make_folder(self.path.parent)
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                cursor = connection.cursor()
                # IMMEDIATE takes the write lock before reading, so that two sessions cannot merge into the same state.
                cursor.execute("BEGIN" if lock is None else "BEGIN IMMEDIATE")
                try:
                    if lock is not None:
                        for table in TABLES:
                            cursor.execute(table)
                    # a save that failed (a full disk) may have left an empty database: then nothing is stored yet
                    yield cast(Cursor, cursor) if lock is not None or _has_tables(cursor) else None
                except BaseException:
                    cursor.execute("ROLLBACK")
                    raise
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise BaselineError(
                f"{self.place}: {error}. Nothing was changed; is it a database of pytest-slmperf, and may it be written?"
            ) from error


def _has_tables(cursor: sqlite3.Cursor) -> bool:
    cursor.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'slmperf%'")
    return int(cursor.fetchone()[0]) == len(TABLES)
