"""The main job with the real vLLM on the CPU under a fake GPU: joules, power trace and idle power of real rounds."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.fake_nvml import FakeGpu, FakeNvml

from pytest_slmperf.engines.presets import presets

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")

SUITE = """
def test_batch(slmperf):
    slmperf.offline(batch=4, input_len=16, output_len=16)
"""
CALM = """
from pytest_slmperf.environment import evidence

evidence.delta = lambda before, after: {}
"""


def test_joules_of_a_real_engine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(pytester.path, [FakeGpu([(0.0, 200.0)], tick=0.02, phase=0.003)])
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    model = pytester.mkdir("opt")
    (model / "config.json").write_text(json.dumps(dict(presets()["opt-125m"].config) | {"num_hidden_layers": 1}))
    pytester.makeconftest(CALM)
    pytester.makepyfile(test_perf=SUITE)
    engine = ["--slmperf-engine", "vllm", "--slmperf-model", str(model), "--slmperf-weights", "dummy"]
    effort = [
        "--slmperf-device",
        "cpu",
        "--slmperf-launches",
        "1",
        "--slmperf-rounds",
        "3",
        "--slmperf-energy-bound",
        "0.05",
    ]
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--slmperf", *engine, *effort)
    (result,) = json.loads(Path(pytester.path, ".slmperf/results.json").read_text())["results"]
    energy, metrics = result["energy"], result["metrics"]
    assert result["engine"]["name"] == "vllm", done.outlines
    assert energy["source"] == "nvml-counter", energy
    assert abs(energy["joules"] - 200 * energy["window_s"]) <= energy["bound_j"]
    assert energy["idle_w_before"] == pytest.approx(200, rel=0.03)
    assert energy["idle_w_bare"] == pytest.approx(200, rel=0.03)
    assert len(energy["trace"]["t_s"]) > 10
    assert metrics["mean_power"]["value"] == pytest.approx(200, rel=0.05)
    assert metrics["energy_per_output_token"]["value"] > 0
    done.stdout.fnmatch_lines(["*energy_per_outpu* J/tok*"])
