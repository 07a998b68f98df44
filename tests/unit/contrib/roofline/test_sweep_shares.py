import re
from typing import Any

import pytest

from pytest_slmperf.contrib.roofline import sweep as sweep_roofline
from pytest_slmperf.contrib.roofline.measure import Device, published
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.sweep import Sweep

RECORDS = [
    {"key": 1, "settings": {"batch": 1}, "output_throughput": 250.0},
    {"key": 64, "settings": {"batch": 64}, "output_throughput": 5000.0},
    {"key": 512, "failure": "no memory"},
]
SWEEP = Sweep.of({"batch": [1, 64, 512], "input_len": 111, "output_len": 292})
GPU = EngineSpec("vllm", "opt-1.3b", dtype="float16", device="cuda:0")


def roofline(*arguments: Any, **options: Any) -> Any:
    return sweep_roofline.roofline(*arguments, **options)


def test_gpu_by_its_name(monkeypatch):
    monkeypatch.setattr(sweep_roofline, "describe_gpus", lambda: ([{"name": "NVIDIA H100 80GB HBM3"}], "570"))
    found = roofline(SWEEP, GPU, RECORDS, may_measure=False)
    assert found.device == "NVIDIA H100 80GB HBM3"
    assert [row.key for row in found.points] == [1, 64]
    assert all(0 < row.share < 1 for row in found.points)


def test_cpu_is_measured_only_where_that_is_wanted(monkeypatch):
    calls = []

    def measure(dtype, cpus, python=None):
        calls.append(dtype)
        return Device("CPU, 1 core", 20e9, {dtype: 4e11}, None, "measured")

    monkeypatch.setattr(sweep_roofline, "measured_cpu", measure)
    sweep_roofline.cpu_peaks.cache_clear()
    spec = EngineSpec("vllm", "opt-125m", dtype="bfloat16", device="cpu", cpus=(1,))
    assert roofline(SWEEP, spec, RECORDS, may_measure=False) is None
    for _ in range(2):
        assert roofline(SWEEP, spec, RECORDS, may_measure=True).device == "CPU, 1 core"
    assert calls == ["bfloat16"]
    sweep_roofline.cpu_peaks.cache_clear()


@pytest.mark.parametrize(
    ("sweep", "spec"),
    [
        ({"output_len": [8, 16], "batch": 8, "input_len": 8}, GPU),
        ({"max_num_seqs": [8, 16], "requests": 64, "input_len": 8, "output_len": 8}, GPU),
        ({"batch": [8, 16], "max_num_seqs": 8, "input_len": 8, "output_len": 8}, GPU),
        ({"batch": [1, 2], "input_len": 8, "output_len": 8}, EngineSpec("simulated", "opt-1.3b", device="simulated")),
    ],
)
def test_no_chart_where_the_limit_is_not_known(sweep, spec, monkeypatch):
    monkeypatch.setattr(sweep_roofline, "describe_gpus", lambda: ([{"name": published("NVIDIA L4").name}], None))
    assert roofline(Sweep.of(sweep), spec, RECORDS, may_measure=True) is None


def test_a_kv_cache_in_fp8_moves_half_the_bytes(monkeypatch):
    monkeypatch.setattr(sweep_roofline, "describe_gpus", lambda: ([{"name": "NVIDIA H100 80GB HBM3"}], "570"))
    wide = roofline(SWEEP, GPU, RECORDS, may_measure=False)
    narrow = roofline(SWEEP, GPU.with_settings(kv_cache_dtype="fp8"), RECORDS, may_measure=False)
    assert wide.kv_bytes_per_token == 2 * narrow.kv_bytes_per_token
    assert narrow.weights_mb == wide.weights_mb
    assert narrow.points[1].share < wide.points[1].share


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quantization": "fp8"}, r"no roofline: .* quantized weights \(fp8\) is not known here"),
        ({"kv_cache_dtype": "turboquant_k8v4"}, "no roofline: .* KV cache in turboquant_k8v4 takes is not known here"),
    ],
)
def test_what_is_not_known_is_said(settings, told, monkeypatch):
    monkeypatch.setattr(sweep_roofline, "describe_gpus", lambda: ([{"name": "NVIDIA H100 80GB HBM3"}], "570"))
    found = roofline(SWEEP, GPU.with_settings(**settings), RECORDS, may_measure=False)
    assert re.fullmatch(told, found)
