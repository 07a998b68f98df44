"""The ``vllm-async`` engine: vLLM's ``AsyncLLM`` in the worker, what a server runs behind its HTTP front end."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.model.engine_spec import EngineSpec


class VllmAsyncAdapter(VllmAdapter):
    """As ``vllm``, but its core is a process of its own and requests are asynchronous. Starts more slowly."""

    name = "vllm-async"
    worker_file = Path(__file__).with_name("async_worker.py")

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        env = super().environment(spec)
        del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
        return env
