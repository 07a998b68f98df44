"""The specification of an engine: frozen and hashable, the key of the engine pool."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from pytest_slmperf import redaction
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model import architecture
from pytest_slmperf.util.checks import is_whole

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine configuration. Equal specifications are the same engine and share resident processes.

    engine:    registered engine name ("vllm", "simulated", "transformers", "openai", …)
    model:     preset name ("opt-125m"), local folder, or hub id
    weights:   "dummy" (random, nothing downloaded) or "real"; None: dummy for presets, real otherwise
    dtype:     engine's dtype name; None: the engine's default for the device
    max_model_len, max_num_seqs: vLLM's settings of these names; None: enough for the scenario
    kv_cache_tokens: KV-cache budget in tokens; None: the adapter chooses an explicit budget from its limits
    python:    interpreter that runs the engine; None: the one that runs pytest
    cpus:      host cores the engine may use; None: all but one
    device:    "cpu", "cuda:0", …; None: detected
    settings:  further arguments of the engine, by the engine's own names
    env:       further environment variables of the engine's process
    """

    engine: str
    model: str
    weights: str | None = None
    dtype: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    kv_cache_tokens: int | None = None
    python: str | None = None
    cpus: tuple[int, ...] | None = None
    device: str | None = None
    settings: tuple[tuple[str, Scalar], ...] = field(default=())
    env: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self) -> None:
        redaction.remember(dict(self.settings) | dict(self.env))
        if self.weights not in (None, "dummy", "real"):
            raise InvalidInput(f"engine weights must be 'dummy' or 'real', not {self.weights!r}")
        for name in ("max_model_len", "max_num_seqs", "kv_cache_tokens"):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and value >= 1):
                raise InvalidInput(f"engine {name} must be a positive whole number, not {value!r}")

    def with_settings(self, **changes: Any) -> EngineSpec:
        """A copy with changed fields of the specification or, for other names, changed engine settings."""
        own = {f.name for f in fields(self)} - {"settings", "env"}
        direct = {key: value for key, value in changes.items() if key in own}
        rest = dict(self.settings) | {key: value for key, value in changes.items() if key not in own}
        return replace(self, **direct, settings=tuple(sorted(rest.items())))

    @property
    def kv_dtype(self) -> str | None:
        """The format of the KV cache: the model's dtype, unless the engine's ``kv_cache_dtype`` names another."""
        return architecture.kv_dtype(dict(self.settings).get("kv_cache_dtype"), self.dtype)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, sent to the worker process."""
        return {
            f.name: (dict(value) if f.name in ("settings", "env") else value)
            for f in fields(self)
            for value in [getattr(self, f.name)]
        }
