import json

import pytest

from pytest_slmperf.cli import output
from pytest_slmperf.cli.commands import doctor
from pytest_slmperf.engines.registry import builtin_adapters


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "NOISE_S", 0.05)


@pytest.mark.usefixtures("quick")
def test_says_what_is_there_and_what_is_missing(command):
    found = json.loads(command("doctor", "--json").out)
    engines = {one["name"]: one for one in found["engines"]}
    assert engines["simulated"]["usable"]
    assert all(one["usable"] == (one["missing"] is None) for one in engines.values())
    assert all(one["available"] == (one["reason"] is None) for one in found["meters"])
    assert found["clock"]["tick_s"] > 0
    assert found["noise"]["pieces"] >= 1
    assert found["noise"]["cv"] >= 0
    assert found["machine"]["fingerprint"]
    assert found["baselines"]["baselines"] == 0
    for row in found["missing"]:
        assert row["mend"].startswith("pip install 'pytest-slmperf[")


@pytest.mark.usefixtures("quick")
def test_the_text_names_every_part(command):
    out = command("doctor").out
    for head in ("machine", "engines", "energy", "clock", "noise", "baselines"):
        assert f"\n{head} " in f"\n{out}"
    assert "simulated: figures say nothing about hardware" in out


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda:1", "ready on cuda:1 (NVIDIA L4)"),
        ("cuda:4", "ready on cuda:4"),
        ("cpu", "ready on cpu"),
        (None, "ready"),
    ],
)
def test_an_engine_that_is_ready_names_its_device(device, told):
    gpus = [{"name": "NVIDIA H100"}, {"name": "NVIDIA L4"}]
    assert doctor.ready_text({"simulated": False, "device": device}, gpus) == told


@pytest.mark.usefixtures("quick")
def test_the_device_is_the_one_that_the_adapter_would_choose(command, monkeypatch):
    vllm = next(one for one in builtin_adapters() if one.name == "vllm")
    monkeypatch.setattr(vllm, "missing", lambda python=None: None)
    monkeypatch.setattr(vllm, "default_device", lambda python=None: "cuda:7")
    monkeypatch.setattr(output, "hooked", lambda name: [vllm] if name == "pytest_slmperf_engines" else [])
    assert "vllm: ready on cuda:7\n" in command("doctor").out


@pytest.mark.usefixtures("quick")
def test_without_a_real_engine_the_exit_code_is_2(command, monkeypatch):
    simulated = [one for one in builtin_adapters() if one.traits.simulated]
    monkeypatch.setattr(output, "hooked", lambda name: simulated if name == "pytest_slmperf_engines" else [])
    assert command("doctor").code == 2


@pytest.mark.usefixtures("quick")
def test_unreadable_baselines_are_said_and_not_raised(command):
    run = command("doctor", "--baselines", "mysql://x")
    assert run.code in (0, 2)
    assert "mysql:// is not known" in run.out


@pytest.mark.parametrize(("text", "steal"), [("cpu  1 2 3 4 5 6 7 800 0 0\n", 8.0), ("cpu 1 2\n", None), ("", None)])
def test_steal_is_read_or_none_never_0(tmp_path, text, steal, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    (tmp_path / "stat").write_text(text)
    assert doctor.read_steal_s(tmp_path / "stat") == steal


def test_pressure_is_read_or_none(tmp_path):
    (tmp_path / "cpu").write_text("some avg10=12.50 avg60=1.00 avg300=0.00 total=1\n")
    assert doctor.read_pressure(tmp_path / "cpu") == 12.5
    assert doctor.read_pressure(tmp_path / "absent") is None
