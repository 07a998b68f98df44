"""The script that measures a new GPU model, on the simulated engine: what it leaves is what a commit needs."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/new_gpu.py", str(folder), "--engine", "simulated", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_a_step_leaves_results_findings_and_a_baseline_to_commit(tmp_path):
    done = run(tmp_path, "--only", "suite", "--minutes", "2")
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "summary.txt").read_text().startswith("suite: exit 0 after ")
    results = json.loads((tmp_path / "suite.json").read_text())
    assert {entry["engine"]["name"] for entry in results["results"]} == {"simulated"}
    assert "| S8 |" in (tmp_path / "findings.md").read_text()
    with tarfile.open(tmp_path / "baselines.tar.gz") as archive:
        stored = [name for name in archive.getnames() if name.endswith(".json")]
    assert len(stored) >= len(results["results"])
    assert all(name.startswith("baselines/") for name in stored)


def test_a_step_that_fails_is_named_and_keeps_no_other_from_running(tmp_path):
    done = run(tmp_path, "--only", "suite", "--only", "doctor", "--minutes", "4", "--model", "no-such-model")
    assert done.returncode == 1
    suite, doctor = (tmp_path / "summary.txt").read_text().splitlines()
    assert suite.startswith("suite: exit 4 ")
    assert doctor.startswith("doctor: exit ")
    assert "engines" in (tmp_path / "doctor.txt").read_text()
    assert "no-such-model" in (tmp_path / "log.txt").read_text()


def test_an_unknown_step_is_refused_with_the_known_ones(tmp_path):
    done = run(tmp_path, "--only", "energy")
    assert done.returncode == 2
    assert "no step energy; there are doctor, meter, curve, suite" in done.stderr
