"""vLLM's worker with slower steps. Standard library and the engine only; see slow_engine.py."""

from __future__ import annotations

import os
import time
from typing import Any

import slmperf_worker_tools as tools


def slow_down(step: Any, count: Any, fraction: float, least: int) -> Any:
    """``step`` followed by a wait of ``fraction`` of its own time, where ``count()`` is at least ``least``."""

    def slow_step(*args: Any, **kwargs: Any) -> Any:
        slow = count() >= least
        start = time.perf_counter()
        result = step(*args, **kwargs)
        if slow:
            now = time.perf_counter()
            until = now + (now - start) * fraction
            while now < until:  # busy, as slower computation would be, and exact
                now = time.perf_counter()
        return result

    return slow_step


def prepare() -> None:
    tools.load_own("engines/vllm/offline_worker").prepare()


def create(spec: dict[str, Any], report: Any) -> Any:
    vllm_worker = tools.load_own("engines/vllm/offline_worker")
    fraction = float(os.environ.get("SLOW_ENGINE_FRACTION", "0.3"))
    least = int(os.environ.get("SLOW_ENGINE_MIN_BATCH", "0"))

    class SlowVllmEngine(vllm_worker.VllmEngine):  # type: ignore[misc,name-defined]
        def start(self) -> dict[str, Any]:
            facts: dict[str, Any] = super().start()
            engine = self.llm.llm_engine
            engine.step = slow_down(engine.step, engine.get_num_unfinished_requests, fraction, least)
            return facts

    return SlowVllmEngine(spec, report)
