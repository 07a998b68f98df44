"""A sweep of the real engine: slowed threefold at large batch only, the frontier's verdict names the large batch.

Whether the machine is quiet is not the question here, so rounds that a neighbour disturbed count too.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")

CONFTEST = """
from pytest_slmperf.measuring import launch
launch.judge_rounds = lambda evidence, *rest: [None] * len(evidence)
"""
SUITE = """
def test_frontier(slmperf):
    sweep = slmperf.sweep(batch=[1, 16], input_len=8, output_len=8, max_num_seqs=16, kv_cache_tokens=2048)
    assert sweep.at(16, "output_throughput") > sweep.at(1, "output_throughput")
    assert sweep.keys == [1, 16]
"""
ARGS = (
    "--slmperf",
    "--slmperf-engine",
    "vllm",
    "--slmperf-rounds",
    "2",
    "--slmperf-launches",
    "2",
    "--slmperf-max-time",
    "900",
)


def test_slow_at_large_batch_is_found_on_the_real_engine(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))
    monkeypatch.setenv("SLOW_ENGINE_FRACTION", "2.0")
    monkeypatch.setenv("SLOW_ENGINE_MIN_BATCH", "8")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_perf=SUITE)
    first = pytester.runpytest_subprocess(*ARGS, "--slmperf-max-launches", "2", "--slmperf-save", "main")
    assert first.ret == 0
    again = pytester.runpytest_subprocess(*ARGS, "--slmperf-max-launches", "2")
    (result,) = json.loads(Path(pytester.path, ".slmperf/results.json").read_text())["results"]
    assert again.ret == 0, again.stdout.str()  # identical code: no alarm
    assert not result["charts"]["sweep"]["lost"]
    slow = pytester.runpytest_subprocess("-p", "slow_engine", *ARGS, "--slmperf-max-launches", "6")
    assert slow.ret == 1
    (result,) = json.loads(Path(pytester.path, ".slmperf/results.json").read_text())["results"]
    (verdict,) = result["verdicts"]
    assert verdict["verdict"] == "regressed"
    assert "16" in verdict["detail"]["lost"]
    slow.stdout.fnmatch_lines(["*the frontier moved back at batch *16*"])
