"""PostgreSQL servers of the test session's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import postgres


def _served(asks: str) -> Iterator[postgres.Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra 'postgres')")
    with postgres.serve(asks) as server:
        if server is None:
            pytest.skip("no PostgreSQL server here (Debian package postgresql)")
        yield server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an empty database; skips where PostgreSQL or psycopg is not installed."""
    for server in _served("trust"):
        yield server.url


@pytest.fixture
def own_server() -> Iterator[postgres.Server]:
    """A server of this test's own, which it may end, and which asks for the password."""
    yield from _served("scram-sha-256")
