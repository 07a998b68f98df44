"""A plugin that makes the engines of a run slower, under the same names: what a regression looks like from outside.

``pytest -p slow_engine …`` with this folder on PYTHONPATH.  Read from the environment when an engine is launched:

SLOW_ENGINE_FRACTION   0.3: every step of the engine takes 30 % longer (default 0.3)
SLOW_ENGINE_MIN_BATCH  only steps with at least so many requests in the engine (default: all)

The specification, and so the pool's key and the engine's fingerprint, are those of the engine itself.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.engines.simulated.cost_model import Cost
from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.model.engine_spec import EngineSpec


class SlowVllm(VllmAdapter):
    """vLLM whose steps are followed by a wait in proportion."""

    worker_file = Path(__file__).with_name("slow_engine_worker.py")


class SlowSimulated(SimulatedAdapter):
    """The simulated engine with its own slowdown set."""

    def cost(self, spec: EngineSpec) -> Cost:
        fraction = float(os.environ.get("SLOW_ENGINE_FRACTION", "0.3"))
        least = int(os.environ.get("SLOW_ENGINE_MIN_BATCH", "0"))
        return replace(super().cost(spec), slowdown=fraction, slow_min_batch=least)


@pytest.hookimpl(tryfirst=True)  # called first is read last, and the last adapter of a name counts
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    return [SlowVllm(), SlowSimulated()]
