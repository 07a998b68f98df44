"""Which of an engine's environment variables a result keeps."""

from __future__ import annotations

import pytest

from pytest_slmperf.engines.tuning import LONGEST, MOST, variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_ATTENTION_BACKEND", "FLASHINFER"),
        ("VLLM_MAX_NUM_BATCHED_TOKENS", "2048"),
        ("TORCH_BLAS_PREFER_CUBLASLT", "1"),
        ("TORCHINDUCTOR_MAX_AUTOTUNE", "1"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:128"),
        ("CUDA_LAUNCH_BLOCKING", "1"),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
        ("NVIDIA_TF32_OVERRIDE", "0"),
        ("NCCL_P2P_DISABLE", "1"),
        ("OMP_NUM_THREADS", "2"),
        ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
        ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("TRITON_INTERPRET", "0"),
        ("HF_HUB_OFFLINE", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MALLOC_ARENA_MAX", "1"),
    ],
)
def test_what_tunes_an_engine_is_kept_as_it_is(name, value):
    assert variables({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_API_KEY", "abc"),
        ("HF_TOKEN", "anything"),
        ("HF_HUB_TOKEN_READ", "anything"),
        ("CUDA_LICENSE_SECRET", "x"),
        ("TORCH_HUB_PASSWORD", "x"),
        ("VLLM_REGISTRY_AUTH", "x"),
        ("VLLM_EXTRA", "hf_abcdefghijklmnopqrstuvwxyz"),
        ("VLLM_EXTRA", "--key=sk-abcdefghijklmnop1234"),
        ("VLLM_EXTRA", "ghp_0123456789abcdefghij"),
        ("VLLM_EXTRA", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"),
        ("VLLM_EXTRA", "postgresql://me:word@host/db"),
        ("VLLM_EXTRA", "Bearer x"),
        ("VLLM_EXTRA", "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MEFCQ0RFRkc="),
        ("AWS_REGION", "eu"),
        ("HOME", "/home/me"),
        ("MY_OMP_NUM_THREADS", "2"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1234"),
        ("HF_HOME", "/home/me/.cache"),
        ("TRITON_CACHE_DIR", "/tmp/x"),
        ("VLLM_RPC_BASE_PATH", "/tmp/x"),
        ("VLLM_PORT", "8000"),
        ("VLLM_LOGGING_LEVEL", "DEBUG"),
        ("VLLM_NO_USAGE_STATS", "1"),
    ],
)
def test_secrets_places_and_the_rest_are_left_out(name, value):
    assert variables({name: value}) == {}


def test_a_file_is_kept_by_its_name():
    environ = {
        "LD_PRELOAD": "/usr/lib/x86_64/libtcmalloc.so.4:/home/me/lib/libiomp5.so",
        "VLLM_TUNED": "~/x/tuned.json",
    }
    assert variables(environ) == {"LD_PRELOAD": "libtcmalloc.so.4:libiomp5.so", "VLLM_TUNED": "tuned.json"}


def test_what_is_kept_is_bounded():
    many = {f"VLLM_X{number:04d}": "y " * 2000 for number in range(500)}
    kept = variables(many)
    assert len(kept) == MOST
    assert {len(value) for value in kept.values()} == {LONGEST}
