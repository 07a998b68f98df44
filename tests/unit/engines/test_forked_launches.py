"""Launches forked from launch hosts: the same engine, the same endings, and fresh starts where forks fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_slmperf.engines import process as engine_process
from pytest_slmperf.engines.base import Batch, Engine, EngineState
from pytest_slmperf.engines.launch_host import LaunchHosts
from pytest_slmperf.engines.pool import EnginePool, host_number
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError, OutOfMemory
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.statistics.crossover import candidate_goes_first

WORK = Batch(batch=4, input_len=8, output_len=8)


class Pool(EnginePool):
    """Forks, and keeps what is said."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Registry(builtin_adapters()), folder)
        self.said: list[str] = []
        self.hosts = LaunchHosts(folder, tell=self.said.append)

    def get(self, launch: int = 0, **changes: object) -> EngineProcess:
        engine = self.acquire(spec(**changes), launch)
        assert isinstance(engine, EngineProcess)
        return engine


def spec(**changes: object) -> EngineSpec:
    return EngineSpec("simulated", "opt-125m").with_settings(**{"forked": 1} | changes)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path)
    with pool:
        yield pool


def parent_of(engine: Engine) -> int:
    return parent_of_process(engine.facts.pids[0])


def parent_of_process(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_two_hosts_take_turns_and_a_pair_of_launches_shares_one(pool) -> None:
    first = [pool.get(launch) for launch in range(4)]
    other = [pool.get(launch, step_ms=2.0) for launch in range(4)]
    names = [engine.host for engine in first]
    assert names[0] == names[3] != names[1] == names[2]
    assert [engine.host for engine in other] == names
    assert len({parent_of(engine) for engine in first + other}) == 2
    assert os.getpid() not in {parent_of(engine) for engine in first}
    assert first[0].generate(WORK).n_out == other[0].generate(WORK).n_out == 32


def test_each_host_sees_both_orders_of_a_pair() -> None:
    for number in range(4):
        launches = [launch for launch in range(8) if host_number(launch) == number]
        assert sum(map(candidate_goes_first, launches)) == len(launches) / 2


@pytest.mark.parametrize("suspected_at", range(2, 14))
def test_three_launches_after_any_suspicion_bring_a_new_host(suspected_at) -> None:
    before = {host_number(launch) for launch in range(suspected_at)}
    assert len(before) >= 2
    assert {host_number(suspected_at + more) for more in range(3)} - before


def test_rounds_are_those_of_a_process_of_its_own(pool) -> None:
    own = Pool(pool.log_dir)
    own.hosts = None
    with own:
        alone = own.get().generate(WORK)
    forked = pool.get().generate(WORK)
    assert forked.n_out == alone.n_out
    assert forked.t_end - forked.t_start == pytest.approx(alone.t_end - alone.t_start)


def test_variables_that_changed_since_a_host_started_are_imported_by_another(pool, monkeypatch) -> None:
    """An engine may read any of them while it is imported."""
    before = pool.get(0)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")  # pytest's own say nothing to an engine
    assert pool.get(3).host == before.host
    monkeypatch.setenv("SOME_ENGINES_SWITCH", "on")
    assert pool.get(0, step_ms=2.0).host not in (None, before.host)


def test_a_fresh_launch_and_an_engine_that_does_not_ask_for_it_are_processes_of_their_own(pool) -> None:
    with pool.fresh(spec()) as engine:
        assert engine.host is None
        assert parent_of_process(parent_of(engine)) == os.getpid()  # its guardian stands between
    assert pool.get(forked=0).host is None


def test_stops_without_a_trace_and_the_host_goes_on(pool) -> None:
    engine = pool.get()
    host = parent_of(engine)
    engine.stop()
    assert engine.state is EngineState.STOPPED
    assert worker_tools.marked(engine.marker) == []
    again = pool.get()
    assert parent_of(again) == host
    pool.close()
    assert worker_tools.marked(again.marker) == []
    assert not Path(f"/proc/{host}").exists()


@pytest.mark.parametrize(
    ("how", "words"),
    [("kill", "was killed by SIGKILL"), ("exit", "exit status 3"), ("child", "was killed by SIGKILL")],
)
def test_a_round_that_ends_a_forked_launch_is_named_as_ever(pool, how, words) -> None:
    engine = pool.get(fail=f"round-{how}")
    with pytest.raises(EngineError, match=words):
        engine.generate(WORK)
    assert engine.state is EngineState.FAILED
    assert worker_tools.marked(engine.marker) == []


def test_a_paused_engine_stops_and_its_host_does_not(pool) -> None:
    engine = pool.get()
    pool.release(engine)
    deadline = time.monotonic() + 5
    while (state := Path(f"/proc/{engine.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]) != "T":
        assert time.monotonic() < deadline, state
    assert pool.get(3).host == engine.host
    assert pool.get().generate(WORK).completed == 4


def test_a_host_killed_in_the_middle_of_a_launch_fails_it_and_says_so_and_a_new_one_takes_its_place(pool) -> None:
    engine = pool.get()
    os.kill(parent_of(engine), signal.SIGKILL)
    while engine.alive():  # the kernel kills it in a moment
        time.sleep(0.01)
    with pytest.raises(EngineError, match="ended with its launch host, which was killed by SIGKILL"):
        engine.generate(WORK)
    assert worker_tools.marked(engine.marker) == []
    again = pool.get()
    assert again.host not in (None, engine.host)
    assert again.generate(WORK).completed == 4
    assert "a new one takes its place" in pool.said[0]


@pytest.mark.parametrize("how", ["kill", "exit", "child", "error"])
def test_a_fork_that_fails_is_said_once_and_launches_go_on_in_processes_of_their_own(pool, how) -> None:
    engines = [pool.get(launch, fail=f"fork-{how}") for launch in range(2)]
    assert [engine.host for engine in engines] == [None, None]
    assert [engine.generate(WORK).completed for engine in engines] == [4, 4]
    assert len(pool.said) == 1
    assert "launches are not forked" in pool.said[0]


def test_a_fork_that_hangs_is_ended_and_the_launch_starts_afresh(pool, monkeypatch) -> None:
    monkeypatch.setattr(engine_process, "FORK_IDLE_S", 1.5)
    engine = pool.get(fail="fork-hang")
    assert engine.host is None
    assert engine.generate(WORK).completed == 4
    assert "used no processor" in pool.said[0]


def test_memory_that_a_fork_lacks_a_process_of_its_own_would_lack_too(pool) -> None:
    with pytest.raises(OutOfMemory):
        pool.get(fail="start-memory")
    assert pool.said == []


def test_an_engine_that_fails_however_it_is_started_fails_with_its_own_words(pool) -> None:
    with pytest.raises(EngineError, match="exit status 3 while it started"):
        pool.get(fail="start-exit")


def test_an_interpreter_that_cannot_be_a_host_is_said_and_done_without(pool, tmp_path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *host.py*) echo no; exit 9;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    engine = pool.get(python=str(python))
    assert engine.host is None
    assert "ended with exit status 9" in pool.said[0]


def test_imports_are_known_by_what_they_took_and_expected_for_hosts_that_are_not_there(pool, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert (pool.import_s, pool.import_ahead_s(0)) == (0.0, 0.0)
    pool.get(0)
    once = pool.import_s
    assert once > 0
    assert pool.import_ahead_s(3) == 0.0  # forked from the host of launch 0
    assert 0 < pool.import_ahead_s(1) <= once
    pool.get(1)
    assert pool.import_s > once
    assert pool.import_ahead_s(2) == 0.0


def test_with_two_cores_the_first_two_hosts_import_side_by_side(pool, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    first = pool.get(0)
    assert len(pool.hosts.spent()) == 2
    waited = pool.import_s
    assert pool.import_ahead_s(1) == 0.0
    assert pool.get(1).host not in (None, first.host)
    assert pool.import_s == waited
    assert pool.import_ahead_s(4) > 0
    pool.get(4)
    assert len(pool.hosts.spent()) == 3


def test_of_two_hosts_that_import_side_by_side_none_is_kept_where_one_cannot_fork(pool, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    python, seen = tmp_path / "python", tmp_path / "seen"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *host.py*) mkdir {seen} 2>/dev/null || exit 9;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    assert pool.get(python=str(python)).host is None
    assert "ended with exit status 9" in pool.said[0]
    assert pool.hosts.spent() == []
