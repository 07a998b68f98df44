"""``slmperf energy`` and the meters' part of ``doctor`` with two fake GPUs on the real clock.

Signals, and the library as the loader finds it, take a process of their own; the rest runs in this one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_nvml import FakeGpu, FakeNvml

from pytest_slmperf.cli import main as cli
from pytest_slmperf.cli.commands import doctor

KEPT = "slmperf/energy-meters.json"
CARDS = (FakeGpu([(0, 100.0)], phase=0.03), FakeGpu([(0, 50.0)], uuid="GPU-bb", tick=0.02))


def process(folder: Path, env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """``slmperf WORDS`` in a process of its own; ticks are kept in ``folder``/state."""
    env = os.environ | {"XDG_STATE_HOME": str(folder / "state")} | env
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "pytest_slmperf.cli", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, text=True, cwd=folder, stdout=pipe, stderr=pipe)


def ended(command: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    with command:
        out, err = command.communicate()
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first command keeps: the ticks of the two GPUs."""
    folder = tmp_path_factory.mktemp("first")
    ended(process(folder, FakeNvml(folder, list(CARDS)).env, "energy", "--", "true"))
    return folder / "state" / KEPT


@pytest.fixture
def start(tmp_path: Path, kept: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command line in a process of its own; the ticks are known."""
    (tmp_path / "state" / KEPT).parent.mkdir(parents=True)
    shutil.copy(kept, tmp_path / "state" / KEPT)
    fake = FakeNvml(tmp_path, list(CARDS))
    return lambda *words, env=fake.env: process(tmp_path, env, *words)


@pytest.fixture
def command(tmp_path: Path, kept: Path, gpus, monkeypatch, capfd) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in this process; the ticks are known."""
    gpus(*CARDS, virtual=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(kept.parents[1]))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = cli.main(words)
        sys.stdout.flush()
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


def test_json_holds_joules_bound_and_source_per_device(start):
    done = ended(start("energy", "--json", "--", "sh", "-c", "sleep 0.53; echo made; exit 5"))
    found = json.loads(done.stdout)
    assert (done.returncode, found["returncode"]) == (5, 5)
    assert "made" in done.stderr
    one, two = found["devices"]
    assert abs(one["joules"] - 100 * one["window_s"]) <= one["bound_j"]
    assert abs(two["joules"] - 50 * two["window_s"]) <= two["bound_j"]
    assert (one["source"], two["uuid"]) == ("nvml-counter", "GPU-bb")
    assert one["window_s"] >= 0.53
    for device, watts in ((one, 100), (two, 50)):
        ticks = device["between_ticks"]
        assert device["window_s"] <= ticks["window_s"]
        assert abs(ticks["joules"] - watts * ticks["window_s"]) <= ticks["bound_j"]


def test_words_with_cost_and_emissions(command):
    done = command("energy", "--price-per-kwh", "0.3", "--carbon-g-per-kwh", "400", "--", "sleep", "0.5")
    assert done.returncode == 0, done.stderr
    assert "± " in done.stdout
    assert re.search(r"and with the 0\.\d\d s around the command, from tick to tick: \d+\.\d ± ", done.stdout)
    assert "at 0.3 a kWh" in done.stdout
    assert "gCO2 at 400 g a kWh" in done.stdout
    told = json.loads(command("energy", "--json", "--price-per-kwh", "0.3", "--", "true").stdout)
    assert told["cost"]["cost"] == pytest.approx(sum(d["joules"] for d in told["devices"]) / 3.6e6 * 0.3)
    assert "carbon_g" not in told["cost"]


def until(there, what: str, seconds: float = 60.0):
    """Wait for a file to be there."""
    deadline = time.monotonic() + seconds
    while not there.exists():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_on_to_the_command_and_the_reading_is_still_said(start, tmp_path, number):
    program = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(30)"
    with start("energy", "--json", "--", sys.executable, "-c", program) as process:
        until(tmp_path / "pid", "the command")
        time.sleep(0.3)
        process.send_signal(number)
        told, said = process.communicate()
    assert process.returncode == 128 + number, said
    found = json.loads(told)
    assert found["returncode"] == 128 + number
    assert found["devices"][0]["joules"] > 0
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


def test_the_command_may_end_as_it_likes_when_told_to(start, tmp_path):
    script = "trap 'echo tidy; exit 3' TERM; echo > ready; while :; do sleep 0.05; done"
    with start("energy", "--", "sh", "-c", script) as process:
        until(tmp_path / "ready", "the command")
        process.terminate()
        told, _ = process.communicate()
    assert process.returncode == 3
    assert "tidy" in told


def test_the_ticks_are_kept_for_the_next_command(command, kept, tmp_path):
    first = json.loads(kept.read_text())
    assert first["GPU-bb"]["tick_s"] == pytest.approx(0.02, rel=0.1)
    command("energy", "--", "true")
    assert json.loads(kept.read_text()) == first  # found there, and not measured again
    (tmp_path / ".slmperf").mkdir()
    command("energy", "--", "true")
    assert set(json.loads((tmp_path / ".slmperf/energy-meters.json").read_text())) == set(first)


def test_a_command_that_does_not_exist(command):
    done = command("energy", "--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert "no-such-command-anywhere" in done.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [(["--"], "name the command after --"), (["--meter", "tesla", "--", "true"], "no such meter")],
)
def test_wrong_usage(command, args, told):
    done = command("energy", *args)
    assert done.returncode == 4
    assert told in done.stderr


def test_without_a_meter_the_command_runs_and_the_reason_is_said(start):
    done = ended(start("energy", "--meter", "nvml", "--json", "--", "true", env={"SLMPERF_FAKE_NVML": ""}))
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["devices"] == []
    assert "nvml: " in found["reason"]


def test_doctor_shows_tick_bounds_and_power_per_device(command, monkeypatch):
    monkeypatch.setattr(doctor, "NOISE_S", 0.05)
    done = command("doctor")
    assert "nvml-counter, gpu, tick" in done.stdout
    assert "bound of any window, at worst: " in done.stdout
    assert "bound of a command, begun at a tick, at worst: " in done.stdout
    assert "bound of rounds, matched to ticks: " in done.stdout
    assert re.search(r", idle (9[5-9]|10[0-5])\.\d W", done.stdout)
    found = json.loads(command("doctor", "--json").stdout)
    nvml = next(meter for meter in found["meters"] if meter["name"] == "nvml")
    one, two = nvml["devices"]
    assert one["tick_s"] == pytest.approx(0.1, rel=0.1)
    assert two["idle_w"] == pytest.approx(50, rel=0.1)
    assert two["bound_percent"]["10 s"] < two["bound_percent"]["1 s"]
    assert one["matched_percent"]["1 s"] < one["command_percent"]["1 s"] < one["bound_percent"]["1 s"]


def test_a_window_shorter_than_a_tick_is_no_figure(command):
    """It could have been anything between nothing and a most: said, in words and in JSON."""
    done = command("energy", "--meter", "nvml", "--", "true")
    assert "not more than" in done.stdout
    assert "too short for this source (tick " in done.stdout
    one = json.loads(command("energy", "--json", "--", "true").stdout)["devices"][0]
    assert one["bound_j"] >= one["joules"]
    assert any("100 % or more" in text for text in one["warnings"])
