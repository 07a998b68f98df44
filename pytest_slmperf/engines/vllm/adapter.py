"""The engines ``vllm`` and ``vllm-async``: vLLM in the worker's own process, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_slmperf.devices import amd
from pytest_slmperf.engines import dummy_weights
from pytest_slmperf.engines.base import START_TIMEOUT_S, EngineTraits, Progress
from pytest_slmperf.engines.launch_host import HostProgram, LaunchHost
from pytest_slmperf.engines.presets import config_folder, resolve_model
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.vllm_common.adapter import LEFT_OUT, MIG_HINT, VllmPackageAdapter
from pytest_slmperf.errors import EngineMissing
from pytest_slmperf.model.engine_spec import EngineSpec

# Which cores and which device: hosts need not differ for them.
READ_AT_THE_START = ("VLLM_CPU_OMP_THREADS_BIND", "CUDA_VISIBLE_DEVICES", *amd.VISIBLE)

LOADING = {"load_format", "quantization", "hf_overrides", "config_format", "model_loader_extra_config"}


class InWorkerAdapter(VllmPackageAdapter):
    """Base of both adapters, which differ in the worker's file and in its environment."""

    worker_file: Path

    def with_prefix_caching(self, spec: EngineSpec) -> EngineSpec:
        """By vLLM's argument ``enable_prefix_caching``."""
        return spec.with_settings(enable_prefix_caching=True)

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> EngineProcess:
        """Start one engine from a resolved specification; READY once its first request is served."""
        engine = self._process(spec, log_path)
        engine.start(self.parameters(spec), progress, timeout_s)
        return engine

    def _process(self, spec: EngineSpec, log_path: Path) -> EngineProcess:
        reason = self.missing(spec.python)
        if reason is not None:
            raise EngineMissing(f"engine {spec.engine}: {reason}")
        return EngineProcess(spec, self.worker_file, log_path, python=spec.python, env=self.environment(spec))

    def parameters(self, spec: EngineSpec) -> dict[str, object]:
        """The parameters of the worker: the specification, and the model as a path or hub id."""
        model = resolve_model(spec.model, spec.weights)
        path = str(config_folder(model)) if model.kind == "preset" else model.name
        return spec.as_dict() | {"path": path, "kv_bytes_per_token": model.kv_bytes_per_token(spec.kv_dtype)}


class VllmAdapter(InWorkerAdapter):
    """vLLM's offline engine, stepped in the worker's main thread."""

    name = "vllm"
    traits = EngineTraits(chunked_prefill_setting="enable_chunked_prefill", left_out=LEFT_OUT)
    worker_file = Path(__file__).with_name("offline_worker.py")

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        """As in the base class, with the engine's core in the worker's process: it starts in 3 s instead of 27 s."""
        return super().environment(spec) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}

    def host_program(self, spec: EngineSpec) -> HostProgram:
        """vLLM as imported under all variables but those that it reads at the start of an engine."""
        env = self.environment(spec) | dict(spec.env)
        kept = {name: value for name, value in env.items() if name not in READ_AT_THE_START}
        return HostProgram(self.worker_file, spec.python, env=tuple(sorted(kept.items())))

    def fork(
        self,
        spec: EngineSpec,
        host: LaunchHost,
        *,
        log_path: Path,
        progress: Progress,
        timeout_s: float = START_TIMEOUT_S,
    ) -> EngineProcess:
        """As ``launch``, in 2 s instead of 14 (OPT-125M on one core)."""
        engine = self._process(spec, log_path)
        weights = {} if (folder := kept_weights(spec, host.tell)) is None else {"weights_folder": str(folder)}
        engine.start(self.parameters(spec) | weights, progress, timeout_s, host)
        return engine


def kept_weights(spec: EngineSpec, tell: Callable[[str], None]) -> Path | None:
    """The folder with the dummy weights of a forked launch; None if the engine fills its weights itself.

    A GPU fills them in milliseconds, and a user's setting for the loading of weights has priority.
    """
    if spec.weights != "dummy" or spec.device != "cpu" or dict(spec.settings).keys() & LOADING:
        return None
    return dummy_weights.folder_of(resolve_model(spec.model, spec.weights), spec.dtype, tell)


class VllmAsyncAdapter(InWorkerAdapter):
    """vLLM's ``AsyncLLM``, the engine behind a server's HTTP front end; its core is a process of its own."""

    name = "vllm-async"
    traits = EngineTraits(mig_hint=MIG_HINT, left_out=LEFT_OUT)
    worker_file = Path(__file__).with_name("async_worker.py")
