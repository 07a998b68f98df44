"""The script that measures a new GPU model, on the simulated engine: what it leaves is what a commit needs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

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


def test_noise_and_replicas_leave_their_results(tmp_path):
    done = run(tmp_path, "--only", "noise-opt-125m", "--only", "replication", "--minutes", "20")
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()
    (noise,) = json.loads((tmp_path / "noise-opt-125m.json").read_text())["results"]
    assert noise["engine"]["model"] == "opt-125m"
    assert len(noise["metrics"]["output_throughput"]["launches"]) == 8
    replicas = json.loads((tmp_path / "replication.json").read_text())["results"]
    assert {entry["engine"]["replicas"] for entry in replicas} >= {1, 2}
    assert "| S8 |" in (tmp_path / "findings.md").read_text()


def test_an_unknown_step_is_refused_with_the_known_ones(tmp_path):
    done = run(tmp_path, "--only", "energy")
    assert done.returncode == 2
    steps = "doctor, meter, launches, noise-opt-125m, noise-opt-1.3b, curve, replication, suite"
    assert f"no step energy; there are {steps}" in done.stderr


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf", "soon"])
def test_a_time_in_which_nothing_can_be_measured_is_refused(tmp_path, minutes):
    done = run(tmp_path / "out", f"--minutes={minutes}")
    assert done.returncode == 2
    assert f"--minutes: invalid minutes value: '{minutes}'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_results_of_an_earlier_run_do_not_pass_for_those_of_a_step_that_failed(tmp_path):
    (tmp_path / "suite.json").write_text("{}")
    (tmp_path / "curve.json").write_text("not read")
    run(tmp_path, "--only", "suite", "--minutes", "2", "--model", "no-such-model")
    assert not (tmp_path / "suite.json").exists()
    assert (tmp_path / "curve.json").exists()  # of a step that was not asked for: one may be run after the other


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "out")
    assert done.returncode == 2
    assert f"folder {tmp_path / 'file' / 'out'}: " in done.stderr


def of(folder: Path) -> list[str]:
    """Command lines of living processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_ends_with_the_script(tmp_path, number):
    """It is in a session of its own: it went on measuring, with the GPU, when the script was gone."""
    folder = tmp_path / "a folder"
    command = [sys.executable, "scripts/new_gpu.py", str(folder), "--engine", "simulated", "--only", "curve"]
    null = subprocess.DEVNULL
    with subprocess.Popen([*command, "--only", "doctor"], cwd=ROOT, stdin=null, stdout=null, stderr=null) as script:
        until = time.monotonic() + 60
        while not any("test_frontier" in words for words in of(folder)) and time.monotonic() < until:
            time.sleep(0.1)
        script.send_signal(number)
        assert script.wait(120) == 1
    assert of(folder) == []
    assert (folder / "summary.txt").read_text().startswith("curve: stopped after ")
    assert not (folder / "doctor.txt").exists()
