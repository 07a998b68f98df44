"""What ``slmperf energy`` and ``slmperf doctor`` say where something is wrong: the thing itself, and the mend."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest
from support.fake_nvml import FakeGpu

from pytest_slmperf.cli import main as cli
from pytest_slmperf.cli.commands.energy import doctor_lines, doctor_rows
from pytest_slmperf.energy.meters.nvml import NvmlMeter
from pytest_slmperf.energy.registry import choose


@pytest.fixture
def command(gpus, monkeypatch, tmp_path, capfd):
    """Run ``slmperf energy`` with one fake GPU on the real clock."""
    gpus(FakeGpu(), virtual=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # the tick is measured once
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = cli.main(["energy", *words])
        sys.stdout.flush()
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


@pytest.mark.parametrize("library", [b"", b"no library at all"])
def test_a_library_that_is_none_is_not_said_to_be_absent(tmp_path, library):
    (tmp_path / "libnvidia-ml.so.1").write_bytes(library)
    words = [sys.executable, "-m", "pytest_slmperf.cli", "energy", "--meter", "nvml", "--", "true"]
    env = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    said = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path).stdout
    assert "the NVML library does not load: " in said
    assert "reinstall the NVIDIA driver" in said
    assert "no NVML library (" not in said


def test_a_library_of_something_else_is_no_old_driver(gpus, monkeypatch):
    import pynvml

    gpus()
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(None))
    reason = NvmlMeter(visible=None).reason
    assert "has no nvmlInit, so it is no NVML library" in reason
    assert "upgrade" not in reason


def test_a_command_that_never_started_has_no_joules(command):
    done = command("--json", "--meter", "nvml", "--price-per-kwh", "1", "--", "no-such-command-anywhere")
    found = json.loads(done.stdout)
    assert done.returncode == found["returncode"] == 127
    assert (found["devices"], found["reason"]) == ([], "the command was not started")
    assert found["cost"] == {"price_per_kwh": 1.0}
    ran = command("--json", "--meter", "nvml", "--", "sh", "-c", "sleep 0.2; exit 127")
    assert json.loads(ran.stdout)["devices"][0]["joules"] > 0
    assert ran.returncode == 127


def test_the_command_is_named_once_and_its_option_by_its_own_name(command):
    assert command("--").stderr.startswith("slmperf energy: name the command after --")
    assert "switched off by --meter none" in command("--meter", "none", "--", "true").stdout
    assert "slmperf energy: --meter tesla: no such meter" in command("--meter", "tesla", "--", "true").stderr
    assert choose([], "none").reason == "switched off by --slmperf-meter none"


def test_a_tick_of_a_second_has_no_exponent():
    assert "tick 1000 ms" in doctor_lines([{"name": "GPU", "source": "nvml-counter", "scope": "gpu", "tick_s": 1.0}])[0]
    assert "tick 50 ms" in doctor_lines([{"name": "GPU", "tick_s": 0.0500123}])[0]


def test_a_gpu_that_tells_nothing_takes_no_line_from_the_others(gpus):
    lost = FakeGpu(lines=["fail nvmlDeviceGetHandleByIndex_v2 15 after 0"])
    gpus(FakeGpu(tick=0.02), lost, FakeGpu(tick=0.02), virtual=False)
    meter = NvmlMeter(visible=None)
    rows = doctor_rows(meter)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert ["matched_percent" in row for row in rows] == [True, False, True]
    assert "GPU 1: opening it: the GPU is lost" in "\n".join(doctor_lines(rows))
