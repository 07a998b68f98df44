"""The slowed engine that regression tests use: exactly as much slower as asked, and only where asked."""

from __future__ import annotations

import statistics
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import slow_engine

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.model.engine_spec import EngineSpec

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")


def test_only_large_batches_become_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine, slowed threefold from four requests on: no neighbour on the machine makes a step that much slower."""
    monkeypatch.setenv("SLOW_ENGINE_FRACTION", "2.0")
    monkeypatch.setenv("SLOW_ENGINE_MIN_BATCH", "4")
    registry = Registry([*builtin_adapters(), *slow_engine.pytest_slmperf_engines(None)])
    spec = EngineSpec("vllm", "opt-125m", max_model_len=128, max_num_seqs=8, kv_cache_tokens=1024)
    with EnginePool(registry, tmp_path) as pool, pool.fresh(spec) as engine:
        assert engine.spec == Registry(builtin_adapters()).get("vllm").resolve(spec)

        def step_s(batch: int) -> float:
            readings = [engine.generate(Batch(batch, 8, 16)) for _ in range(3)]
            return min(statistics.median(reading.itl_s) for reading in readings)

        assert step_s(4) > 1.8 * step_s(3)
