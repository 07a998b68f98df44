"""The ``transformers`` engine: Hugging Face's own continuous batching, as a second real engine on CPU and CUDA."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.engines.interpreter import Interpreter, interpreter
from pytest_slmperf.engines.presets import Model
from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec

WORKER_FILE = Path(__file__).with_name("worker.py")
MODULES = ("torch", "transformers")
BATCH_TOKENS = 512  # of one step at the least, as the worker asks for them


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

    def _bytes_per_token(self, model: Model, spec: EngineSpec) -> int | None:
        """As for vLLM, and what the library keeps for each token of the budget beside the cache itself: one layer's keys and
        values while they are read, and a column of the attention mask (two of them, for batches made ahead)."""
        per_token = super()._bytes_per_token(model, spec)
        if per_token is None:
            return None
        one_layer = per_token // architecture.layers(model.config)
        mask = 2 * architecture.dtype_bytes(spec.dtype) * max(BATCH_TOKENS, spec.max_num_seqs or 0)
        return per_token + one_layer + mask

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        env = super().environment(spec)
        return {name: value for name, value in env.items() if not name.startswith("VLLM")}

    @staticmethod
    def _built_for_cpu(found: Interpreter) -> bool:
        return "cpu" in found.versions.get("torch", "")
