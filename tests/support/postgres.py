"""A PostgreSQL server of the tests' own, on a socket in a temporary folder, where its binaries are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "slm", "not-shown"


def binaries() -> Path | None:
    """The folder of the newest server's programs; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """One server; ``url`` is that of an empty database in it."""

    def __init__(self, folder: Path, programs: Path, asks: str = "trust") -> None:
        self._folder, self._programs = folder, programs
        self._as_user: list[str] = []
        if os.getuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.url = f"postgresql://{USER}:{PASSWORD}@/postgres?host={quote(str(folder), safe='')}"
        word = folder / "word"
        word.write_text(PASSWORD)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", asks, f"--pwfile={word}", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *words],
            cwd=self._folder, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it as a crash would: nothing is finished."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    @property
    def pid(self) -> int:
        """The process that the others are children of; SIGQUIT ends them all at once."""
        return int((self._folder / "data/postmaster.pid").read_text().splitlines()[0])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of it stopped (SIGSTOP): connections stay open, and nothing answers."""
        parent = self.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        pids = [parent, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.1)


@contextmanager
def serve(asks: str = "trust") -> Iterator[Server | None]:
    """A running server, which asks for passwords as ``asks`` says; None where no programs are installed."""
    programs = binaries()
    if programs is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="slmperf-pg-") as name:
        server = Server(Path(name), programs, asks)
        try:
            yield server
        finally:
            server.stop()
