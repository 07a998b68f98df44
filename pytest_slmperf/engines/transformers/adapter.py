"""The ``transformers`` engine: Hugging Face's own continuous batching, as a second real engine on CPU and CUDA."""

from __future__ import annotations

from pathlib import Path

from pytest_slmperf.devices.gpus import cuda_device_count, rocm_device_count
from pytest_slmperf.engines.base import START_TIMEOUT_S, Progress
from pytest_slmperf.engines.interpreter import interpreter
from pytest_slmperf.engines.local_model import LocalModelAdapter, process_environment
from pytest_slmperf.engines.presets import Model, config_folder, resolve_model
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.errors import EngineMissing
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec

WORKER_FILE = Path(__file__).with_name("worker.py")
MODULES = ("torch", "transformers")
BATCH_TOKENS = 512  # the least number of tokens in a step that the worker requests


class TransformersAdapter(LocalModelAdapter):
    """Adapter of transformers' continuous batching."""

    name = "transformers"

    def missing(self, python: str | None = None) -> str | None:
        """Whether torch and transformers are installed, by their metadata only: a broken build fails at launch."""
        probed = interpreter(python, MODULES, MODULES)
        if probed.error is not None:
            return probed.error
        absent = [name for name in MODULES if name not in probed.modules]
        if not absent:
            return None
        return f"{' and '.join(absent)} not installed in {probed.path}; pip install 'pytest-slmperf[transformers]'"

    def default_device(self, python: str | None = None) -> str:
        """The device that the interpreter's torch would use on this machine: "cpu" or "cuda:0"."""
        nvidia = cuda_device_count() > 0
        if not nvidia and rocm_device_count() == 0:  # asked first: the interpreter need not be started then
            return "cpu"
        probed = interpreter(python, MODULES, MODULES)
        if nvidia:
            return "cpu" if "cpu" in probed.versions.get("torch", "") else "cuda:0"
        return "cuda:0" if probed.hip else "cpu"

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """As in the base class, always with a KV budget: without one the library takes all free memory."""
        resolved = super().resolve(spec)
        return resolved if resolved.kv_cache_tokens else resolved.with_settings(kv_cache_tokens=16 * 1024)

    def bytes_per_token(self, model: Model, spec: EngineSpec) -> int | None:
        """The KV cache, and for each of its tokens the library's copy of one layer's keys and values while it reads them,
        and two columns of the attention mask (the second for the batch prepared ahead)."""
        per_token = super().bytes_per_token(model, spec)
        if per_token is None:
            return None
        one_layer = per_token // architecture.layers(model.config)
        mask = 2 * architecture.dtype_bytes(spec.dtype) * max(BATCH_TOKENS, spec.max_num_seqs or 0)
        return per_token + one_layer + mask

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        """Environment of the worker."""
        return process_environment(spec)

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> EngineProcess:
        """Start one engine from a resolved specification; READY once its first request is served."""
        reason = self.missing(spec.python)
        if reason is not None:
            raise EngineMissing(f"engine {spec.engine}: {reason}")
        model = resolve_model(spec.model, spec.weights)
        path = str(config_folder(model)) if model.kind == "preset" else model.name
        engine = EngineProcess(spec, WORKER_FILE, log_path, python=spec.python, env=self.environment(spec))
        engine.start(spec.as_dict() | {"path": path}, progress, timeout_s)
        return engine
