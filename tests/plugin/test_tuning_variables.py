"""Variables that tune an engine are part of its record and of what changed, secrets left out."""

from __future__ import annotations

import json
from pathlib import Path

ONE = "def test_one(slmperf):\n    slmperf.offline(batch=2, input_len=16, output_len=16)\n"
SECRET = "hf_abcdefghijklmnopqrstuvwxyz"


def environment_rows(results):
    (result,) = results()["results"]
    return {
        row["what"]: (row["baseline"], row["candidate"])
        for row in result["differences"]
        if "environment" in row["what"]
    }


def test_a_variable_that_changed_is_named_beside_the_regression(perf, pytester, results, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("VLLM_EXTRA_HEADERS", f"Bearer {SECRET}")
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert perf("--slmperf-approve", suite=ONE).ret == 0
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("TORCHINDUCTOR_MAX_AUTOTUNE", "1")
    monkeypatch.delenv("NCCL_P2P_DISABLE")
    run = perf("--slmperf-set", "slowdown=0.5", suite=ONE)
    run.assert_outcomes(failed=1)
    assert environment_rows(results) == {
        "environment OMP_WAIT_POLICY": ("active", "passive"),
        "environment TORCHINDUCTOR_MAX_AUTOTUNE": (None, "1"),
        "environment NCCL_P2P_DISABLE": ("1", None),
    }
    run.stdout.fnmatch_lines(["*environment OMP_WAIT_POLICY*active*passive*"])
    (result,) = results()["results"]
    assert result["engine"]["environment"]["OMP_WAIT_POLICY"] == "passive"
    assert "OMP_WAIT_POLICY" in Path(pytester.path, ".slmperf/report.html").read_text()
    written = [path for path in Path(pytester.path).rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_a_baseline_that_does_not_tell_its_variables_is_compared_without_them(perf, pytester, results, monkeypatch):
    assert perf("--slmperf-approve", suite=ONE).ret == 0
    (path,) = Path(pytester.path).glob("baselines/*/main/*/*.json")
    stored = json.loads(path.read_text())
    del stored["engine"]["environment"]
    path.write_text(json.dumps(stored))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert perf(suite=ONE).ret == 0
    assert environment_rows(results) == {}
    (result,) = results()["results"]
    assert {verdict["verdict"] for verdict in result["verdicts"] if verdict["metric"] == "output_throughput"} == {
        "same"
    }
