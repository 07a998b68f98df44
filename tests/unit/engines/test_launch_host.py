"""A launch host: it forks what it imported, ends with its parent and ends its children, and says why it cannot fork."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import wait_gone

from pytest_slmperf.engines import launch_host
from pytest_slmperf.engines.launch_host import ForkedProcess, HostFailed, HostProgram, LaunchHost
from pytest_slmperf.engines.stall import Stall
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.util.framing import Decoder, pack, read_message, write_all

MARKER = "ab" * 16  # all that carries it ends with its child, so children that live side by side need one each
WORKER = """
    import os, subprocess
    imported_in = os.getpid()
    def prepare():
        {prepare}
    class Worker:
        def start(self):
            {start}
            given = os.environ.get("GIVEN")
            return {{"pid": os.getpid(), "imported_in": imported_in, "given": given, "cwd": os.getcwd()}}
    def create(spec, report):
        return Worker()
"""

Opened = tuple[ForkedProcess, int, int]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LaunchHost]]:
    hosts = []

    def start(prepare: str = "pass", start: str = "pass", timeout_s: float = 20.0) -> LaunchHost:
        worker = tmp_path / "worker.py"
        worker.write_text(textwrap.dedent(WORKER).format(prepare=prepare, start=start))
        host = LaunchHost(HostProgram(worker, flags=("-S", "-E")), tmp_path / "host.log")
        hosts.append(host)
        host.start(lambda text: None, timeout_s)
        return host

    yield start
    for host in hosts:
        host.stop()


def fork(host: LaunchHost, log: Path, marker: str = MARKER, **env: str) -> Opened:
    """A child, the descriptor that it reads commands from, and the one that it writes answers to."""
    command_read, commands = os.pipe()
    events, event_write = os.pipe()
    with log.open("ab") as file:
        child = host.fork({worker_tools.MARKER: marker} | env, command_read, event_write, file.fileno())
    os.close(command_read)
    os.close(event_write)
    return child, commands, events


def ask(opened: Opened) -> dict[str, object]:
    """What the child's worker says at its start."""
    _, commands, events = opened
    decoder = Decoder()
    for number, name in enumerate(("create", "start")):
        write_all(commands, pack({"id": number, "call": name, "params": {"spec": {}} if name == "create" else {}}))
        answer = read_message(events, decoder)
    assert answer is not None
    assert answer["ok"], answer
    result: dict[str, object] = answer["result"]
    return result


def test_children_have_what_the_host_imported_and_a_session_log_and_environment_of_their_own(make, tmp_path) -> None:
    host = make(start="print('hello from', os.environ['GIVEN'])")
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    opened = [fork(host, log, marker, GIVEN=log.name) for log, marker in zip(logs, (MARKER, "cd" * 16), strict=True)]
    answers = [ask(each) for each in opened]
    assert [answer["imported_in"] for answer in answers] == [host.pid, host.pid]
    assert [answer["pid"] for answer in answers] == [child.pid for child, _, _ in opened]
    assert [os.getsid(child.pid) for child, _, _ in opened] == [child.pid for child, _, _ in opened]
    for log, each in zip(logs, opened, strict=True):
        assert ask_stop(each) == 0
        assert f"hello from {log.name}" in log.read_text()


def ask_stop(opened: Opened) -> int:
    child, commands, _ = opened
    write_all(commands, pack({"id": 9, "call": "stop", "params": {}}))
    return child.wait(5)


