"""Baselines in PostgreSQL: ``--slmperf-baselines postgresql://USER@HOST/DATABASE`` (extra ``postgres``).

The password comes from the URL, or better from ``PGPASSWORD`` or ``~/.pgpass``; it is never shown or written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from pytest_slmperf.baselines.stores.sql import TABLES, Cursor, SqlStore
from pytest_slmperf.errors import BaselineError, InvalidInput

_CONNECT_S = 10
_LOCK_CLASS = 0x51E9  # of the advisory locks, so that they do not meet another application's


class PostgresStore(SqlStore):
    """A store in a PostgreSQL database; the tables are made at the first save."""

    placeholder = "%s"

    def __init__(self, url: str) -> None:
        self.place = without_password(url)
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
        try:
            with (
                self._psycopg.connect(self._url, connect_timeout=_CONNECT_S) as connection,
                connection.cursor() as cursor,
            ):
                if lock is None:
                    cursor.execute("SELECT to_regclass('slmperf_baselines')")
                    yield cast(Cursor, cursor) if cursor.fetchone()[0] is not None else None
                    return
                # One lock for all tables, taken first: CREATE TABLE IF NOT EXISTS by two sessions at once fails otherwise.
                cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK_CLASS,))
                for table in TABLES:
                    cursor.execute(table)
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_CLASS, _number(lock)))
                yield cast(Cursor, cursor)
        except self._psycopg.Error as error:
            # A failed connection's message may repeat the connection string.
            said = str(error).replace(self._url, self.place).strip().splitlines()
            raise BaselineError(
                f"{self.place}: {said[0] if said else type(error).__name__}. Nothing was changed"
            ) from error


def without_password(url: str) -> str:
    """The URL as it may be shown: no password, no query (which may hold one)."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username
    return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, "", ""))


def _number(name: str) -> int:
    """A positive 31-bit number for an advisory lock; equal for equal names, never the tables' 0."""
    return (zlib.crc32(name.encode()) & 0x7FFFFFFF) or 1
