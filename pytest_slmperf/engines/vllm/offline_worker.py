"""vLLM inside its process: one in-process ``LLM``, on a CPU or a CUDA device, vLLM 0.11 to today's.

Standard library and vLLM only, Python 3.10.  Signatures and dataclass fields, never the version string, decide what a
version can do.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.vllm_common import faults
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import rows
else:
    import slmperf_worker_tools as tools

    faults = tools.load_own("engines/vllm_common/faults")
    rows = tools.load_own("load/rows")


class StepLog:
    """Replaces vLLM's stat loggers: keeps the scheduler's statistics of each step, and nothing of the prompts.

    A step costs a few list appends, less than with the Prometheus loggers.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.times: list[float] = []
        self.running: list[int] = []
        self.gaps: list[float] = []
        self.kv_peak = 0.0
        self.preemptions = 0
        self.kv_seen = False

    def record(self, scheduler_stats: Any = None, iteration_stats: Any = None, *_: Any, **__: Any) -> None:
        self.times.append(time.monotonic())
        if scheduler_stats is not None:
            self.running.append(scheduler_stats.num_running_reqs)
            usage = getattr(scheduler_stats, "kv_cache_usage", None)
            if usage is not None:
                self.kv_seen = True
                if usage > self.kv_peak:
                    self.kv_peak = usage
        else:
            self.running.append(self.running[-1] if self.running else 0)
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs
            self.gaps += getattr(iteration_stats, "inter_token_latencies_iter", ())

    def log(self, *_: Any, **__: Any) -> None:
        """Called by the engine at intervals; prints nothing, which could disturb a measurement."""

    log_engine_initialized = record_sleep_state = log

    def mean_running(self, start: float, end: float) -> float | None:
        """Mean over time of the number of running requests: each step's count holds for the time since the last step."""
        if not self.times or end <= start:
            return None
        area, before = 0.0, start
        for moment, count in zip(self.times, self.running):  # noqa: B905 (Python 3.10 has strict, both are one length)
            area += (moment - before) * count
            before = moment
        return area / (end - start)


