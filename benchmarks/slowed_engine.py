"""pytest plugin for benchmarks/detection_real.py: vLLM with a wait in each step, and ``plain``, the unchanged vLLM.

The wait is that of tests/support/slow_engine.py, with length SLOW_ENGINE_FRACTION (0: none).  The slowed engine keeps vLLM's
name, so that it is compared with vLLM's stored baselines and their noise; in a duet the baseline side is ``plain``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from slow_engine import SlowVllm

from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.engines.vllm.adapter import VllmAdapter


class Plain(VllmAdapter):
    name = "plain"


@pytest.hookimpl(trylast=True)
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    return [Plain(), SlowVllm()]
