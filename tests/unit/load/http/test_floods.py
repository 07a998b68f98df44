"""Load clients whatever comes: their memory stays bounded, and they end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from support.hostile_server import CHUNKED, HostileServer, chunk, event, forever

from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest

MOST_BYTES = 300 * 2**20
MIB = b"x" * 2**20


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    "answer",
    [
        forever(CHUNKED + chunk(b"data: {"), chunk(MIB)),
        forever(b"HTTP/1.1 200 OK\r\n\r\n", MIB),
        forever(CHUNKED, chunk(event("a") * 1000)),
        forever(CHUNKED, chunk(b":\n\n" * 5000)),
    ],
    ids=["line", "body", "events", "comments"],
)
def test_a_flood_fails_by_its_name_in_bounded_memory(answer, concurrency):
    """4.7 GB of memory, and hung for minutes, before answers had a budget."""
    requests = [PlannedRequest(number, "{}", n_out=2) for number in range(8)]
    load = LoadPlan(requests, loop="closed", concurrency=concurrency, limit_s=60.0, request_timeout_s=30.0)
    with HostileServer({"/completions": answer}) as server:
        outcome = drive(Target(server.url, key_env=None), load)
    assert set(outcome.requests.error) == {"too_large"}
    assert outcome.clients[0].max_rss_bytes < MOST_BYTES


PARENT = """
    import sys
    from pytest_slmperf.load.http import run_clients
    from pytest_slmperf.load.plan import LoadPlan, Target
    from pytest_slmperf.load.rows import PlannedRequest

    class Told(run_clients.LoadClient):
        def __init__(self, *args):
            super().__init__(*args)
            print(self.process.pid, flush=True)

    run_clients.LoadClient = Told
    load = LoadPlan([PlannedRequest(0, "{}", n_out=2)], loop="closed", concurrency=1)
    run_clients.drive(Target(sys.argv[1], key_env=None), load)
"""


def test_a_client_ends_with_its_parent_however_that_ends():
    """After SIGKILL to pytest its load client ran on alone for minutes."""
    with HostileServer({"/completions": forever(CHUNKED, chunk(b": still here\n\n"), 0.05)}) as server:
        command = [sys.executable, "-c", textwrap.dedent(PARENT), server.url]
        root = str(Path(__file__).parents[4])
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
        assert parent.stdout is not None
        client = int(parent.stdout.readline())
        while not server.requests:
            time.sleep(0.01)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        for _ in range(500):
            if not Path(f"/proc/{client}/cwd").exists():
                break
            time.sleep(0.01)
        assert not Path(f"/proc/{client}/cwd").exists()
