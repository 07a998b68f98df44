"""Idle resident engines are paused, so that their wake-ups take nothing from the engine that is measured."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.model.engine_spec import EngineSpec

SPEC = EngineSpec("simulated", "opt-125m")


def state(pid: int) -> str:
    """The kernel's letter for the process: T when stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def becomes_stopped(pid: int, wanted: bool) -> bool:
    """A signal is delivered when the kernel next runs the process, not at once."""
    deadline = time.monotonic() + 10
    while (state(pid) == "T") is not wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    return (state(pid) == "T") is wanted


def test_released_engine_stands_still_and_runs_again_when_acquired(tmp_path: Path) -> None:
    with EnginePool(Registry(builtin_adapters()), tmp_path) as pool:
        engine = pool.acquire(SPEC)
        pid = engine.facts["pid"]
        pool.release(engine)
        assert becomes_stopped(pid, True)
        assert pool.acquire(SPEC) is engine
        assert becomes_stopped(pid, False)


def test_speaking_to_a_paused_engine_wakes_it(tmp_path: Path) -> None:
    with EnginePool(Registry(builtin_adapters()), tmp_path) as pool:
        engine = pool.acquire(SPEC)
        pool.release(engine)
        assert engine.generate(Batch(2, 8, 8), 10).n_out == 16


def test_paused_engines_end_with_the_pool(tmp_path: Path) -> None:
    with EnginePool(Registry(builtin_adapters()), tmp_path) as pool:
        engines = [pool.acquire(SPEC, launch) for launch in range(3)]
        pids = [engine.facts["pid"] for engine in engines]
        pool.release_all()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
