"""A real vLLM server, started by us and measured over HTTP; and killed under load, which must be counted and named."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_slmperf.engines.base import EngineState
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.serving_options import scenario

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")


def test_server_serves_and_its_death_under_load_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(presets()["opt-125m"].config) | {"num_hidden_layers": 2}))
    # a folder is not a preset: what a preset implies is said
    spec = EngineSpec("vllm-server", str(folder), weights="dummy", dtype="bfloat16", max_model_len=256, max_num_seqs=16,
                      kv_cache_tokens=2048, settings=(("block_size", 64),))  # fmt: skip
    with EnginePool(Registry(builtin_adapters()), tmp_path / "logs") as pool:
        engine = pool.acquire(spec)
        assert engine.start_time_s > 1
        with urllib.request.urlopen(f"{engine.http.target.url}/metrics", timeout=10) as answer:  # type: ignore[attr-defined]
            assert (
                'block_size="64"' in answer.read().decode()
            )  # a setting that is not the client's own reached the engine
        load = scenario(concurrency=3, input_len=12, output_len=8, num_requests=9)
        outcome, side = load.play(engine, 60)
        result = measure(outcome)
        assert result.counts["completed"] == 9, (result.failures, result.examples)
        assert set(outcome.requests.n_in) == {12}  # by the server's own count: prompts are exact
        assert set(outcome.requests.n_out) == {8}
        # a token behind the first has a gap, unless a busy server puts it into the same event as the first
        assert 9 * 6 <= outcome.itl.count <= 9 * 7
        assert side.statistics.preemptions == 0

        threading.Timer(0.5, lambda: os.kill(engine.facts["server_pid"], signal.SIGKILL)).start()
        load = scenario(rate=40, input_len=12, output_len=100, duration_s=2.0, drain_s=2.0)
        with pytest.raises(EngineError, match="ended while it was under load"):
            load.play(engine, 60)
        assert not engine.alive()  # type: ignore[attr-defined]
    assert engine.state in (EngineState.STOPPED, EngineState.FAILED)
    assert not os.path.exists(f"/proc/{engine.facts['server_pid']}/cwd")


def test_an_argument_that_the_server_does_not_know_is_named(tmp_path: Path) -> None:
    spec = EngineSpec("vllm-server", "opt-125m", settings=(("enforce_eagr", True),))
    with (
        EnginePool(Registry(builtin_adapters()), tmp_path / "logs") as pool,
        pytest.raises(InvalidInput, match="refuses its arguments: unrecognized arguments: --enforce-eagr"),
    ):
        pool.acquire(spec)


def test_no_process_of_the_server_is_left_behind() -> None:
    """Runs last in this file: the engine of the tests above has been stopped, and vLLM's own processes with it."""
    import os
    import subprocess

    found = subprocess.run(["ps", "-eo", "ppid=,uid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    orphans = [line for line in found.splitlines() if "VLLM::" in line and line.split()[:2] == ["1", str(os.getuid())]]
    # one that has ended and only waits for init to take note of it is no process left behind
    assert [line for line in orphans if not line.split()[2].startswith("Z")] == []
