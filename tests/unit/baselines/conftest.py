"""A PostgreSQL server of the test session's own, on a socket in a temporary folder, where its binaries are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an empty database; skips where PostgreSQL or psycopg is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra 'postgres')")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here (Debian package postgresql)")
    with tempfile.TemporaryDirectory(prefix="slmperf-pg-") as name:
        folder = Path(name)
        as_user: list[str] = []
        if os.getuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

        def run(program: str, *words: str) -> None:
            done = subprocess.run(
                [*as_user, str(binaries / program), *words], cwd=name, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stdout + done.stderr

        data = str(folder / "data")
        run("initdb", "-D", data, "-U", "slm", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={name} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://slm:not-shown@/postgres?host={quote(name, safe='')}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
