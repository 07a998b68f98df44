"""pytest plugin for benchmarks/detection_real.py: vLLM, and ``slowed``, the same with a wait injected into each step.

The injection is the one of tests/support/slow_engine.py; SLOW_ENGINE_FRACTION says how long the wait is.  Under a name of
its own it can stand beside vLLM in a duet; with SLOW_ENGINE_AS_VLLM set it takes vLLM's name, so that a stored
baseline of vLLM judges it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from slow_engine import SlowVllm

from pytest_slmperf.engines.base import EngineAdapter


class Slowed(SlowVllm):
    name = "slowed"


@pytest.hookimpl(trylast=True)
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    return [SlowVllm() if os.environ.get("SLOW_ENGINE_AS_VLLM") else Slowed()]