class VllmEngine:
    def __init__(self, spec: dict[str, Any], report: tools.Report) -> None:
        self.spec = spec
        self.report = report
        self.llm: Any = None
        self.steps = StepLog()
        self.total_preemptions = self.total_tokens = self.rounds = 0
        self._synchronize: Any = None
        self._kept: dict[str, Any] | None = None  # request id → statistics, for versions whose outputs lack them

    # life cycle

    def start(self) -> dict[str, Any]:
        began = time.monotonic()
        self.report.progress("importing vLLM")
        vllm = faults.import_vllm()
        tools.load_own("engines/vllm/mig_slice").count_as_its_gpu()
        imported = time.monotonic()
        faults.check_device(
            faults.platform_device(), self.spec
        )  # before vLLM spends minutes on compiling for another device
        self.report.progress("loading the model")
        arguments = self.engine_arguments(vllm)
        try:
            self.llm = vllm.LLM(**arguments)
        except Exception as error:
            raise faults.explain(error, self.spec) from error
        loaded = time.monotonic()
        self._take_over_logging()
        config = self.llm.llm_engine.vllm_config
        faults.check_device(str(config.device_config.device_type), self.spec)
        if str(config.device_config.device_type) == "cuda":
            import torch

            self._synchronize = torch.cuda.synchronize
        self.vocabulary = int(config.model_config.get_vocab_size())
        self.report.progress("first request")
        self.sampling_params = vllm.SamplingParams
        first = self.generate(batch=1, input_len=min(8, self.spec["max_model_len"] - 2), output_len=2)
        if first["requests"][0][1] is None and hasattr(self.llm.llm_engine, "output_processor"):
            self.keep_statistics()
        served = time.monotonic()
        return self._facts(vllm, arguments) | {
            "t_first_served": served,
            "import_s": imported - began,
            "load_s": loaded - imported,
            "first_request_s": served - loaded,
            "tells_request_times": first["requests"][0][1] is not None or self._kept is not None,
        }

    def engine_arguments(self, vllm: Any) -> dict[str, Any]:
        """Arguments of ``vllm.LLM``. An argument that this version lacks is left out, or refused if the user gave it."""
        import dataclasses
        import inspect

        from vllm.engine.arg_utils import EngineArgs

        known = {field.name for field in dataclasses.fields(EngineArgs)}
        known |= set(inspect.signature(vllm.LLM.__init__).parameters) - {"self", "kwargs"}
        spec, settings = self.spec, self.spec["settings"]
        for name in settings:
            if name not in known:
                raise tools.WorkerFault(
                    "input",
                    f"vLLM {vllm.__version__} has no engine argument {name!r}",
                    f"Did you mean {tools.near(name, sorted(known))}?",
                )
        wanted: dict[str, Any] = {
            "seed": 0,
            "skip_tokenizer_init": True,
            "disable_log_stats": False,  # else RequestOutput.metrics is None
            "enable_prefix_caching": False,
            "distributed_executor_backend": "uni",
        }
        if spec["device"] == "cpu":
            wanted["enforce_eager"] = True  # compiling costs minutes on few cores
        wanted |= {
            "model": spec["path"],
            "dtype": spec["dtype"] or "auto",
            "max_model_len": spec["max_model_len"],
            "max_num_seqs": spec["max_num_seqs"],
        }
        if spec["weights"] == "dummy":
            wanted["load_format"] = "dummy"
        if spec.get("weights_folder"):
            wanted |= {"model": spec["weights_folder"], "load_format": "safetensors"}
        budget = self.kv_bytes()
        if budget is not None and spec["device"] == "cpu" and cpu_budget_is_in_the_environment():
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, -(-budget // 2**30)))  # whole GiB, rounded up
            block = tools.load_own("model/architecture").KV_BLOCK["cpu"]
            wanted["block_size"] = block  # and of these GiB only the requested number of blocks
            wanted["num_gpu_blocks_override"] = -(-spec["kv_cache_tokens"] // block)
        elif budget is not None:
            wanted["kv_cache_memory_bytes"] = budget
            os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win over the exact budget
            if spec["device"] != "cpu":
                # With an exact budget this share sizes nothing, but vLLM refuses to start unless the share is free, which
                # it is not for a second replica.
                wanted["gpu_memory_utilization"] = 0.01
        wanted |= settings
        return {name: value for name, value in wanted.items() if name in known}

    def kv_bytes(self) -> int | None:
        tokens = self.spec["kv_cache_tokens"]
        if tokens is None:
            return None
        per_token = self.spec.get("kv_bytes_per_token")
        arch = tools.load_own("model/architecture")
        if per_token is None:  # a hub id, whose config only this process has
            try:
                from transformers import AutoConfig

                config = AutoConfig.from_pretrained(self.spec["path"]).to_dict()
                dtype = arch.kv_dtype(self.spec["settings"].get("kv_cache_dtype"), self.spec["dtype"])
                per_token = arch.kv_bytes_per_token(config, dtype)
            except arch.UnknownFormat as error:
                raise tools.WorkerFault(
                    "input",
                    f"{error}: how many bytes a token takes in it is not known here, so a KV cache of {tokens} tokens "
                    "cannot be sized",
                    "Leave kv_cache_tokens out and give the engine kv_cache_memory_bytes among its settings, or choose "
                    "another kv_cache_dtype.",
                ) from error
            except Exception as error:
                raise faults.explain(error, self.spec) from error
        return int(arch.kv_cache_bytes(tokens, per_token, self.spec["device"]))

    def _take_over_logging(self) -> None:
        engine = self.llm.llm_engine
        if getattr(engine, "logger_manager", None) is not None:
            engine.logger_manager = self.steps

    def keep_statistics(self) -> None:
        """Keep each request's statistics, which vLLM 0.11.0 has but does not put into ``RequestOutput.metrics``."""
        engine = self.llm.llm_engine
        step, states = engine.step, engine.output_processor.request_states
        self._kept = {}

        def step_and_keep() -> Any:
            if not self._kept:  # in the first step of a round all its requests are known and none has ended
                self._kept = {name: state.stats for name, state in states.items()}
            return step()

        engine.step = step_and_keep

    def _facts(self, vllm: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        import torch

        config = self.llm.llm_engine.vllm_config
        cache = config.cache_config
        device = str(config.device_config.device_type)
        facts: dict[str, Any] = {
            "version": vllm.__version__,
            "device": device if device == "cpu" else self.spec["device"],
            "weights": self.spec["weights"],
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cpus": sorted(os.sched_getaffinity(0)),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "enforce_eager": bool(config.model_config.enforce_eager),
            "prefix_caching": bool(cache.enable_prefix_caching),
            "chunked_prefill": getattr(config.scheduler_config, "enable_chunked_prefill", None),
            "python": ".".join(map(str, sys.version_info[:3])),
        }
        if self.spec.get("weights_folder"):
            facts["dummy_weights"] = "from a file"
        blocks, size = getattr(cache, "num_gpu_blocks", None), getattr(cache, "block_size", None)
        if blocks and size:
            facts["kv_cache_tokens"] = int(blocks) * int(size)
            facts["kv_block_size"] = int(size)
        if device == "cuda":
            facts["device_name"] = torch.cuda.get_device_name()
            facts["cuda"] = torch.version.cuda
        facts["arguments"] = {
            name: value for name, value in arguments.items() if isinstance(value, str | int | float | bool | None)
        }
        return facts

    def stop(self) -> None:
        """Do nothing: the process ends right after, which frees memory more reliably than vLLM's own shutdown."""

    # the work

    def generate(
        self,
        batch: int,
        input_len: int,
        output_len: int,
        seed: int = 0,
        ignore_eos: bool = True,
        start_at: float | None = None,
    ) -> dict[str, Any]:
        """One offline round through ``LLM.generate``, so that the harness adds nothing to the cost of a plain loop."""
        tools.refuse_longer_than(self.spec["max_model_len"], input_len, output_len)
        prompts = [{"prompt_token_ids": ids} for ids in tools.draw_prompts(batch, input_len, self.vocabulary, seed)]
        sampling = self.sampling_params(
            max_tokens=output_len, ignore_eos=ignore_eos, detokenize=False, temperature=0.0, seed=None
        )
        steps = self.steps
        steps.clear()
        if self._kept is not None:
            self._kept = {}
        if start_at is not None:
            time.sleep(max(0.0, start_at - time.monotonic()))
        usage = tools.Usage()
        start = time.monotonic()
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        if self._synchronize is not None:
            self._synchronize()
        end = time.monotonic()
        evidence = usage.delta() | {"steps": len(steps.times)}
        cached = [count for output in outputs if (count := getattr(output, "num_cached_tokens", None)) is not None]
        if cached:
            evidence["cached_tokens"] = sum(cached)  # prompt tokens that came from the prefix cache
        kept = self._kept or {}
        requests = [timing(output, start, kept.get(str(output.request_id))) for output in outputs]
        made = sum(request.n_out for request in requests)
        self.rounds += 1
        self.total_tokens += made
        self.total_preemptions += steps.preemptions
        return {
            "t_start": start,
            "t_end": end,
            "n_in": sum(request.n_in for request in requests),
            "n_out": made,
            "completed": len(requests),
            "requests": requests,
            "itl_s": steps.gaps,
            "preemptions": steps.preemptions if steps.times else None,
            "kv_cache_peak": 100.0 * steps.kv_peak if steps.kv_seen else None,
            "mean_running": steps.mean_running(start, end),
            "evidence": evidence,
        }

    def play(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Play an open or closed loop of requests, step by step (``engines/worker/player.py``)."""
        report: dict[str, Any] = tools.load_own("engines/vllm/serving").play_steps(self, plan).to_wire()
        return report

    def complete(self, prompt: str, max_tokens: int = 16) -> dict[str, Any]:
        """Greedy text completion, to check that real weights answer sensibly. Needs skip_tokenizer_init=False."""
        if self.spec["settings"].get("skip_tokenizer_init", True):
            raise tools.WorkerFault(
                "input", "the engine has no tokenizer", "Start it with the setting skip_tokenizer_init=False."
            )
        sampling = self.sampling_params(max_tokens=max_tokens, temperature=0.0)
        output = self.llm.generate([prompt], sampling, use_tqdm=False)[0]
        return {"text": output.outputs[0].text, "token_ids": list(output.outputs[0].token_ids)}

    def reset_caches(self) -> dict[str, Any]:
        self.llm.reset_prefix_cache()
        return {}

    def counters(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "output_tokens": self.total_tokens, "preemptions": self.total_preemptions}


def timing(output: Any, sent: float, kept: Any = None) -> rows.RequestTiming:
    """The times of one request of an offline round, all of whose requests are sent at its start.

    The engine core's time stamps are monotonic; ``arrival_time`` is wall clock and therefore not used.
    """
    metrics = getattr(output, "metrics", None) or kept
    first = getattr(metrics, "first_token_ts", 0.0) or None
    last = getattr(metrics, "last_token_ts", 0.0) or None
    n_out = sum(len(part.token_ids) for part in output.outputs)
    return rows.RequestTiming(sent, first, last, len(output.prompt_token_ids or ()), n_out)


def cpu_budget_is_in_the_environment() -> bool:
    """Whether this version's CPU worker takes its KV budget from VLLM_CPU_KVCACHE_SPACE only (0.11 to 0.17 at least) and
    ignores the engine argument ``kv_cache_memory_bytes``, which it has too."""
    import dataclasses

    from vllm.config import CacheConfig

    return "cpu_kvcache_space_bytes" in {field.name for field in dataclasses.fields(CacheConfig)}


def prepare() -> None:
    """Import all that a launch needs, for a launch host. What a version does not have is left to the launch."""
    import importlib

    faults.import_vllm()
    device = faults.platform_device()
    for name in (
        "vllm.v1.engine.llm_engine",
        "vllm.v1.engine.core",
        "vllm.v1.executor.uniproc_executor",
        "vllm.v1.worker.cpu_worker" if device == "cpu" else "vllm.v1.worker.gpu_worker",
        "vllm.model_executor.model_loader",
        "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def create(spec: dict[str, Any], report: tools.Report) -> VllmEngine:
    return VllmEngine(spec, report)
