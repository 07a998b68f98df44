"""The ``simulated`` engine: a cost model in place of a model, for dry runs of a suite and for the project's own tests.

Its figures are marked as simulated everywhere and are never compared with a real engine's.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_slmperf.engines.base import START_TIMEOUT_S, EngineAdapter, EngineTraits, Progress, check_settings
from pytest_slmperf.engines.launch_host import HostProgram, LaunchHost
from pytest_slmperf.engines.presets import Model, resolve_model
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.simulated.cost_model import Cost
from pytest_slmperf.errors import InvalidInput, LongerThanModel
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar

WORKER_FILE = Path(__file__).with_name("worker.py")
PYTHON_FLAGS = ("-S", "-E")

# Every setting with its default. None: derived from the model's architecture and the nominal device.
SETTINGS: dict[str, Scalar] = {
    "clock": "virtual",  # or "real": rounds take their time
    "start_s": 0.0,  # duration of the start
    "forked": 0,  # 1: launches come from a launch host, as for an engine with a long import
    # the nominal device, from which costs are derived
    "bandwidth_gb_s": 1000.0,
    "tflops": 100.0,
    "overhead_ms": 1.0,  # host time of a step, in which the device waits
    # costs given directly
    "step_ms": None,
    "seq_us": None,  # per running sequence
    "curve_ms": None,  # "1:3.1 16:3.5 768:24": device time of a step by running sequences, in place of the two above
    "context_ns": None,  # per token of KV cache read
    "prefill_us": None,  # per prompt token
    "host_seq_us": 0.0,  # host time per running sequence: sampling, detokenising
    "host_prompt_us": 0.0,  # host time per prompt started
    "mixed": True,  # prompts computed beside running sequences; false: in steps of their own
    "max_batched_tokens": 8192,
    "block_size": 16,
    # neighbours on the device
    "replicas": 1,
    "sharing": "time-slice",  # or "mps"
    "interference": 1.0,  # under MPS: waiting time for each neighbour ÷ the step's own device time
    "runtime_gb": 0.0,  # memory that a further engine takes from the KV caches in addition to its weights
    "switch_cost": 0.25,  # time slices: extra time of a switch, as a share of a neighbour's device time
    # noise: relative standard deviations, drawn from the seed
    "seed": 0,
    "noise_session": 0.0,
    "noise_launch": 0.0,
    "noise_round": 0.0,
    "burst_probability": 0.0,
    "burst_factor": 3.0,
    # a regression
    "slowdown": 0.0,
    "slow_min_batch": 0,
    "answer_share": 1.0,  # tokens of an answer ÷ requested tokens, below 1 for a model that ends answers early
    # failures: {start,fork,round}-{kill,exit,hang,stop,flood,memory,error,child,orphan,host,guardian}; fork- and -host only
    # in a forked launch, -guardian in no forked one; fail_once: path of a file that the failure creates, which prevents
    # the next
    "fail": None,
    "fail_round": 1,
    "fail_once": None,
}
NUMBERS = ("step_ms", "seq_us", "context_ns", "prefill_us")  # derived unless they are given
FAILURES = [
    f"{where}-{how}"
    for where in ("start", "fork", "round")
    for how in ("kill", "exit", "hang", "stop", "flood", "memory", "error", "child", "orphan", "host", "guardian")
]


class SimulatedAdapter(EngineAdapter):
    """Adapter of the simulated engine."""

    name = "simulated"
    traits = EngineTraits(simulated=True)

    def __init__(self) -> None:
        self._launches: Counter[EngineSpec] = Counter()

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """Fills in the defaults; weights are "dummy". Raises InvalidInput."""
        given = check_settings("simulated", dict(spec.settings), SETTINGS, NUMBERS)
        if given.get("clock", "virtual") not in ("virtual", "real"):
            raise InvalidInput(f"simulated engine: clock must be 'virtual' or 'real', not {given['clock']!r}")
        if given.get("sharing", "mps") not in ("mps", "time-slice"):
            raise InvalidInput(f"simulated engine: sharing must be 'mps' or 'time-slice', not {given['sharing']!r}")
        if not 0 < float(given.get("answer_share", 1.0) or 0.0) <= 1:
            raise InvalidInput(
                f"simulated engine: answer_share must be above 0 and at most 1, not {given['answer_share']!r}"
            )
        if given.get("fail") is not None and given["fail"] not in FAILURES:
            raise InvalidInput(f"simulated engine: fail must be one of {', '.join(FAILURES)}, not {given['fail']!r}")
        if given.get("curve_ms") is not None:
            step_curve(given["curve_ms"])
        model = resolve_model(spec.model, "dummy")
        limit = int(model.config.get("max_position_embeddings") or 2048)
        if (spec.max_model_len or 0) > limit:  # a dry run must refuse what the real engine refuses
            raise LongerThanModel(
                f"engine max_model_len {spec.max_model_len} is more than the {limit} that {model.name} was made for",
                model.name,
                limit,
            )
        return replace(
            spec,
            model=model.name,
            weights="dummy",
            dtype=spec.dtype or architecture.config_dtype(model.config) or "float16",
            max_model_len=spec.max_model_len or limit,
            max_num_seqs=spec.max_num_seqs or 256,
            kv_cache_tokens=spec.kv_cache_tokens or 1 << 19,
            device="simulated",
            cpus=None,
            settings=tuple(sorted(given.items())),
        )

    def footprint_bytes(self, spec: EngineSpec) -> int:
        """The memory of a Python process."""
        return 16 * 2**20

    def runtime_bytes(self, spec: EngineSpec) -> int:
        """By the setting ``runtime_gb``."""
        return int(float(dict(spec.settings).get("runtime_gb") or 0.0) * 1e9)

    def with_prefix_caching(self, spec: EngineSpec) -> EngineSpec:
        """Unchanged: the cost model has no prefix cache, and a dry run of a suite that uses the cache must work."""
        return spec

    def virtual_clock(self, spec: EngineSpec) -> bool:
        """True unless the setting ``clock`` is "real"."""
        return dict(spec.settings).get("clock", SETTINGS["clock"]) == "virtual"

    def replica_specs(self, spec: EngineSpec, replicas: int, sharing: str) -> list[EngineSpec]:
        """The same specification, with the number of replicas, for each replica: the cost model includes the sharing."""
        if sharing == "mig":
            raise InvalidInput("the simulated engine shares its device by 'time-slice' or 'mps', not by 'mig'")
        return [spec.with_settings(replicas=replicas, sharing=sharing)] * replicas

    def cost(self, spec: EngineSpec) -> Cost:
        """The cost model of a resolved specification."""
        settings: dict[str, Any] = SETTINGS | dict(spec.settings)
        model = resolve_model(spec.model, "dummy")
        derived = derived_cost(model, spec.dtype, settings)
        given = {"step_s": ("step_ms", 1e-3), "seq_s": ("seq_us", 1e-6)}
        given |= {"context_s": ("context_ns", 1e-9), "prefill_s": ("prefill_us", 1e-6)}
        direct = {name: float(settings[key]) * unit for name, (key, unit) in given.items() if settings[key] is not None}
        alone = settings["sharing"] == "time-slice"
        return replace(
            derived,
            **direct,
            curve=step_curve(settings["curve_ms"]) if settings["curve_ms"] is not None else (),
            host_seq_s=float(settings["host_seq_us"]) * 1e-6,
            host_prompt_s=float(settings["host_prompt_us"]) * 1e-6,
            mixed=bool(settings["mixed"]),
            max_num_seqs=spec.max_num_seqs or 256,
            kv_cache_tokens=spec.kv_cache_tokens or 1 << 19,
            max_batched_tokens=int(settings["max_batched_tokens"]),
            block_size=int(settings["block_size"]),
            slowdown=_from_env("SLMPERF_SIMULATED_SLOWDOWN", settings["slowdown"]),
            slow_min_batch=int(_from_env("SLMPERF_SIMULATED_SLOW_MIN_BATCH", settings["slow_min_batch"])),
            replicas=int(settings["replicas"]),
            interference=1.0 + float(settings["switch_cost"]) if alone else float(settings["interference"]),
        )

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> EngineProcess:
        """Start one engine within some 50 ms: its process imports the standard library only, without site-packages."""
        engine = self._process(spec, log_path)
        engine.start(self._parameters(spec), progress, timeout_s)
        return engine

    def host_program(self, spec: EngineSpec) -> HostProgram | None:
        """Where the setting ``forked`` asks for it: a process of its own starts as quickly."""
        if not dict(spec.settings).get("forked"):
            return None
        return HostProgram(WORKER_FILE, spec.python, PYTHON_FLAGS, spec.env)

    def fork(
        self,
        spec: EngineSpec,
        host: LaunchHost,
        *,
        log_path: Path,
        progress: Progress,
        timeout_s: float = START_TIMEOUT_S,
    ) -> EngineProcess:
        """As ``launch``, from a host."""
        engine = self._process(spec, log_path)
        engine.start(self._parameters(spec), progress, timeout_s, host)
        return engine

    def _process(self, spec: EngineSpec, log_path: Path) -> EngineProcess:
        return EngineProcess(spec, WORKER_FILE, log_path, python=spec.python, python_flags=PYTHON_FLAGS)

    def _parameters(self, spec: EngineSpec) -> dict[str, Any]:
        number = self._launches[spec]
        self._launches[spec] += 1
        params = spec.as_dict() | {"cost": asdict(self.cost(spec)), "launch": number}
        params["settings"] = SETTINGS | dict(spec.settings)
        return params


def derived_cost(model: Model, dtype: str | None, settings: dict[str, Any]) -> Cost:
    """Roofline of the nominal device: each step reads the weights once and the KV cache of every token once, and each
    token costs two operations per parameter."""
    bandwidth, flops = settings["bandwidth_gb_s"] * 1e9, settings["tflops"] * 1e12
    weights = model.weight_bytes(dtype) or 2 * 10**9
    parameters = weights / architecture.dtype_bytes(dtype)
    return Cost(
        step_s=weights / bandwidth,
        host_step_s=settings["overhead_ms"] * 1e-3,
        seq_s=2 * parameters / flops,
        context_s=(model.kv_bytes_per_token(dtype) or 0) / bandwidth,
        prefill_s=2 * parameters / flops,
    )


def step_curve(text: Any) -> tuple[tuple[int, float], ...]:
    """(running sequences, seconds) pairs of ``"1:3.1 16:3.5"``. InvalidInput unless there are two or more, by rising number
    of sequences, and none is negative."""
    try:
        knots = tuple((int(n), float(ms) * 1e-3) for n, ms in (knot.split(":") for knot in str(text).split()))
    except ValueError:
        knots = ()
    rising = all(low < high for (low, _), (high, _) in pairwise(knots))
    if len(knots) < 2 or not rising or not all(0 <= seconds < math.inf for _, seconds in knots):
        raise InvalidInput(
            f"simulated engine: curve_ms must be two or more SEQUENCES:MS pairs by rising sequences, not {text!r}"
        )
    return knots


def _from_env(name: str, default: Any) -> float:
    """A cost from an environment variable: it slows the engine but not its specification, which imitates a regression."""
    text = os.environ.get(name)
    if text is None:
        return float(default)
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"environment variable {name} must be a number, not {text!r}") from None
