"""The life of an engine's process: it serves, it fails in every way, and nothing of it is ever left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_gone

from pytest_slmperf.engines import reading_gate
from pytest_slmperf.engines.base import Batch, EngineState
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.reading_gate import read_round
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.model.engine_spec import EngineSpec

WORK = Batch(batch=4, input_len=8, output_len=8)


def left_of(engine: EngineProcess) -> list[int]:
    return worker_tools.marked(engine.marker)


def test_serves_rounds_and_says_what_it_is(launch) -> None:
    engine = launch()
    assert engine.state is EngineState.READY
    assert engine.facts["weights"] == "simulated"
    assert engine.start_time_s > 0
    first, second = engine.generate(WORK), engine.generate(WORK)
    assert (first.n_in, first.n_out, first.completed) == (32, 32, 4)
    assert first.t_start < first.t_end <= second.t_start
    assert all(r.t_sent <= r.t_first <= r.t_last <= first.t_end for r in first.requests)
    assert engine.counters()["output_tokens"] == 64
    engine.reset_caches()


def test_runs_in_a_session_of_its_own_and_stops_without_a_trace(launch) -> None:
    engine = launch()
    assert os.getsid(engine.pid) == engine.pid != os.getsid(0)
    assert engine.pid in left_of(engine)
    engine.stop()
    engine.stop()
    assert engine.state is EngineState.STOPPED
    assert left_of(engine) == []
    assert not engine.alive()
    with pytest.raises(EngineError, match="is stopped"):
        engine.generate(WORK)


def test_killed_in_a_round_names_the_signal_and_shows_the_log(launch) -> None:
    engine = launch(fail="round-kill", fail_round=2)
    engine.generate(WORK)
    with pytest.raises(EngineError, match="was killed by SIGKILL") as caught:
        engine.generate(WORK)
    assert "simulated failure: round-kill" in str(caught.value)
    assert engine.state is EngineState.FAILED
    assert left_of(engine) == []


def test_killed_from_outside_between_rounds(launch) -> None:
    engine = launch()
    os.kill(engine.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while engine.alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert not engine.alive()
    with pytest.raises(EngineError, match="SIGKILL"):
        engine.generate(WORK)


def test_what_left_the_process_group_is_killed_too(launch) -> None:
    engine = launch(fail="round-child")
    with pytest.raises(EngineError, match="SIGKILL"):
        engine.generate(WORK)
    assert left_of(engine) == []


def test_hung_is_killed_after_its_time_and_shows_where_it_hung(launch) -> None:
    engine = launch(fail="round-hang")
    with pytest.raises(EngineError, match=r"no answer in 'generate' within 0\.3 s; it hung") as caught:
        engine.generate(WORK, timeout_s=0.3)
    assert "_maybe_fail" in caught.value.log_tail
    assert engine.state is EngineState.FAILED
    assert left_of(engine) == []


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("start-kill", "killed by SIGKILL"),
        ("start-exit", "exit status 3 while it started"),
        ("start-memory", "out of memory"),
        ("start-error", "RuntimeError: simulated error"),
    ],
)
def test_failed_start_leaves_nothing(launch, how: str, says: str) -> None:
    with pytest.raises(EngineError, match=says) as caught:
        launch(fail=how)
    assert f"simulated failure: {how}" in caught.value.log_tail
    assert isinstance(caught.value, OutOfMemory) == (how == "start-memory")


def test_hang_at_the_start_ends_after_the_time_that_the_pool_was_given(tmp_path: Path) -> None:
    spec = EngineSpec("simulated", "opt-125m").with_settings(fail="start-hang")
    with (
        EnginePool(Registry(builtin_adapters()), tmp_path, start_timeout_s=0.5) as pool,
        pytest.raises(EngineError, match=r"no answer to start within [01] s[\s\S]*--slmperf-start-timeout"),
    ):
        pool.acquire(spec)


def test_a_refused_request_leaves_the_engine_ready(launch) -> None:
    engine = launch(kv_cache_tokens=64)
    with pytest.raises(InvalidInput, match="does not fit the KV cache of 64"):
        engine.generate(Batch(1, 64, 64))
    assert engine.generate(Batch(1, 8, 8)).n_out == 8


def test_unknown_operation_is_refused(launch) -> None:
    with pytest.raises(InvalidInput, match="no operation 'fly'"):
        launch().call("fly", {})


@pytest.mark.parametrize("name", ["_run", "__init__"])
def test_private_methods_cannot_be_called(launch, name: str) -> None:
    with pytest.raises(InvalidInput, match="no operation"):
        launch().call(name, {})


def worker(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "adapter_worker.py"
    path.write_text("import os, sys, time\nimport slmperf_worker_tools as tools\n" + textwrap.dedent(body))
    return path


def engine_of(tmp_path: Path, body: str, **more: Any) -> EngineProcess:
    return EngineProcess(EngineSpec("custom", "m"), worker(tmp_path, body), tmp_path / "engine.log", **more)


def test_a_library_that_prints_cannot_corrupt_the_protocol(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        class Noisy:
            def start(self):
                print("x" * 100_000); os.write(1, b"raw"); os.write(2, b"stderr")
                return {}
            def size(self, data):
                print(data); print("after it", file=sys.stderr)
                return len(data)
        def create(spec, report): return Noisy()
        """,
    )
    engine.start({})
    assert engine.call("size", {"data": "y" * 3_000_000}) == {"value": 3_000_000}
    engine.stop()
    assert "stderr" in engine.log_path.read_text()
    assert len(engine.log_tail()) <= 16 * 1024


