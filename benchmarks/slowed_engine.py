"""pytest plugin for benchmarks/detection_real.py: a vLLM with a wait in each step, and ``plain``, vLLM as it is.

The wait is the one of tests/support/slow_engine.py; SLOW_ENGINE_FRACTION says how long it is (0: none).  The slowed engine
keeps vLLM's name, so that vLLM's stored baselines judge it and tell how noisy the machine is; in a duet the baseline
side is ``plain``.
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
