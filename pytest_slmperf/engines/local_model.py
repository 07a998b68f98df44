"""Common base of engines that load a model into this machine's memory: defaults, KV budget, cores, environment."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import replace

from pytest_slmperf.devices import amd
from pytest_slmperf.devices.gpus import rocm_device_count
from pytest_slmperf.devices.selection import cuda_entry, device_memory_bytes, host_memory_bytes
from pytest_slmperf.engines.base import RUNTIME_BYTES, SHARE, EngineAdapter
from pytest_slmperf.engines.presets import Model, resolve_model
from pytest_slmperf.errors import InvalidInput, LongerThanModel
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.util.checks import is_whole

DEFAULT_MAX_LEN = 2048
DEFAULT_SEQS = {"cpu": 128, "cuda": 256}


class LocalModelAdapter(EngineAdapter):
    """Base of adapters whose engine loads a model on a CPU or a CUDA (or ROCm) device of this machine."""

    @abstractmethod
    def default_device(self, python: str | None = None) -> str:
        """The device that the build in the interpreter ``python`` would use: "cpu" or "cuda:0". Must be written."""

    def bytes_per_token(self, model: Model, spec: EngineSpec) -> int | None:
        """Memory that grows with the KV budget, in bytes per token; None for a model of unknown size.

        May be overridden; by default the KV cache alone.
        """
        return model.kv_bytes_per_token(spec.kv_dtype)

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """Defaults: device by build and driver, all cores but one, half precision, a KV budget in tokens."""
        model = resolve_model(spec.model, spec.weights)
        weights = spec.weights or model.default_weights
        device = spec.device or self.default_device(spec.python)
        kind = device_kind(device)
        longest = model.config.get("max_position_embeddings")
        if longest is not None and not (is_whole(longest) and longest > 0):
            raise InvalidInput(
                f"model {model.name}: max_position_embeddings in its config.json is {longest!r}, not a number"
            )
        length = spec.max_model_len or min(longest or DEFAULT_MAX_LEN, DEFAULT_MAX_LEN)
        if longest and length > longest:
            raise LongerThanModel(
                f"engine max_model_len {length} is more than the {longest} that {model.name} was made for",
                model.name,
                longest,
            )
        resolved = replace(
            spec,
            model=model.name,
            weights=weights,
            dtype=default_dtype(model, kind) if spec.dtype is None else spec.dtype,
            max_model_len=length,
            max_num_seqs=spec.max_num_seqs or DEFAULT_SEQS[kind],
            cpus=spec.cpus or default_cpus(),
            device=device,
            settings=tuple(sorted(spec.settings)),
        )
        return replace(resolved, kv_cache_tokens=spec.kv_cache_tokens or self._kv_tokens(model, resolved))

    def kv_tokens_alone(self, spec: EngineSpec) -> int | None:
        """The KV budget that fills the device after the weights."""
        return self._kv_tokens(resolve_model(spec.model, spec.weights), spec, engines=1)

    def footprint_bytes(self, spec: EngineSpec) -> int | None:
        """Weights, KV budget and runtime together; None for a model of unknown size."""
        model = resolve_model(spec.model, spec.weights)
        weights, per_token = model.weight_bytes(spec.dtype), self.bytes_per_token(model, spec)
        if weights is None or per_token is None:
            return None
        return weights + per_token * (spec.kv_cache_tokens or 0) + RUNTIME_BYTES[device_kind(spec.device or "cpu")]

    def _kv_tokens(self, model: Model, spec: EngineSpec, engines: int = 2) -> int | None:
        """An explicit KV budget: room for every sequence at full length, within a share of the memory, but at least for one
        request. None for a model of unknown size, for which the engine's own default applies.

        ``spec`` has its other defaults filled in. ``engines``: number of such engines that must fit on a GPU side by side
        (the two sides of a duet, two launches of a test).
        """
        device, length = spec.device or "cpu", spec.max_model_len or DEFAULT_MAX_LEN
        per_token = self.bytes_per_token(model, spec)
        if per_token is None:
            return None
        if device == "cpu":
            share = min(host_memory_bytes() // 8, 2**30)  # the start touches every page, which takes 3 s per GiB
        else:
            total = device_memory_bytes(device)
            if total is None:
                return None
            weights = model.weight_bytes(spec.dtype) or 0
            share = max(0, int(total * SHARE) // engines - weights - RUNTIME_BYTES["cuda"])
        return max(length, min((spec.max_num_seqs or 1) * length, share // per_token))


def device_kind(device: str) -> str:
    """ "cpu" or "cuda"; InvalidInput for any other device."""
    kind = device.partition(":")[0]
    if kind not in DEFAULT_SEQS:
        raise InvalidInput(f"vllm engine: device must be 'cpu' or 'cuda:N', not {device!r}")
    return kind


def default_dtype(model: Model, kind: str) -> str | None:
    """The config's dtype, but bfloat16 in place of float16 on a CPU, where torch multiplies float16 in a scalar loop,
    about ten times slower (measured with OPT). None for a config that is not on this machine: the engine decides.
    """
    named = architecture.config_dtype(model.config)
    if kind == "cpu" and (named == "float16" or model.kind == "preset"):
        return "bfloat16"
    return named


def default_cpus() -> tuple[int, ...]:
    """All cores of this process except the first, which is left to other processes: a busy neighbour on an engine's core
    delays every thread barrier of the engine."""
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[1:] or allowed)


def process_environment(spec: EngineSpec) -> dict[str, str]:
    """Environment of an engine process: its number of threads, its visible device, and no network unless it is needed."""
    env = {"DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if resolve_model(spec.model, spec.weights).kind != "hub":
        env["HF_HUB_OFFLINE"] = "1"
    cpus, device = spec.cpus or default_cpus(), spec.device or "cpu"
    if device == "cpu":
        return env | {"OMP_NUM_THREADS": str(len(cpus))}
    env["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, min(4, len(cpus)))))
    env["CUDA_VISIBLE_DEVICES"] = entry = cuda_entry(device)
    if rocm_device_count():  # vLLM refuses to start if the two variables differ
        env[amd.VISIBLE[0]] = entry
    # CUDA's own order is by speed; the meter and the memory budget count by PCI bus, as NVML does.
    return env | unless_set("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def unless_set(name: str, value: str) -> dict[str, str]:
    """The environment variable ``name`` for the engine, unless the user's environment sets it; else empty."""
    return {} if name in os.environ else {name: value}