def test_events_of_a_call_reach_its_caller(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        class Telling:
            def __init__(self, report): self.report = report
            def start(self): self.report.progress("warming up"); return {}
            def count(self, n):
                for i in range(n): self.report.event(i=i)
                return {"n": n}
        def create(spec, report): return Telling(report)
        """,
    )
    phrases: list[str] = []
    engine.start({}, phrases.append)
    events: list[dict[str, object]] = []
    assert engine.call("count", {"n": 3}, on_event=events.append) == {"n": 3}
    assert phrases == ["warming up"]
    assert events == [{"i": 0}, {"i": 1}, {"i": 2}]
    engine.stop()


def test_an_answer_that_is_not_json_is_an_error_not_a_hang(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        class Odd:
            def start(self): return {}
            def nan(self): return {"x": float("nan")}
        def create(spec, report): return Odd()
        """,
    )
    engine.start({})
    with pytest.raises(EngineError, match="not JSON compliant"):
        engine.call("nan", {})


def test_worker_sees_only_its_own_folders_on_the_path(tmp_path: Path) -> None:
    """The folder of worker.py holds vllm.py, which must not be what ``import vllm`` finds."""
    engine = engine_of(
        tmp_path,
        """
        class Paths:
            def start(self): return {"path": sys.path, "modules": sorted(sys.modules)}
        def create(spec, report): return Paths()
        """,
    )
    engine.start({})
    here = Path(worker_tools.__file__).parent
    assert str(here) not in engine.facts["path"]
    assert not any(
        name.partition(".")[0] in ("pytest_slmperf", "pytest", "msgspec") for name in engine.facts["modules"]
    )
    engine.stop()


def test_affinity_and_environment_reach_the_process(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    spec = EngineSpec("custom", "m", cpus=(core,), env=(("SLM_TEST", "1"),))
    path = worker(
        tmp_path,
        """
        class Where:
            def start(self): return {"cpus": sorted(os.sched_getaffinity(0)), "env": os.environ["SLM_TEST"]}
        def create(spec, report): return Where()
        """,
    )
    engine = EngineProcess(spec, path, tmp_path / "engine.log")
    engine.start({})
    assert engine.facts["cpus"] == [core]
    assert engine.facts["env"] == "1"
    engine.stop()


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, "", python="/nowhere/python")
    with pytest.raises(EngineMissing, match="cannot run /nowhere/python"):
        engine.start({})


def test_an_interrupted_call_ends_the_engine(launch) -> None:
    engine = launch()

    def interrupt(_: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.call("start", {}, on_event=interrupt)
    assert engine.state is EngineState.FAILED
    assert left_of(engine) == []


@pytest.mark.parametrize("how", ["exit", "kill", "thread"])
def test_the_engine_dies_with_its_parent(tmp_path: Path, how: str) -> None:
    """Also when the parent is killed and can clean up nothing, whichever thread started the engine."""
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, threading
            from pathlib import Path
            from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
            from pytest_slmperf.model.engine_spec import EngineSpec
            adapter = SimulatedAdapter()
            def run():
                global engine
                spec = adapter.resolve(EngineSpec("simulated", "opt-125m"))
                engine = adapter.launch(spec, log_path=Path(sys.argv[2]), progress=lambda text: None)
            if sys.argv[1] == "thread":
                thread = threading.Thread(target=run); thread.start(); thread.join()
                assert engine.counters()["rounds"] == 0  # outlives the thread that started it
            else:
                run()
            print(engine.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] != "exit" else os._exit(0)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), how, str(tmp_path / "engine.log")], capture_output=True, text=True, timeout=60
    )
    assert wait_gone(int(done.stdout)), done.stderr


