"""The pool starts each (specification, launch) once, restarts what failed, and stays inside its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_slmperf.engines.base import Batch, EngineState, EngineTraits
from pytest_slmperf.engines.launch_host import LaunchHost, LaunchHosts
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

SPEC = EngineSpec("simulated", "opt-125m")
WORK = Batch(2, 8, 8)
MIB = 2**20


class Sized(SimulatedAdapter):
    """Simulated engines that claim 100 MiB each."""

    def footprint_bytes(self, spec: EngineSpec) -> int:
        return 100 * MIB


@pytest.fixture
def small(tmp_path: Path):
    """Room for two engines."""
    with EnginePool(Registry([Sized()]), tmp_path, budgets={"simulated": 250 * MIB}) as pool:
        yield pool


FORKED = EngineSpec("simulated", "opt-125m").with_settings(forked=1)


def spec(number: int) -> EngineSpec:
    return EngineSpec("simulated", "opt-125m", max_num_seqs=number)


def test_one_process_per_specification_and_launch(pool: EnginePool) -> None:
    first = pool.acquire(SPEC)
    assert pool.acquire(SPEC) is first
    # The same engine, described with its defaults written out.
    assert pool.acquire(EngineSpec("simulated", "opt-125m", weights="dummy").with_settings(seed=0)) is first
    second = pool.acquire(SPEC, launch=1)
    assert second.facts["pid"] != first.facts["pid"]
    assert second.generate(WORK).n_out == first.generate(WORK).n_out == 16
    assert set(pool.starts.values()) == {1}


def test_a_request_that_the_model_was_not_made_for_is_refused_in_a_dry_run_too(pool: EnginePool) -> None:
    with pytest.raises(InvalidInput, match=r"2000\+64 tokens is longer than the engine's max_model_len of 2048"):
        pool.acquire(SPEC).generate(Batch(1, 2000, 64))
    assert pool.acquire(SPEC).generate(WORK).n_out == 16


def test_a_failed_engine_is_started_again(pool: EnginePool, tmp_path: Path) -> None:
    breaking = SPEC.with_settings(fail="round-kill", fail_once=str(tmp_path / "failed"))
    engine = pool.acquire(breaking)
    with pytest.raises(EngineError, match="SIGKILL"):
        engine.generate(WORK)
    again = pool.acquire(breaking)
    assert again is not engine
    assert again.generate(WORK).n_out == 16
    assert list(pool.starts.values()) == [2]


def test_an_engine_that_died_between_tests_is_started_again(pool: EnginePool) -> None:
    engine = pool.acquire(SPEC)
    os.kill(engine.facts["pid"], signal.SIGKILL)
    while engine.alive():  # type: ignore[attr-defined]
        time.sleep(0.01)
    assert pool.acquire(SPEC).generate(WORK).n_out == 16


def test_the_least_recently_used_idle_engine_makes_room(small: EnginePool) -> None:
    first, second = small.acquire(spec(1)), small.acquire(spec(2))
    small.acquire(spec(1))
    small.release_all()
    third = small.acquire(spec(3))
    assert second.state is EngineState.STOPPED
    assert small.acquire(spec(1)) is first
    assert small.acquire(spec(3)) is third


def test_an_engine_in_use_is_never_stopped(small: EnginePool) -> None:
    first, second = small.acquire(spec(1)), small.acquire(spec(2))
    with pytest.raises(EngineError, match=r"no memory on simulated .* hold 0\.2 of 0\.2 GiB"):
        small.acquire(spec(3))
    small.release(second)
    small.acquire(spec(3))
    assert first.state is EngineState.READY
    assert second.state is EngineState.STOPPED


def test_a_fresh_engine_counts_while_it_lives_and_is_stopped(small: EnginePool) -> None:
    small.acquire(spec(1))
    with small.fresh(spec(1)) as engine:
        assert engine.generate(WORK).n_out == 16
        with pytest.raises(EngineError, match="no memory"):
            small.acquire(spec(2))
    assert engine.state is EngineState.STOPPED
    small.acquire(spec(2))


def test_one_engine_alone_may_try_whatever_its_estimate(tmp_path: Path) -> None:
    with EnginePool(Registry([Sized()]), tmp_path, budgets={"simulated": 1}) as pool:
        assert pool.acquire(SPEC).state is EngineState.READY


def test_fresh_is_stopped_when_its_test_fails(pool: EnginePool) -> None:
    with pytest.raises(ZeroDivisionError), pool.fresh(SPEC) as engine:
        1 / 0  # noqa: B018
    assert engine.state is EngineState.STOPPED


def test_close_stops_everything(tmp_path: Path) -> None:
    pool = EnginePool(Registry(builtin_adapters()), tmp_path)
    engines = [pool.acquire(SPEC, launch) for launch in range(3)]
    pool.close()
    pool.close()
    assert all(engine.state is EngineState.STOPPED for engine in engines)
    with pytest.raises(EngineError, match="closed"):
        pool.acquire(SPEC)


def test_unknown_engine_lists_the_known_and_the_hook(pool: EnginePool) -> None:
    with pytest.raises(InvalidInput, match=r"unknown engine 'vlm'; known here: .*vllm.*pytest_slmperf_engines"):
        pool.acquire(EngineSpec("vlm", "opt-125m"))


def test_a_later_adapter_replaces_one_of_the_same_name() -> None:
    replacement = Sized()
    assert Registry([*builtin_adapters(), replacement]).get("simulated") is replacement


def test_progress_says_what_is_started_and_what_is_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    with EnginePool(Registry([Sized()]), tmp_path, said.append, budgets={"simulated": 150 * MIB}) as pool:
        pool.acquire(spec(1))
        pool.release_all()
        pool.acquire(spec(2))
    assert any("launch 1: starting" in text for text in said)
    assert any("stopping idle engine simulated (opt-125m)" in text for text in said)


def test_logs_have_a_file_each(pool: EnginePool) -> None:
    paths = {pool.acquire(SPEC, launch).log_path for launch in range(2)}
    assert len(paths) == 2
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("how", ["return", "interrupt", "raise"])
def test_nothing_is_left_when_the_session_ends_without_close(tmp_path: Path, how: str) -> None:
    script = tmp_path / "session.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from pytest_slmperf.engines.pool import EnginePool
            from pytest_slmperf.engines.registry import Registry, builtin_adapters
            from pytest_slmperf.model.engine_spec import EngineSpec
            pool = EnginePool(Registry(builtin_adapters()), Path(sys.argv[2]))
            engine = pool.acquire(EngineSpec("simulated", "opt-125m"))
            print(engine.marker, flush=True)
            if sys.argv[1] == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if sys.argv[1] == "raise":
                raise RuntimeError
            """
        )
    )
    done = subprocess.run([sys.executable, str(script), how, str(tmp_path)], capture_output=True, text=True, timeout=60)
    marker = done.stdout.strip()
    assert len(marker) == 32, done.stderr
    assert worker_tools.marked(marker) == []


