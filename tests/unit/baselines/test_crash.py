"""A writer killed at any moment leaves the old file or the new one, and the next writer goes on from there."""

import signal
import subprocess
import sys
import time

import msgspec

from pytest_slmperf.baselines.stores.files import FileStore

WRITER = """
import itertools, sys
import msgspec
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.model.result import Machine
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.result import Session
result, session, machine = (msgspec.json.decode(line, type=kind)
                            for line, kind in zip(sys.stdin.buffer.read().splitlines(), (Result, Session, Machine)))
store = FileStore(sys.argv[1])
for number in itertools.count():
    session.id = f"{sys.argv[2]}-{number}"
    store.save("main", result, session, machine)
    store.remember(result, session, machine)
    print("saved", flush=True)
"""


def test_killed_while_saving(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    result = make_result(output_throughput=[[float(value) for value in range(1, 400)]] * 4)
    records = b"\n".join(msgspec.json.encode(one) for one in (result, make_session(), make_machine()))
    for attempt in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"s{attempt}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        writer.stdin.write(records)
        writer.stdin.close()
        assert writer.stdout.readline() == b"saved\n"
        time.sleep(0.02 + 0.011 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        (baseline,) = store.all()  # raises when the file is cut short
        assert all(len(launch) == 399 for launch in baseline.newest.metrics["output_throughput"].launches)
        assert store.history(baseline.fingerprint, baseline.id)
    store.save("main", result, make_session(28), make_machine())
    folder = next(store.paths()).parent
    assert [path.name for path in folder.iterdir()] == [next(store.paths()).name]  # nothing half-written is left