def test_what_an_engine_started_dies_with_it_when_it_was_paused_and_the_parent_is_killed(tmp_path: Path) -> None:
    """A server, or an engine core in a process of its own, kept the device: its worker had no time left to end it."""
    server, script = tmp_path / "server", tmp_path / "parent.py"
    # without the SIGHUP that the kernel sends to a group of stopped processes without parents, as under nohup
    server.write_text(
        f"#!/bin/sh\ntrap '' HUP\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nexec sleep 300\n"
    )
    server.chmod(0o755)
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, threading, time
            from pathlib import Path
            from pytest_slmperf.engines.vllm_server.adapter import WORKER_FILE, ServerEngine
            from pytest_slmperf.model.engine_spec import EngineSpec
            folder = Path(sys.argv[1])
            engine = ServerEngine(EngineSpec("vllm-server", "m", device="cpu"), WORKER_FILE, folder / "engine.log")
            def kill():
                while not (folder / "pid").exists():
                    time.sleep(0.01)
                os.kill(engine.pid, signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=kill).start()
            command = {"command": [str(folder / "server")], "start_timeout_s": 60, "model": "m", "device": "cpu"}
            engine.start(command, lambda text: None)
            """
        )
    )
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    assert wait_gone(int((tmp_path / "pid").read_text()))


def test_a_round_without_its_fields_is_named() -> None:
    with pytest.raises(EngineError, match="t_start"):
        read_round({"n_in": 1})


@pytest.mark.parametrize(
    ("created", "facts", "says"),
    [
        ({"pid": 0}, {}, "names process 0"),  # a signal to 0 reaches the session's own processes
        ({"pid": -1}, {}, "names process -1"),
        ({"pid": "7"}, {}, "names process '7'"),
        ({}, {"start_time_s": [1]}, r"start_time_s: \[1\] is no number"),
        ({}, {"start_time_s": -3.0}, "-3.0 s is not within"),
        ({}, {"t_first_served": {}}, "t_first_served: {} is no number"),
        ({}, {"max_model_len": "4096"}, "max_model_len: '4096' is no whole number"),
        ({}, {"pids": 5}, "pids: 5 is no list"),
    ],
)
def test_facts_of_a_start_that_cannot_be_are_named(created, facts, says) -> None:

    def read() -> None:
        reading_gate.read_pid(created, 7)
        reading_gate.check_facts(facts)
        reading_gate.take_start_time(facts, time.monotonic())

    with pytest.raises(EngineError, match=says):
        read()


def test_a_clock_without_a_time_is_an_error_of_the_engine(tmp_path: Path) -> None:
    engine = engine_of(
        tmp_path,
        """
        class Odd:
            def start(self): return {"clock": "virtual", "start_time_s": 1.5}
            def clock(self): return {}
        def create(spec, report): return Odd()
        """,
    )
    engine.start({})
    assert engine.start_time_s == 1.5
    assert "start_time_s" not in engine.facts
    with pytest.raises(EngineError, match="'clock' has no 'now'"):
        engine.clock()
    engine.stop()


@pytest.mark.parametrize("frame", ['{"id": 1, "event": "x"}', '{"id": 1, "ok": false, "error": "x"}', '{"id": 1}'])
def test_frames_of_another_form_are_errors_of_the_engine(tmp_path: Path, frame: str) -> None:
    engine = engine_of(
        tmp_path,
        f"""
        import os, sys
        body = {frame.encode()!r}
        os.write(int(sys.argv[-1]), len(body).to_bytes(4, "big") + body)
        def create(spec, report): return None
        """,
    )
    with pytest.raises(EngineError):
        engine.start({}, timeout_s=20.0)


def test_a_module_of_the_current_folder_is_not_what_the_engine_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file ``regex.py`` in the current folder broke vLLM's server, which ``python -m`` starts."""
    (tmp_path / "regex.py").write_text("raise ImportError('the wrong regex')")
    monkeypatch.chdir(tmp_path)
    engine = engine_of(
        tmp_path,
        """
        import subprocess
        class Paths:
            def start(self):
                run = subprocess.run([sys.executable, "-m", "site"], capture_output=True, text=True)
                return {"paths": run.stdout}
        def create(spec, report): return Paths()
        """,
    )
    engine.start({})
    assert f"'{tmp_path}'" not in engine.facts["paths"]
    engine.stop()