def test_the_parent_stays_small(tmp_path: Path) -> None:
    """Starting and driving an engine must not pull the engine's libraries into the process that runs pytest."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pytest_slmperf.engines.pool import EnginePool
        from pytest_slmperf.engines.registry import Registry, builtin_adapters
        from pytest_slmperf.model.engine_spec import EngineSpec
        from pytest_slmperf.engines.base import Batch
        with EnginePool(Registry(builtin_adapters()), Path(sys.argv[1])) as pool:
            pool.acquire(EngineSpec("simulated", "opt-125m")).generate(Batch(256, 64, 64))
        # not ru_maxrss: that remembers the process which this one was forked from
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(peak.split()[1]) // 1024)
        print(*sorted({"torch", "numpy", "vllm", "transformers", "pydantic"} & set(sys.modules)))
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    megabytes, heavy = done.stdout.split("\n")[:2]
    assert heavy == ""
    assert int(megabytes) < 200


class OnHost(SimulatedAdapter):
    """A simulated engine that says it is a real one on the host's processors."""

    traits = EngineTraits()

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        return replace(super().resolve(spec), device="cpu")

    def launch(self, spec: EngineSpec, **options):
        return super().launch(replace(spec, device="simulated"), **options)

    def fork(self, spec: EngineSpec, host: LaunchHost, **options):
        return super().fork(replace(spec, device="simulated"), host, **options)


def test_a_host_settles_with_one_engine_that_is_not_measured(tmp_path: Path) -> None:
    with EnginePool(Registry([OnHost()]), tmp_path) as pool:
        pool.settle(SPEC, paired=True)
        assert [launch for _, launch in pool.starts] == [-1]
        assert pool.acquire(SPEC, 0).state is EngineState.READY  # a process of its own
        pool.settle(spec(2), paired=True)  # once in a session
        assert sorted(launch for _, launch in pool.starts) == [-1, 0]


def test_a_stored_comparison_settles_where_a_launch_is_forked(tmp_path: Path) -> None:
    with EnginePool(Registry([OnHost()]), tmp_path) as pool:
        pool.settle(FORKED, paired=False)
        assert pool.starts == {}
        pool.hosts = LaunchHosts(tmp_path)
        pool.settle(SPEC, paired=False)  # an engine that is not forked
        assert pool.starts == {}
        pool.settle(FORKED, paired=False)
        assert [launch for _, launch in pool.starts] == [-1]
        hosts = pool.hosts.spent()
        assert pool.acquire(FORKED, 0).host is not None
        assert pool.hosts.spent() == hosts  # that of the first launch


def test_other_devices_do_not_settle(pool: EnginePool) -> None:
    pool.settle(SPEC, paired=True)
    assert pool.starts == {}
