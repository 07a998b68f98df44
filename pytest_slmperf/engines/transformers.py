"""The ``transformers`` engine: Hugging Face's own continuous batching, as a second real engine on CPU and CUDA."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.engines.interpreter import Interpreter, interpreter
from pytest_slmperf.engines.spec import EngineSpec
from pytest_slmperf.engines.vllm import VllmAdapter

WORKER_FILE = Path(__file__).with_name("transformers_worker.py")
MODULES = ("torch", "transformers")


class TransformersAdapter(VllmAdapter):
    """Resolves models, devices, cores and budgets as vLLM's adapter does; another worker does the work."""

    name = "transformers"
    worker_file = WORKER_FILE
    modules = MODULES
    packages = MODULES

    def missing(self, python: str | None = None) -> str | None:
        """Whether torch and transformers are there; looks at metadata only, so a broken build shows at launch."""
        found = interpreter(python, MODULES, MODULES)
        if found.error is not None:
            return found.error
        absent = [name for name in MODULES if name not in found.modules]
        if not absent:
            return None
        return f"{' and '.join(absent)} not installed in {found.path}; pip install 'pytest-slmperf[transformers]'"

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """As for vLLM; a KV budget is always needed, as the library would take whatever memory is free."""
        resolved = super().resolve(spec)
        return resolved if resolved.kv_cache_tokens else resolved.with_settings(kv_cache_tokens=16 * 1024)

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        env = super().environment(spec)
        return {name: value for name, value in env.items() if not name.startswith("VLLM")}

    @staticmethod
    def _built_for_cpu(found: Interpreter) -> bool:
        return "cpu" in found.versions.get("torch", "")