def test_a_child_has_the_variables_and_the_folder_of_the_moment_of_its_fork(make, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GIVEN", "before")
    host = make()
    monkeypatch.delenv("GIVEN")
    monkeypatch.chdir(tmp_path)
    answer = ask(fork(host, tmp_path / "log"))
    assert (answer["given"], answer["cwd"]) == (None, str(tmp_path))


def test_the_end_of_a_child_is_known_by_its_code_and_its_number_stays_taken_until_then(make, tmp_path) -> None:
    host = make()
    stopped, killed = fork(host, tmp_path / "log"), fork(host, tmp_path / "log", "cd" * 16)
    ask(stopped)
    assert stopped[0].poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        stopped[0].wait(0.01)
    assert ask_stop(stopped) == 0
    os.kill(killed[0].pid, signal.SIGKILL)
    assert wait_gone(killed[0].pid)
    assert Path(f"/proc/{killed[0].pid}").exists()
    assert killed[0].wait(5) == -signal.SIGKILL
    fork(host, tmp_path / "log")  # the host has read the message before
    assert not Path(f"/proc/{killed[0].pid}").exists()


def test_a_child_and_what_it_starts_carry_the_childs_marker_and_not_the_hosts(make, tmp_path) -> None:
    host = make(start="subprocess.Popen(['sleep', '60'], start_new_session=True)")
    opened = fork(host, tmp_path / "log")
    ask(opened)
    carriers = worker_tools.marked(MARKER)
    assert opened[0].pid in carriers
    assert host.pid not in carriers
    os.kill(opened[0].pid, signal.SIGKILL)
    for pid in carriers:
        assert wait_gone(pid)


def test_a_closed_command_pipe_ends_the_child_and_leaves_the_host(make, tmp_path) -> None:
    host = make()
    child, commands, _ = fork(host, tmp_path / "log")
    os.close(commands)
    child.wait(5)
    assert host.alive()
    assert ask(fork(host, tmp_path / "log"))["imported_in"] == host.pid


def test_a_killed_host_takes_its_children_along_and_says_so(make, tmp_path) -> None:
    host = make()
    opened = fork(host, tmp_path / "log")
    ask(opened)
    os.kill(host.pid, signal.SIGKILL)
    assert opened[0].wait(5) == -signal.SIGKILL
    assert host.end() == "was killed by SIGKILL"
    with pytest.raises(HostFailed, match="was killed by SIGKILL"):
        fork(host, tmp_path / "log")


def test_stopping_the_host_ends_its_children(make, tmp_path) -> None:
    host = make()
    opened = fork(host, tmp_path / "log")
    ask(opened)
    host.stop()
    host.stop()
    assert wait_gone(opened[0].pid)
    assert wait_gone(host.pid)
    assert not host.alive()


def test_nothing_outlives_a_parent_that_was_killed(tmp_path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(WORKER).format(prepare="pass", start="pass"))
    program = f"""
        import os, signal
        from pathlib import Path
        from pytest_slmperf.engines.launch_host import HostProgram, LaunchHost
        host = LaunchHost(HostProgram(Path({str(worker)!r})), Path({str(tmp_path / "log")!r}))
        host.start(print, 20)
        reads, commands = os.pipe()
        events, writes = os.pipe()
        child = host.fork({{"{worker_tools.MARKER}": "{MARKER}"}}, reads, writes, 2)
        print(host.pid, child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    assert all(wait_gone(pid) for pid in pids)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", "started 1 thread"),
        ("raise RuntimeError('no such engine')", "RuntimeError: no such engine"),
        ("os._exit(3)", "ended with exit status 3"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_an_import_that_forbids_or_prevents_forks_is_named_and_nothing_is_left(make, prepare, reason) -> None:
    with pytest.raises(HostFailed, match=reason):
        make(prepare=prepare)


def test_an_import_that_hangs_ends_after_the_time_given(make, tmp_path) -> None:
    with pytest.raises(HostFailed, match="no answer within 1 s"):
        make(prepare="import time; time.sleep(60)", timeout_s=1.0)


def test_a_host_that_hangs_at_a_fork_is_killed(make, tmp_path, monkeypatch) -> None:
    host = make()
    monkeypatch.setattr(launch_host, "FORK_TIMEOUT_S", 0.5)
    os.kill(host.pid, signal.SIGSTOP)
    with pytest.raises(HostFailed, match="no answer within"):
        fork(host, tmp_path / "log")
    assert wait_gone(host.pid)


def test_a_python_that_is_none_is_named(tmp_path) -> None:
    host = LaunchHost(HostProgram(tmp_path / "worker.py", python="/no/such/python"), tmp_path / "log")
    with pytest.raises(HostFailed, match="cannot run /no/such/python"):
        host.start(lambda text: None, 5)


def test_a_launch_that_does_nothing_is_noticed_and_one_that_works_or_waits_for_its_compiler_is_not() -> None:
    now = [0.0]
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    idle, working, waiting = (
        subprocess.Popen(command, start_new_session=True) for command in (["sleep", "60"], spin, ["sleep", "60"])
    )
    compiler = subprocess.Popen(spin, start_new_session=True, env=os.environ | {worker_tools.MARKER: MARKER})
    try:
        stalls = [
            Stall(process.pid, marker, 60.0, lambda: now[0])
            for process, marker in ((idle, "none"), (working, "none"), (waiting, MARKER))
        ]
        time.sleep(0.3)  # each has started
        for stall in stalls:
            stall.check()
        now[0] = 61.0
        time.sleep(0.3)
        stalls[1].check()
        stalls[2].check()
        with pytest.raises(HostFailed, match="used no processor for 60 s"):
            stalls[0].check()
    finally:
        for process in (idle, working, waiting, compiler):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        (b"Loading", "sent b'Loading', which is no message"),
        (b"[" * 5000, "which is no message"),
        (b"[]", "which is no message"),
        (b"\xff", "which is no message"),
        (b'{"ended": 5}', "which is no message"),
        (b'{"ended": [[], 0]}', "which is no message"),
        (b'{"ready": {}}', "which is no time"),
        (b'{"ready": {"import_s": "2"}}', "which is no time"),
        (b'{"unfit": "two\\nlines"}', r"two\\nlines"),
    ],
)
def test_packets_of_another_form_are_failures_of_the_host(tmp_path: Path, packet: bytes, says: str) -> None:
    """Inputs of the fuzzing, which ended in tracebacks."""
    host = speaking(tmp_path, packet)
    with pytest.raises(HostFailed, match=says) as caught:
        host.start(lambda text: None, 20.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pid", [0, -1, "5", None, True, 2**40])
def test_a_child_that_is_no_process_is_a_failure_of_the_host(tmp_path: Path, pid: object) -> None:
    ready = {"ready": {"import_s": 1.0, "import_cpu_s": 1.0}}
    host = speaking(tmp_path, *(json.dumps(message).encode() for message in (ready, {"forked": pid})))
    host.start(lambda text: None, 20.0)
    with pytest.raises(HostFailed, match="which is no process"):
        host.fork({}, 0, 1, 2)


def speaking(folder: Path, *packets: bytes) -> LaunchHost:
    """A host, not started, that sends these packets whatever it is told."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable} -SE\nimport socket, sys\nchannel = socket.socket(fileno=int(sys.argv[3]))\n"
        f"for packet in {packets!r}: channel.send(packet)\nwhile channel.recv(1): pass\n"
    )
    program.chmod(0o700)
    return LaunchHost(HostProgram(folder / "worker.py", str(program)), folder / "host.log")
