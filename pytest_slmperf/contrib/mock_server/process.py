"""A mock server in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.errors import EngineError

_PROGRAM = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); from pytest_slmperf.contrib.mock_server.plan import MockPlan; "
    "from pytest_slmperf.contrib.mock_server.server import run; "
    "sys.exit(run(MockPlan.from_dict(json.loads(sys.argv[2])), '127.0.0.1', int(sys.argv[3])))"
)


class MockServer:
    """Runs from construction to ``stop`` (or the end of a ``with``). ``url`` ends in ``/v1``."""

    def __init__(self, plan: MockPlan | None = None, *, cpus: Sequence[int] | None = None, port: int = 0) -> None:
        self.plan = plan or MockPlan()
        root = str(Path(__file__).parents[3])
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _PROGRAM, root, json.dumps(self.plan.as_dict()), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if cpus:
            os.sched_setaffinity(self._process.pid, cpus)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "http://" not in line:
            self.stop()
            raise EngineError(f"the mock server did not start (it ended with {self._process.returncode})")
        self.url = line[line.index("http://") :].strip()
        self.port = int(self.url.removesuffix("/v1").rpartition(":")[2])
        self.pid = self._process.pid

    def truth(self, clear: bool = False) -> list[dict[str, Any]]:
        """The record of each answered request: received_ns, times_ns, tokens, n_in, n_out, fault, user."""
        address = f"{self.url.removesuffix('/v1')}/truth{'?clear' if clear else ''}"
        past_proxies = urllib.request.build_opener(
            urllib.request.ProxyHandler({})
        )  # they cannot reach this machine's ports
        with past_proxies.open(address, timeout=60) as answer:
            result: list[dict[str, Any]] = json.load(answer)
        return result

    def kill(self) -> None:
        """Kill the server, like a crash."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> MockServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
